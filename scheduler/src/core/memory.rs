//! All that the core remembers, laid open in a fixed order: for the model checker, to which two
//! states are one when whatever follows from them is the same.
//!
//! What must always hold: nothing is left out. [`Core::memory`] names every field, so that a new one
//! does not compile until somebody has said whether the future depends on it.

use std::collections::{BTreeMap, BTreeSet};

use berth_common::command::CommandView;
use berth_common::id::JobId;
use berth_common::queue::Queue;
use jiff::Timestamp;
use uuid::Uuid;

use super::device::Device;
use super::{Core, Job};

/// See [`Core::memory`].
#[derive(Debug)]
pub struct Memory<'a> {
    pub jobs: BTreeMap<JobId, &'a Job>,
    /// Waiting jobs, by priority and submission.
    pub waiting: Vec<JobId>,
    /// For whom something is kept free, and from when on.
    pub reserved: Vec<(JobId, Timestamp)>,
    pub wakeups: &'a BTreeSet<(Timestamp, JobId)>,
    pub queues: &'a BTreeMap<String, Queue>,
    pub recovering_until: Option<Timestamp>,
    pub exec_deadlines: &'a BTreeSet<(Timestamp, Uuid)>,
    pub devices: &'a BTreeMap<i64, Device>,
    pub commands: BTreeMap<Uuid, &'a CommandView>,
    pub hearing: bool,
    pub unsettled: bool,
}

impl Core {
    /// Everything on which a later step can depend.
    #[must_use]
    pub fn memory(&self) -> Memory<'_> {
        let Self {
            // Never changes after the load.
            instance: _,
            secret: _,
            limits: _,
            attempt_floor: _,
            // Only their order counts, and what is new is always larger.
            next_id: _,
            promised_id: _,
            recovering_until,
            queues,
            jobs,
            // All of it follows from the jobs; the order of the waiting is told too.
            indexes,
            // Follows from them too, but for what was promised, and for what decides between queues, or after a day.
            plan,
            devices,
            // Follow from the devices that were ever seen.
            dids: _,
            forgotten: _,
            gids: _,
            hearing,
            commands,
            exec_deadlines,
            // Empty between two steps.
            exited: _,
            freed: _,
            unsettled,
            // The next step looks at all that waits, as `unsettled` says.
            cut_short: _,
            // Decides only between queues, and between devices.
            shares_kept: _,
            usual_learned: _,
            // A pass more changes nothing where nobody has waited for a day and nobody may be preempted.
            next_pass: _,
            changes: _,
        } = self;
        Memory {
            jobs: jobs.iter().map(|(id, job)| (*id, job)).collect(),
            waiting: indexes.pending.iter().map(|place| place.seat.job).collect(),
            reserved: plan.reserved(),
            wakeups: &indexes.wakeups,
            queues,
            recovering_until: *recovering_until,
            exec_deadlines,
            devices,
            commands: commands.iter().map(|(id, view)| (*id, view)).collect(),
            hearing: *hearing,
            unsettled: *unsettled,
        }
    }
}
