//! The fingerprint of a state: equal for two states from which the same can follow.
//!
//! What is left out or simplified, and why nothing can depend on it:
//!
//! - *Numbers* (sessions, messages, containers) are compared with each other and with nothing else, on
//!   the leader's side and on the worker's; those of different devices never meet. So each is replaced by
//!   its rank among all that are still spoken of on its device. New numbers are larger than all of them.
//! - *Times*: whatever the core measures is shorter than a tick, but for the loss of a device, which is an
//!   action of its own here and comes at a time that follows from nothing else. So every time is either of
//!   this tick or past every limit. Times of submission agree with the order of the jobs' ids.
//! - *The tables* hold what the core remembers (that is one of the laws, looked at after every step), and
//!   jobs that have exited, of which only the outcome counts. The history is read by nobody.
//! - *Words* (errors, reasons), exit codes that were judged, passwords, ports: nobody decides by them.
//! - *How an attempt ended* is left out of the inbox when the leader no longer asks for it: attempts are
//!   never numbered twice, so whatever is still said about it will be dropped.
//! - *Boots* are compared for equality only: each is replaced by how many boots ago it was.

mod messages;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use berth_common::id::Replica;
use berth_common::message::{Ending, Event, HeldState};
use berth_common::time::ms_between;
use berth_scheduler::core::Job;
use berth_scheduler::core::device::{
    ASK_AGAIN_MS, Device, QUIET_MS, SEEN_WRITTEN_MS, START_OVERDUE_MS, STOP_OVERDUE_MS, STOP_SLACK_MS,
    UNTAKEN_MS, WELCOME_AGAIN_MS,
};
use berth_scheduler::core::job::End;
use berth_worker::inbox::Phase;
use jiff::Timestamp;

use crate::leader::Leader;
use crate::state::State;
use crate::worker::Worker;

#[must_use]
pub fn print(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    let memory = state.leader.core.memory();
    state.clients.hash(&mut hasher);
    state.broken.is_empty().hash(&mut hasher);
    for (id, row) in &state.leader.tables.jobs {
        (short(*id), row.life.outcome.map(|outcome| outcome.as_str())).hash(&mut hasher);
    }
    for (id, job) in &memory.jobs {
        short(*id).hash(&mut hasher);
        hash_job(job, state.leader.now, &mut hasher);
    }
    memory.waiting.iter().for_each(|id| short(*id).hash(&mut hasher));
    // When it starts depends on limits, which count in this world by what they end.
    memory.reserved.iter().for_each(|(id, _)| short(*id).hash(&mut hasher));
    (memory.commands.len(), memory.hearing, memory.unsettled).hash(&mut hasher);
    state.leader.tables.reservations.keys().for_each(|gid| gid.hash(&mut hasher));
    for (place, worker) in state.workers.iter().enumerate() {
        let device = memory.devices.values().find(|device| device.row.name == worker.name);
        let ranks = Ranks::of(state, place, device, &memory.jobs);
        let of = OfDevice { leader: &state.leader, worker, ranks };
        hasher.write_u8(0xfd);
        if let Some(device) = device {
            of.device(device, &memory.jobs, &mut hasher);
        }
        of.worker(&mut hasher);
        for message in &state.to_device[place] {
            of.order(message, &mut hasher);
        }
        hasher.write_u8(0xfe);
        for message in state.to_be_repeated(place) {
            of.order(message, &mut hasher);
            // When the next batch will be written, after which it is not repeated any more.
            let seen = device.and_then(|device| device.state.as_ref()).map(|row| row.last_seen_at);
            seen.map(|at| ms_between(at, state.leader.now).min(SEEN_WRITTEN_MS)).hash(&mut hasher);
        }
        hasher.write_u8(0xff);
        // A bag: the same whatever the order.
        let from_here = state.to_leader.iter().filter(|told| told.device == worker.name);
        let mut reports: Vec<u64> = from_here.map(|told| of.report(told)).collect();
        reports.sort_unstable();
        reports.hash(&mut hasher);
    }
    hasher.finish()
}

type Jobs<'a> = std::collections::BTreeMap<berth_common::id::JobId, &'a Job>;

/// Jobs of the model are numbered from 1.
fn short(id: berth_common::id::JobId) -> u64 {
    u64::try_from(id.as_u128()).unwrap_or(u64::MAX)
}

fn hash_replica(replica: Replica, hasher: &mut impl Hasher) {
    (short(replica.job), replica.attempt, replica.replica).hash(hasher);
}

fn hash_job(job: &Job, now: Timestamp, hasher: &mut impl Hasher) {
    let life = &job.row.life;
    (life.status.as_str(), life.held, life.stopping.map(|s| s.as_str()), life.grace_ms).hash(hasher);
    (life.attempt, life.failures, life.faults, life.not_before.is_some_and(|at| at > now)).hash(hasher);
    (job.avoid, job.kills.len(), job.containers.len()).hash(hasher);
}

fn hash_end(end: &End, hasher: &mut impl Hasher) {
    match end {
        End::NeverTaken => 0.hash(hasher),
        End::Lost { .. } => 1.hash(hasher),
        End::Ended(ending) => hash_ending(ending, hasher),
    }
}

fn hash_ending(ending: &Ending, hasher: &mut impl Hasher) {
    let fault = ending.fault.as_ref().map(|fault| fault.kind as u8);
    (ending.exit_code, ending.signalled, fault, ending.started_at.is_some()).hash(hasher);
}

