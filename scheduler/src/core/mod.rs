//! The pure core: everything that is decided, and nothing else.
//!
//! No I/O, no clock, no chance, no `async`: [`Core::step`] takes the present time and what came in,
//! and returns the rows to write and the answers to give. The shell around it (`leader.rs`) commits
//! them in one transaction before anybody hears of them. If that fails, this memory is dropped and
//! loaded again: there is no other repair.
//!
//! What must always hold is written down once, in [`check`].

pub mod changes;
pub mod check;
mod command;
pub mod device;
mod exchange;
pub mod explain;
pub mod input;
pub mod job;
mod life;
pub mod memory;
pub mod placement;
pub mod queue;
pub mod rows;
mod schedule;
mod submit;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use berth_common::command::CommandView;
use berth_common::id::JobId;
use berth_common::message::{Reply, Target};
use berth_common::problem::Problem;
use berth_common::queue::Queue;
use jiff::Timestamp;
use uuid::Uuid;

use changes::Changes;
use device::Device;
use input::{Decisions, Input};
use job::End;
use queue::{Pending, Place};
use rows::{ContainerRow, Facts, JobRow, Needs, Rows, Snapshot, UserRow};

/// Numbers are promised in the database in blocks of this size, so that its row is seldom written.
const ID_BLOCK: i64 = 10_000;

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
    pub containers: Vec<ContainerRow>,
    /// How those ended that did.
    pub ends: Vec<End>,
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
    queues: BTreeMap<String, Queue>,
    jobs: HashMap<JobId, Job>,
    pending: Pending,
    /// When a waiting job's back-off ends, or a running one's limit is reached.
    wakeups: BTreeSet<(Timestamp, JobId)>,
    devices: BTreeMap<i64, Device>,
    dids: HashMap<String, i64>,
    /// The number of every GPU that was ever seen, by its UUID: one that comes back is the same one.
    gids: HashMap<String, i64>,
    /// Whether what workers tell reaches us: while it does not, silence says nothing about them.
    hearing: bool,
    /// Commands that were accepted and have not come to their end.
    commands: HashMap<Uuid, CommandView>,
    /// Whether something became free or began to wait since the last pass.
    unsettled: bool,
    changes: Changes,
}

impl Core {
    /// The state as the database has it. Every device is granted a full `lost_after` anew.
    #[must_use]
    pub fn load(snapshot: Snapshot, limits: Limits, now: Timestamp) -> Self {
        let mut core = Self {
            instance: snapshot.instance,
            secret: snapshot.secret,
            limits,
            next_id: snapshot.next_id,
            promised_id: snapshot.next_id,
            queues: snapshot.queues.into_iter().map(|q| (q.name.clone(), q)).collect(),
            jobs: HashMap::new(),
            pending: Pending::default(),
            wakeups: BTreeSet::new(),
            devices: BTreeMap::new(),
            dids: HashMap::new(),
            gids: snapshot.gpus.into_iter().map(|g| (g.gpu.uuid, g.gid)).collect(),
            hearing: false,
            commands: snapshot.commands.into_iter().map(|c| (c.id, c)).collect(),
            unsettled: true,
            changes: Changes::default(),
        };
        let mut states: HashMap<i64, _> = snapshot.device_states.into_iter().map(|s| (s.did, s)).collect();
        for row in snapshot.devices {
            core.dids.insert(row.name.clone(), row.did);
            let state = states.remove(&row.did);
            core.devices.insert(row.did, Device::new(row, state, now));
        }
        for row in snapshot.jobs {
            core.jobs.insert(row.id, Job::waiting(row));
        }
        for container in snapshot.containers {
            if let Some(device) = core.devices.get_mut(&container.did) {
                device.take(&container);
            }
            if let Some(job) = core.jobs.get_mut(&container.replica.job) {
                job.containers.push(container);
            }
        }
        for command in core.commands.values() {
            if let Some(job) = command.job.and_then(|id| core.jobs.get_mut(&id)) {
                job.kills.push(command.id);
            }
        }
        let ids: Vec<JobId> = core.jobs.keys().copied().collect();
        for id in ids {
            core.index(id);
        }
        core
    }

