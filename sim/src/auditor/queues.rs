//! What queues may have: nothing that counts is placed beyond the quota, and settings are what admins asked
//! for.
//!
//! What is promised: when a job is placed that is not preemptible, all such jobs of its queue together have no
//! more GPUs than the quota allows, of the types that it got and of all types. A quota that is lowered stops
//! nobody, so between two placements nothing is promised. A container counts until it is believed to be gone.

use std::collections::{BTreeMap, BTreeSet};

use berth_common::id::{JobId, Replica};
use berth_common::job::AttemptStatus;
use berth_common::message::{Order, Reply, Start};
use berth_common::queue::{ANY_TYPE, Queue};
use berth_scheduler::core::rows::{ContainerRow, Rows};

use super::{Auditor, Kind, Wants};

#[derive(Debug)]
pub(super) struct Queues {
    /// All settings that each has had, the present ones last.
    had: BTreeMap<String, Vec<Queue>>,
    asked: Vec<AskedSettings>,
    /// What a start message has given away and nobody has said to be gone.
    live: BTreeMap<Replica, Live>,
}

/// What admins want a queue to be.
#[derive(Debug)]
struct AskedSettings {
    queue: Queue,
    /// How many settings it had had by then.
    after: usize,
    answered: bool,
}

#[derive(Debug)]
struct Live {
    queue: String,
    preemptible: bool,
    /// The types of its GPUs.
    kinds: Vec<String>,
}

impl Live {
    fn of(&self, kind: &str) -> u64 {
        self.kinds.iter().filter(|of| kind == ANY_TYPE || *of == kind).count() as u64
    }
}

impl Queues {
    pub(super) fn new(queues: &[Queue]) -> Self {
        let had = queues.iter().map(|queue| (queue.name.clone(), vec![queue.clone()])).collect();
        Self { had, asked: Vec::new(), live: BTreeMap::new() }
    }

    fn had(&self, name: &str) -> &[Queue] {
        self.had.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether somebody has ever asked for other settings.
    pub(super) fn was_changed(&self, name: &str) -> bool {
        self.asked.iter().any(|asked| asked.queue.name == name)
    }

    /// The replicas of an attempt that are not known to be gone.
    pub(super) fn live_of(&self, job: JobId, attempt: u32) -> impl Iterator<Item = Replica> {
        let replica = |replica| Replica { job, attempt, replica };
        self.live.range(replica(0)..=replica(u32::MAX)).map(|(replica, _)| *replica)
    }

    /// The type of GPUs that an attempt has.
    pub(super) fn kind_of(&self, job: JobId, attempt: u32) -> Option<&str> {
        self.live_of(job, attempt).find_map(|replica| self.live[&replica].kinds.first()).map(String::as_str)
    }

    /// GPUs that count, and how many there may be of a type, or of all.
    fn counted(&self, queue: &str, kind: &str) -> (u64, Option<u64>) {
        let counts = self.live.values().filter(|live| live.queue == queue && !live.preemptible);
        let cap = self.had(queue).last().and_then(|of| of.quota.get(kind));
        (counts.map(|live| live.of(kind)).sum(), cap.copied().map(u64::from))
    }

    /// Whether a job could have GPUs of this type within its queue's quota.
    pub(super) fn has_room(&self, wants: &Wants, kind: &str) -> bool {
        let fits = |of: &str| {
            let (used, cap) = self.counted(&wants.queue, of);
            cap.is_none_or(|cap| used + wants.gpus <= cap)
        };
        wants.gpus == 0 || (fits(kind) && fits(ANY_TYPE))
    }
}

impl Auditor {
    pub(super) fn settings_asked(&mut self, queue: Queue) {
        let after = self.queues.had(&queue.name).len();
        self.queues.asked.push(AskedSettings { queue, after, answered: false });
    }

    /// What was accepted has been so at some time since it was asked for.
    pub(super) fn settings_answered(&mut self, queue: &Queue, reply: &Reply) {
        let asked = self.queues.asked.iter_mut().find(|asked| !asked.answered && asked.queue == *queue);
        let Some(asked) = asked else { return };
        asked.answered = true;
        let after = asked.after;
        if reply.status != 200 {
            return self.wrong(format!("settings of {} were refused: {reply:?}", queue.name));
        }
        if !self.queues.had(&queue.name).iter().skip(after.saturating_sub(1)).any(|had| had == queue) {
            self.find(Kind::Forgotten, format!("{} never had the settings {queue:?}", queue.name));
        }
    }

    pub(super) fn settings_are_as_asked(&mut self, rows: &Rows) {
        for queue in rows.new_queues.iter().chain(&rows.queues) {
            if !self.queues.asked.iter().any(|asked| asked.queue == *queue) {
                self.wrong(format!("nobody asked for this: {queue:?}"));
            }
            self.tally.settings += 1;
            self.queues.had.entry(queue.name.clone()).or_default().push(queue.clone());
        }
        for name in &rows.deleted_queues {
            self.wrong(format!("nobody asked to delete the queue {name}"));
        }
    }

    pub(super) fn quotas_are_kept(&mut self, rows: &Rows) {
        let gone = |row: &&ContainerRow| row.status == AttemptStatus::Exited;
        for row in rows.containers.iter().filter(gone) {
            self.queues.live.remove(&row.replica);
        }
        let mut grown: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for row in &rows.outbox {
            let Order::Start(start) = &row.message.order else { continue };
            let Some(live) = self.placed(start) else { continue };
            if !live.preemptible && !live.kinds.is_empty() {
                let kinds = grown.entry(live.queue.clone()).or_default();
                kinds.extend(live.kinds.iter().cloned().chain([ANY_TYPE.to_owned()]));
            }
            self.queues.live.insert(start.replica, live);
        }
        for (queue, kinds) in grown {
            kinds.iter().for_each(|kind| self.quota_is_kept(&queue, kind));
        }
    }

    /// By what its client asked for, not by what its start says.
    fn placed(&mut self, start: &Start) -> Option<Live> {
        let wants = &self.jobs.get(&start.replica.job)?.wants;
        let kinds: Vec<String> = start.gpus.iter().map(|gpu| gpu.kind.clone()).collect();
        let beyond = kinds.first().is_some_and(|kind| !self.queues.has_room(wants, kind));
        self.tally.beyond_quota += u64::from(wants.preemptible && beyond);
        Some(Live { queue: wants.queue.clone(), preemptible: wants.preemptible, kinds })
    }

    fn quota_is_kept(&mut self, queue: &str, kind: &str) {
        let (used, Some(cap)) = self.queues.counted(queue, kind) else { return };
        self.tally.within_quota += 1;
        self.tally.quota_full += u64::from(used == cap);
        if used > cap {
            self.wrong(format!("the queue {queue} has {used} GPUs of type {kind}, and {cap} are its quota"));
        }
    }
}