/// The numbers that are spoken of on one device, in order.
struct Ranks(Vec<i64>);

impl Ranks {
    fn of(state: &State, place: usize, device: Option<&Device>, jobs: &Jobs) -> Self {
        let numbers = &state.workers[place].numbers;
        let mut all = vec![numbers.greatest];
        all.extend(numbers.session);
        all.extend(numbers.session.map(|_| numbers.last));
        if let Some(device) = device {
            all.extend(device.state.as_ref().map(|row| row.session));
            all.extend(device.stops.values().map(|stop| stop.id));
            let live = jobs.values().flat_map(|job| &job.containers).filter(|c| c.did == device.row.did);
            all.extend(live.map(|container| container.order_id));
        }
        let on_its_way = state.to_device[place].iter().map(|message| &**message);
        for message in on_its_way.chain(state.to_be_repeated(place)) {
            all.extend([message.session, message.id]);
        }
        for told in state.to_leader.iter().filter(|told| told.device == state.workers[place].name) {
            if let Event::Heartbeat(beat) = &told.event {
                all.extend(beat.session);
                all.extend(beat.last);
            }
        }
        all.sort_unstable();
        all.dedup();
        Self(all)
    }

    fn rank(&self, number: i64) -> usize {
        self.0.binary_search(&number).unwrap_or(usize::MAX)
    }
}

/// What is hashed of a device and its worker.
struct OfDevice<'a> {
    leader: &'a Leader,
    worker: &'a Worker,
    ranks: Ranks,
}

impl OfDevice<'_> {
    fn device(&self, device: &Device, jobs: &Jobs, hasher: &mut impl Hasher) {
        let now = self.leader.now;
        let within = |at: Timestamp, ms: i64| ms_between(at, now) < ms;
        if let Some(row) = &device.state {
            let rank = self.ranks.rank(row.session);
            (row.state.as_str(), rank, self.worker.boots_ago(row.boot), row.drained).hash(hasher);
        }
        let (stands, note) = device.standing();
        (stands.as_str(), note, within(device.seen, QUIET_MS), device.is_deaf()).hash(hasher);
        let welcomed = device.welcomed.filter(|(_, at)| within(*at, WELCOME_AGAIN_MS));
        welcomed.map(|(boot, _)| self.worker.boots_ago(boot)).hash(hasher);
        for (replica, stop) in &device.stops {
            hash_replica(*replica, hasher);
            let times = (within(stop.sent, STOP_OVERDUE_MS), within(stop.due, STOP_SLACK_MS + 1));
            (self.ranks.rank(stop.id), times).hash(hasher);
        }
        hasher.write_u8(0xfc);
        for (replica, at) in device.asked.iter().filter(|(_, at)| within(**at, ASK_AGAIN_MS)) {
            hash_replica(*replica, hasher);
            let _ = at;
        }
        hasher.write_u8(0xfb);
        for container in jobs.values().flat_map(|job| &job.containers).filter(|c| c.did == device.row.did) {
            hash_replica(container.replica, hasher);
            (container.status.as_str(), self.ranks.rank(container.order_id)).hash(hasher);
            let sent = |ms| within(container.scheduled_at, ms);
            (sent(START_OVERDUE_MS), sent(UNTAKEN_MS), &container.gids).hash(hasher);
            device.containers.contains(&container.replica).hash(hasher);
            container.ending.as_ref().into_iter().for_each(|end| hash_end(end, hasher));
        }
    }

    fn worker(&self, hasher: &mut impl Hasher) {
        let worker = self.worker;
        let numbers = &worker.numbers;
        let last = numbers.session.map(|_| self.ranks.rank(numbers.last));
        (self.ranks.rank(numbers.greatest), numbers.session.map(|n| self.ranks.rank(n)), last).hash(hasher);
        (worker.link, worker.beat_due).hash(hasher);
        for (replica, taken) in &worker.inbox {
            hash_replica(*replica, hasher);
            match &taken.phase {
                Phase::Live { start, launched, fenced, stop } => {
                    (0, launched, fenced, stop.is_some()).hash(hasher);
                    start.gpus.iter().for_each(|gpu| gpu.idx.hash(hasher));
                }
                Phase::Ended { ending, reported } => {
                    (1, reported).hash(hasher);
                    if self.is_believed_live(*replica) {
                        hash_ending(ending, hasher);
                    }
                }
            }
        }
        for (replica, entry) in worker.entries.iter().filter(|(_, entry)| entry.state != HeldState::Exited) {
            hash_replica(*replica, hasher);
            (entry.state as u8, entry.permission as u8, entry.stop).hash(hasher);
            // Only together they count.
            let before = entry.before && entry.told_before;
            [entry.launched, before, entry.running, entry.asked, entry.signalled, entry.fenced].hash(hasher);
            if let Some(container) = worker.engine.containers.get(replica) {
                (container.state, container.start_on_its_way).hash(hasher);
            }
        }
        hasher.write_u8(0xfa);
        for event in &worker.unsent {
            self.event(event, hasher);
        }
    }

    fn is_believed_live(&self, replica: Replica) -> bool {
        let device =
            |did: i64| self.leader.core.memory().devices.get(&did).map(|d| d.containers.contains(&replica));
        self.leader.core.memory().devices.keys().any(|did| device(*did) == Some(true))
    }
}
