//! The fault simulator: the real core and the real worker's decisions in a simulated world, whose
//! broker, database, Docker, network and processes lose, repeat, delay, reorder, crash, freeze and
//! come back. Virtual time; one seed decides everything, so a seed that fails can be played again.
//!
//! An auditor that knows only the messages and the containers checks the promises (`auditor.rs`).

mod auditor;
mod broker;
mod chance;
mod clients;
mod database;
mod docker;
mod exec;
mod faults;
mod guard;
mod host;
mod inbox;
mod message;
mod scheduler;
mod seed;
mod watch;
mod weather;
mod worker;
mod world;

pub use auditor::{Counts, Tally};
pub use seed::{Report, Trace, run};
