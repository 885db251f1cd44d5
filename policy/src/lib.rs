//! Who is next, where it runs, and why not yet: the policy, and nothing else.
//!
//! Pure and deterministic: no clock, no chance, no I/O. The scheduler and `berth simulate` run this very
//! code, so what the simulator shows is what the service does. Times are milliseconds since whatever
//! beginning the caller has; GPUs are counted whole, or in thousandths of one where jobs share it.
//!
//! [`Policy`] knows the devices, the queues with their rules, who waits and what runs. Its caller tells it
//! what happens, and asks for a [pass](Policy::pass): which jobs start now, and where.

pub mod demand;
pub mod device;
pub mod queue;

/// Milliseconds since whatever beginning the caller has.
pub type Time = i64;
/// Later than anything: the end of a job without a limit.
pub const NEVER: Time = i64::MAX;
