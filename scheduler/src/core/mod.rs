//! The pure core: everything that is decided, and nothing else.
//!
//! No I/O, no clock, no chance, no `async`: [`Core::step`] takes the present time and what came in,
//! and returns the rows to write and the answers to give. The shell around it (`leader.rs`) commits
//! them in one transaction before anybody hears of them. If that fails, this memory is dropped and
//! loaded again: there is no other repair.
//!
//! What must always hold is written down once, in [`check`].

mod admin;
mod approval;
pub mod changes;
pub mod check;
mod command;
mod dependencies;
pub mod device;
mod device_command;
mod exchange;
mod exec;
pub mod explain;
mod explain_turn;
mod index;
pub mod input;
mod inventory;
pub mod job;
mod known;
mod life;
mod limit;
mod load;
mod loss;
pub mod memory;
pub mod placement;
mod plan;
pub mod queue;
pub mod quota;
mod report;
mod rights;
pub mod rows;
mod rules;
mod schedule;
mod shares;
mod size;
mod submit;
mod suggest;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use berth_common::command::CommandView;
use berth_common::id::JobId;
use berth_common::message::Reply;
use berth_common::problem::Problem;
use berth_common::queue::Queue;
use jiff::Timestamp;
use uuid::Uuid;

use changes::Changes;
use device::Device;
use index::Indexes;
use input::{Decisions, Input};
use known::Known;
use plan::Plan;
use report::Heard;
use rows::{ContainerRow, Facts, JobRow};

/// How long the exchange with devices may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Without a confirm for so long, a worker has no session any more and stops what may be
    /// started elsewhere.
    pub fence_after_s: u64,
    /// Without a heartbeat for so long, a device is lost. Larger than `fence_after_s`, so that
    /// what ran there is known to be stopped.
    pub lost_after_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { fence_after_s: 240, lost_after_s: 300 }
    }
}

/// An unfinished job and the containers of its present attempt.
#[derive(Debug, Clone)]
pub struct Job {
    pub row: JobRow,
    /// Also those that are gone, as long as another one of the attempt is not.
    pub containers: Vec<ContainerRow>,
    /// Where a fault happened last: not there again if another will do.
    pub avoid: Option<i64>,
    /// Kills that were accepted and are done when it has exited.
    pub kills: Vec<Uuid>,
}

/// The state of one cell, and the only code that changes it.
#[derive(Debug, Clone)]
pub struct Core {
    instance: Uuid,
    secret: String,
    limits: Limits,
    next_id: i64,
    promised_id: i64,
    attempt_floor: u32,
    /// Until then nothing is stopped because a restored database does not know it.
    recovering_until: Option<Timestamp>,
    queues: BTreeMap<String, Queue>,
    jobs: HashMap<JobId, Job>,
    indexes: Indexes,
    plan: Plan,
    devices: BTreeMap<i64, Device>,
    dids: HashMap<String, i64>,
    /// Devices that were deleted: one that comes back has its old number.
    forgotten: HashMap<String, i64>,
    /// The number of every GPU that was ever seen, by its UUID: one that comes back is the same one.
    gids: HashMap<String, i64>,
    /// Whether what workers tell reaches us: while it does not, silence says nothing about them.
    hearing: bool,
    /// Commands that were accepted and have not come to their end.
    commands: HashMap<Uuid, CommandView>,
    /// When an exec whose end was not told is given up.
    exec_deadlines: BTreeSet<(Timestamp, Uuid)>,
    /// Jobs that exited in this step.
    exited: Vec<JobId>,
    /// Queues and owners of whom quota was freed in this step.
    freed: BTreeSet<(String, String)>,
    /// Whether something became free or began to wait since the last pass.
    unsettled: bool,
    /// Whether the last pass ended before all had been looked at.
    cut_short: bool,
    /// When what queues have had was written last.
    shares_kept: Timestamp,
    /// When it was looked last what jobs usually need.
    usual_learned: Option<Timestamp>,
    /// When there is a pass though nothing has happened.
    next_pass: Option<Timestamp>,
    changes: Changes,
}

impl Core {
    /// Takes what came in, in order, then what the time brings, then places what can be placed.
    pub fn step(&mut self, now: Timestamp, inputs: Vec<Input>, facts: Facts) -> Decisions {
        let mut decisions = Decisions::default();
        let mut known = Known::new(facts);
        for (place, input) in inputs.into_iter().enumerate() {
            match input {
                Input::Submit(submission) => {
                    decisions.replies.push((place, self.submit(*submission, &mut known, now)));
                }
                Input::Command(command) => {
                    decisions.replies.push((place, self.command(command, &mut known, now)));
                }
                Input::Admin(admin) => {
                    decisions.replies.push((place, self.administer(admin, &known, now)));
                }
                Input::Device(told) => match self.report(&told, &mut known, now) {
                    Heard::Taken => {}
                    Heard::Unknown => decisions.dropped_reports += 1,
                    Heard::Refused(problem) => decisions.replies.push((place, refused(problem))),
                },
            }
        }
        self.elapse(now);
        self.settle_dependents(now);
        self.admit_waiting(now);
        self.place_all(now);
        self.keep_shares(now);
        decisions.rows = self.take_rows();
        debug_assert!(
            self.jobs.len() > check::SMALL || check::violations(self).is_empty(),
            "{:?}",
            check::violations(self)
        );
        decisions
    }

    /// Whether reports of workers arrive, as far as the shell can tell. Whenever they begin to, every
    /// device is granted a full `lost_after`.
    pub fn set_hearing(&mut self, hearing: bool, now: Timestamp) {
        if hearing && !self.hearing {
            self.devices.values_mut().for_each(|device| device.seen = device.seen.max(now));
            self.unsettled = true; // none of them is quiet any more
        }
        self.hearing = hearing;
    }

    /// When something will have to be looked at even if nothing comes in.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        let jobs = self.indexes.wakeups.first().map(|(at, _)| *at);
        let execs = self.exec_deadlines.first().map(|(at, _)| *at);
        let rest_of_pass = self.cut_short.then_some(Timestamp::MIN);
        [jobs, execs, self.recovering_until, rest_of_pass, self.next_pass].into_iter().flatten().min()
    }

    /// Jobs that have not exited.
    #[must_use]
    pub fn job_count(&self) -> usize {
        self.jobs.len()
    }

    /// Jobs that wait, held ones too.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.indexes.pending.len()
    }

    #[must_use]
    pub fn reserved_gpus(&self) -> usize {
        self.devices.values().map(Device::taken_gpu_count).sum()
    }

    fn take_id(&mut self) -> i64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}

impl Job {
    fn waiting(row: JobRow) -> Self {
        Self { row, containers: Vec::new(), avoid: None, kills: Vec::new() }
    }

    fn is_pending(&self) -> bool {
        self.row.life.status == berth_common::job::Status::Pending
    }

    fn has_exited(&self) -> bool {
        self.row.life.status == berth_common::job::Status::Exited
    }
}

fn refused(problem: Problem) -> Reply {
    Reply { status: problem.status, body: serde_json::to_value(problem).expect("a problem is plain JSON") }
}

#[cfg(test)]
mod tests;
