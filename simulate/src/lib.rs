//! `berth simulate`: what a cluster would have done with a trace, by Berth's policy.
//!
//! [`trace`] and [`cluster`] read what there is, [`run`](mod@run) plays it against [`berth_policy`], [`audit`] counts
//! along on its own, [`metrics`] says what came out, [`mod@picture`] and [`table`] write it down. [`generate`] makes up work,
//! [`fill`] fills a cluster until nothing more fits, [`snapshot`] goes on from a present that somebody tells. No broker, no
//! database, no clock: the same input gives the same output.

pub mod audit;
pub mod chance;
pub mod cluster;
pub mod fill;
pub mod generate;
pub mod metrics;
pub mod picture;
pub mod run;
pub mod shape;
pub mod snapshot;
pub mod source;
pub mod table;
pub mod trace;

/// What a second is of the policy's times.
pub const SECOND: berth_policy::Time = 1_000;

/// Seconds, for people.
#[must_use]
pub fn seconds(time: berth_policy::Time) -> f64 {
    time as f64 / SECOND as f64
}
