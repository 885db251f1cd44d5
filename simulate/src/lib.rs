//! The simulator: being written.

pub mod chance;
pub mod cluster;
pub mod source;
pub mod trace;
pub const SECOND: berth_policy::Time = 1_000;