    /// What the inputs name and memory lacks; the shell looks it up before the step.
    #[must_use]
    pub fn needs(&self, inputs: &[Input]) -> Needs {
        let mut needs = Needs::default();
        for input in inputs {
            match input {
                Input::Submit(submission) => {
                    if !self.jobs.contains_key(&submission.id) {
                        needs.jobs.push(submission.id);
                    }
                    needs.users.push(submission.owner.clone());
                }
                Input::Command(command) => {
                    if let Target::Job(job) = command.target
                        && !self.jobs.contains_key(&job)
                    {
                        needs.jobs.push(job);
                    }
                    needs.users.push(command.actor.clone());
                    needs.commands.push(command.id);
                }
                Input::Device(_) | Input::Admin(_) => {}
            }
        }
        for list in [&mut needs.jobs, &mut needs.commands] {
            list.sort_unstable();
            list.dedup();
        }
        needs.users.sort_unstable();
        needs.users.dedup();
        needs
    }

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
                Input::Admin(_) => {}
                Input::Device(told) => decisions.dropped_reports += self.report(&told, now),
            }
        }
        self.elapse(now);
        self.place_all(now);
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
        }
        self.hearing = hearing;
    }

    /// When something will have to be looked at even if nothing comes in.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        self.wakeups.first().map(|(at, _)| *at)
    }

    /// Jobs that have not exited.
    #[must_use]
    pub fn job_count(&self) -> usize {
        self.jobs.len()
    }

    /// Jobs that wait, held ones too.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.pending.len()
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

    /// Puts a job where its status says that it has to be found.
    fn index(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        if job.is_pending() {
            self.pending.insert(Place::of(&job.row));
        }
        if let Some(at) = self.wakeup_of(job) {
            self.wakeups.insert((at, id));
        }
    }

    /// The reverse of [`Self::index`]; called with the state that was indexed.
    fn unindex(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        if job.is_pending() {
            self.pending.remove(&Place::of(&job.row));
        }
        if let Some(at) = self.wakeup_of(job) {
            self.wakeups.remove(&(at, id));
        }
    }

    fn take_rows(&mut self) -> Rows {
        let changes = std::mem::take(&mut self.changes);
        let job = |id: &JobId| self.jobs.get(id).map(|job| job.row.clone());
        let device = |did: &i64| self.devices.get(did).map(|device| device.row.clone());
        let state = |did: &i64| self.devices.get(did).and_then(|device| device.state.clone());
        let mut rows = Rows {
            new_devices: changes.new_devices.iter().filter_map(device).collect(),
            devices: changes.devices.difference(&changes.new_devices).filter_map(device).collect(),
            new_gpus: changes.new_gpus,
            new_device_states: changes.new_states.iter().filter_map(state).collect(),
            device_states: changes.states.difference(&changes.new_states).filter_map(state).collect(),
            new_jobs: changes.new_jobs.iter().filter_map(job).collect(),
            jobs: changes.jobs.difference(&changes.new_jobs).filter_map(job).collect(),
            new_containers: changes.new_containers.into_values().collect(),
            containers: changes.containers.into_values().collect(),
            reservations: changes.reservations.into_values().collect(),
            releases: changes.releases,
            new_commands: changes.new_commands.into_values().collect(),
            commands: changes.commands.into_values().collect(),
            events: changes.events,
            outbox: changes.outbox,
            ..Rows::default()
        };
        for id in changes.new_jobs.iter().chain(&changes.jobs) {
            if self.jobs.get(id).is_some_and(Job::has_exited) {
                self.jobs.remove(id);
            }
        }
        if self.next_id > self.promised_id
            || (!rows.is_empty() && self.next_id + ID_BLOCK / 2 > self.promised_id)
        {
            self.promised_id = self.next_id + ID_BLOCK;
            rows.next_id = Some(self.promised_id);
        }
        rows
    }
}

impl Job {
    fn waiting(row: JobRow) -> Self {
        Self { row, containers: Vec::new(), ends: Vec::new(), avoid: None, kills: Vec::new() }
    }

    fn is_pending(&self) -> bool {
        self.row.life.status == berth_common::job::Status::Pending
    }

    fn has_exited(&self) -> bool {
        self.row.life.status == berth_common::job::Status::Exited
    }
}

/// [`Facts`], by what they are about.
struct Known {
    jobs: HashMap<JobId, JobRow>,
    users: HashMap<String, UserRow>,
    commands: HashMap<Uuid, CommandView>,
}

impl Known {
    fn new(facts: Facts) -> Self {
        Self {
            jobs: facts.jobs.into_iter().map(|j| (j.id, j)).collect(),
            users: facts.users.into_iter().map(|u| (u.name.clone(), u)).collect(),
            commands: facts.commands.into_iter().map(|c| (c.id, c)).collect(),
        }
    }
}

fn refused(problem: Problem) -> Reply {
    Reply { status: problem.status, body: serde_json::to_value(problem).expect("a problem is plain JSON") }
}

#[cfg(test)]
mod tests;
