//! Who is next, where it runs, and why not yet: the policy, and nothing else.
//!
//! Pure and deterministic: no clock, no chance, no I/O. The scheduler decides by it, and `berth simulate`
//! plays traces by it. Times are milliseconds since whatever beginning the caller has; GPUs
//! are counted whole, or in thousandths of one where jobs share it.
//!
//! [`Policy`] knows the devices, the queues with their rules, who waits and what runs. Its caller tells it
//! what happens, and asks for a [pass](Policy::pass): which jobs start now, and where.

mod changes;
pub mod check;
mod choose;
mod classes;
mod clearing;
pub mod cluster;
pub mod demand;
pub mod device;
pub mod fgd;
mod heads;
mod jobs;
pub mod links;
mod look;
mod memo;
mod order;
mod outlook;
mod pass;
mod place;
mod pool;
mod preempt;
pub mod queue;
mod quota;
mod reservation;
mod reserving;
mod running;
mod soonest;
mod state;
mod trial;
mod waiting;
pub mod why;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use clearing::Clearings;
use cluster::{Cluster, DeviceKey, PoolKey};
use demand::Demand;
use memo::Memo;
use order::Usage;
use queue::Rules;
use reservation::Reservation;
use rustc_hash::FxHashMap;
use state::{Class, ClassKey, Gpus, Head, Kind, Queue, Running, Shape, ShapeKey};

pub use pass::{Pass, Start};

/// Milliseconds since whatever beginning the caller has.
pub type Time = i64;
/// Later than anything: the end of a job without a limit.
pub const NEVER: Time = i64::MAX;

const HOUR: Time = 3_600_000;

/// The policy's numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// After so long a queue's use counts half.
    pub half_life: Time,
    /// A job that has waited for longer gets the next reservation, the oldest first.
    pub starving_after: Time,
    /// Preemptible jobs are left alone for so long.
    pub least_runtime: Time,
    /// Steps to which estimates are rounded, between one length and its double; 0: none.
    pub steps: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { half_life: 7 * 24 * HOUR, starving_after: 24 * HOUR, least_runtime: 300_000, steps: 4 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueKey(pub u16);

/// A job that waits for nothing but its turn and its devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub queue: QueueKey,
    pub demand: Demand,
    /// Larger is first.
    pub priority: i32,
    pub submitted: Time,
    /// How long it will probably run, which orders it.
    pub estimate: Time,
    /// How long it may run, which reservations rely on; [`NEVER`]: for ever.
    pub limit: Time,
    pub preemptible: bool,
    /// Jobs of one group run at most so many at once: its number, and how many.
    pub group: Option<(u64, u32)>,
    /// Not there, if another device will do.
    pub avoid: Option<DeviceKey>,
}

/// When a job was first promised to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    pub first: Time,
    /// The last one; the same as `first` unless a device was lost or a person acted.
    pub last: Time,
    /// Whether a device was lost since, or a person changed what it relied on.
    pub void: bool,
}

#[derive(Debug, Clone)]
pub struct Policy<Id> {
    settings: Settings,
    cluster: Cluster,
    queues: Vec<Queue>,
    queue_keys: FxHashMap<String, QueueKey>,
    classes: Vec<Option<Class<Id>>>,
    unused_classes: Vec<ClassKey>,
    class_keys: FxHashMap<Kind, ClassKey>,
    shapes: Vec<Option<Shape<Id>>>,
    unused_shapes: Vec<ShapeKey>,
    /// By what the classes of each have in common.
    shape_keys: FxHashMap<Kind, ShapeKey>,
    waiting: FxHashMap<Id, (ClassKey, Time)>,
    running: FxHashMap<Id, Running>,
    groups: FxHashMap<u64, u32>,
    /// Running jobs that may be stopped for others.
    preemptible_count: u32,
    /// By pool.
    reservations: BTreeMap<PoolKey, Reservation<Id>>,
    /// Until when nobody is promoted in a pool.
    next_promotion: BTreeMap<PoolKey, Time>,
    promises: FxHashMap<Id, Promise>,
    /// For whom the other jobs of a queue wait, which would leave it too little of the quota, and what it needs.
    held_back: FxHashMap<QueueKey, (Id, Arc<Demand>)>,
    /// Until when it is not looked for jobs that have to go.
    next_preemption: Time,
    clearings: Clearings<Id>,
    memo: Memo<Id>,
    passes: u64,
}

impl<Id: Copy + Ord + Hash + Debug> Policy<Id> {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            cluster: Cluster::default(),
            queues: Vec::new(),
            queue_keys: FxHashMap::default(),
            classes: Vec::new(),
            unused_classes: Vec::new(),
            class_keys: FxHashMap::default(),
            shapes: Vec::new(),
            unused_shapes: Vec::new(),
            shape_keys: FxHashMap::default(),
            waiting: FxHashMap::default(),
            running: FxHashMap::default(),
            groups: FxHashMap::default(),
            preemptible_count: 0,
            reservations: BTreeMap::new(),
            next_promotion: BTreeMap::new(),
            promises: FxHashMap::default(),
            held_back: FxHashMap::default(),
            next_preemption: Time::MIN,
            clearings: Clearings::default(),
            memo: Memo::default(),
            passes: 0,
        }
    }

    /// A new queue, or other rules for one that is there.
    pub fn set_queue(&mut self, name: &str, rules: Rules) -> QueueKey {
        if let Some(key) = self.queue_keys.get(name) {
            let queue = &mut self.queues[usize::from(key.0)];
            let is_other = queue.rules.quota != rules.quota;
            queue.lowered = (queue.lowered || is_other) && queue.used_in_all > 0;
            queue.rules = rules;
            return *key;
        }
        let key = QueueKey(u16::try_from(self.queues.len()).expect("fewer queues than u16 has numbers"));
        self.queues.push(Queue {
            name: name.to_owned(),
            rules,
            usage: Usage::default(),
            used: BTreeMap::new(),
            used_in_all: 0,
            lowered: false,
            shapes: Vec::new(),
        });
        self.queue_keys.insert(name.to_owned(), key);
        key
    }

    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub fn cluster_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }

    /// Whether any pool could run it if nothing else ran there.
    #[must_use]
    pub fn can_ever_run(&self, demand: &Demand) -> bool {
        self.cluster.pools().any(|(pool, _)| self.cluster.could_ever(pool, demand))
    }
}
