//! What the policy knows: its queues, the jobs that wait by class and shape, and those that run.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::{DeviceKey, PoolKey};
use crate::demand::Demand;
use crate::device::Held;
use crate::order::Usage;
use crate::queue::Rules;
use crate::waiting::{Entry, Line};
use crate::{QueueKey, Time};

#[derive(Debug, Clone)]
pub(crate) struct Queue {
    pub name: String,
    pub rules: Rules,
    pub usage: Usage,
    /// GPUs by type that its jobs have now, but for preemptible ones.
    pub used: BTreeMap<Arc<str>, u32>,
    pub used_in_all: u32,
    /// Its quota was changed while it had some: it may have more than that.
    pub lowered: bool,
    /// With jobs in them.
    pub shapes: Vec<ShapeKey>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClassKey(pub u32);

/// What the jobs of a class have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    pub queue: QueueKey,
    pub demand: Arc<Demand>,
    pub priority: i32,
    /// As it orders them: see [`order::rounded`].
    pub estimate: Time,
    pub preemptible: bool,
    pub group: Option<(u64, u32)>,
    pub avoid: Option<DeviceKey>,
}

#[derive(Debug, Clone)]
pub(crate) struct Class<Id> {
    pub kind: Kind,
    pub line: Line<Id>,
    pub shape: ShapeKey,
    /// Its place among the heads of its shape.
    pub place: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ShapeKey(pub u32);

/// Classes whose jobs need the same: where one has no room, none has.
#[derive(Debug, Clone)]
pub(crate) struct Shape<Id> {
    /// Without priority and estimate.
    pub kind: Kind,
    /// Where its jobs could run.
    pub pools: Vec<PoolKey>,
    /// GPUs of the largest need of one device.
    pub widest: u16,
    pub heads: Vec<Head<Id>>,
}

/// What is known of a class without looking at it.
#[derive(Debug, Clone)]
pub(crate) struct Head<Id> {
    pub class: ClassKey,
    pub priority: i32,
    pub estimate: Time,
    /// Its first job.
    pub first: Entry<Id>,
    /// The shortest limit of its jobs.
    pub shortest: Time,
    /// The pass in which nothing of it could start any more.
    pub failed_in: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Gpus {
    pub by_kind: Vec<(Arc<str>, u32)>,
    /// Thousandths, all together.
    pub milli: u64,
}

impl Gpus {
    pub(crate) fn of_kind(&mut self, kind: &Arc<str>) -> &mut u32 {
        let place = self.by_kind.iter().position(|(of, _)| of == kind).unwrap_or_else(|| {
            self.by_kind.push((kind.clone(), 0));
            self.by_kind.len() - 1
        });
        &mut self.by_kind[place].1
    }

    pub(crate) fn add(&mut self, more: &Self) {
        self.milli += more.milli;
        for (kind, gpus) in &more.by_kind {
            *self.of_kind(kind) += gpus;
        }
    }

    pub(crate) fn remove(&mut self, fewer: &Self) {
        self.milli = self.milli.saturating_sub(fewer.milli);
        for (kind, gpus) in &fewer.by_kind {
            let of_kind = self.of_kind(kind);
            *of_kind = of_kind.saturating_sub(*gpus);
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub kind: Kind,
    pub limit: Time,
    pub started: Time,
    /// Of the containers that have not ended.
    pub places: Vec<(DeviceKey, Held)>,
    /// What its queue is charged with: its devices may be gone when it ends.
    pub gpus: Gpus,
    /// It was told to stop.
    pub leaving: bool,
}
