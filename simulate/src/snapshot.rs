//! What will become of what waits now: the present cluster and queue, played to their end by the policy.
//!
//! Who knows the present says it as [`Present`]; nobody is asked anything here. Every job is taken to run to its limit, the
//! one thing that is certain of it, and nothing new comes: so a job starts about then or sooner.

mod play;
#[cfg(test)]
mod tests;

use berth_policy::device::{Held, Inventory};
use berth_policy::queue::Rules;
use berth_policy::{Job, Time};

pub use play::play;

/// A cluster at a moment.
#[derive(Debug, Clone)]
pub struct Present {
    pub now: Time,
    pub devices: Vec<Device>,
    /// By name; jobs name them by their place here.
    pub queues: Vec<(String, Rules)>,
    pub jobs: Vec<Known>,
}

#[derive(Debug, Clone)]
pub struct Device {
    pub inventory: Inventory,
    /// Whether it takes new jobs.
    pub open: bool,
}

#[derive(Debug, Clone)]
pub struct Known {
    /// Its queue is a place in [`Present::queues`].
    pub job: Job,
    pub state: State,
    /// Places in [`Present::jobs`]: it waits until all of these have ended, as if they succeeded.
    pub after: Vec<usize>,
}

#[derive(Debug, Clone)]
pub enum State {
    /// Places in [`Present::devices`], and what each of its containers has there.
    Running { started: Time, places: Vec<(usize, Held)> },
    /// Not to be started before this time.
    Waiting { from: Time },
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Played {
    /// By job: when it starts, or has started; none: it never does.
    pub starts: Vec<Option<Time>>,
    /// What the policy's check of its own books found wrong.
    pub violations: Vec<String>,
}
