//! What both sides of Berth must agree on: identifiers, the job specification and its validation,
//! the messages between scheduler and worker, the broker's topology, and the records of telemetry.
//!
//! Nothing here decides anything about scheduling; that is `berth-scheduler`'s core.

pub mod array;
pub mod broker;
pub mod command;
pub mod database;
pub mod device;
pub mod id;
pub mod inventory;
pub mod job;
pub mod logging;
pub mod message;
pub mod pointer;
pub mod problem;
pub mod queue;
pub mod spec;
pub mod telemetry;
pub mod time;
pub mod validate;
