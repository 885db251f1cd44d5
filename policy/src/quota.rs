//! What queues, groups and preemptible jobs have now, and how much more they may.

use std::fmt::Debug;
use std::hash::Hash;

use crate::cluster::{DeviceKey, PoolKey};
use crate::device::Held;
use crate::queue::ANY_TYPE;
use crate::{Gpus, Kind, Policy, Queue, QueueKey, Running, Shape, Time};

impl<Id: Copy + Ord + Hash + Debug> Policy<Id> {
    /// A job starts, or has ended.
    pub(crate) fn account(&mut self, running: &Running, now: Time, starts: bool) {
        self.account_gpus(&running.kind, &running.gpus, now, starts);
        let count = |of: u32, by: u32| if starts { of + by } else { of.saturating_sub(by) };
        if running.kind.preemptible {
            self.preemptible_count = count(self.preemptible_count, 1);
        }
        if let Some((group, _)) = running.kind.group {
            let placed = self.groups.entry(group).or_default();
            *placed = count(*placed, 1);
            if *placed == 0 {
                self.groups.remove(&group);
            }
        }
    }

    /// A job has so many GPUs more, or fewer.
    pub(crate) fn account_gpus(&mut self, of: &Kind, gpus: &Gpus, now: Time, more: bool) {
        let queue = &mut self.queues[usize::from(of.queue.0)];
        let sign = if more { 1.0 } else { -1.0 };
        #[allow(clippy::cast_precision_loss, reason = "a number of GPUs")]
        let whole = gpus.milli as f64 / 1000.0;
        queue.usage.change(sign * whole, now, self.settings.half_life);
        if of.preemptible {
            return;
        }
        let count = |of: u32, by: u32| if more { of + by } else { of.saturating_sub(by) };
        for (kind, gpus) in &gpus.by_kind {
            let used = queue.used.get(kind).copied().unwrap_or_default();
            queue.used.insert(kind.clone(), count(used, *gpus));
            queue.used_in_all = count(queue.used_in_all, *gpus);
        }
    }

    /// Of devices that are there.
    pub(crate) fn gpus_of(&self, places: &[(DeviceKey, Held)]) -> Gpus {
        let mut gpus = Gpus::default();
        for (device, held) in places {
            let Some(device) = self.cluster.get(*device) else { continue };
            gpus.milli += u64::from(held.gpus.count_ones()) * u64::from(held.share);
            for (kind, places) in device.places_by_kind() {
                *gpus.of_kind(kind) += (places & held.gpus).count_ones();
            }
        }
        gpus
    }

    pub(crate) fn is_within_caps(&self, kind: &Kind, pool: PoolKey) -> bool {
        self.is_within_caps_beside(kind, pool, 0, 0)
    }

    /// If its queue had so many GPUs more, and its group so many jobs.
    pub(crate) fn is_within_caps_beside(&self, kind: &Kind, pool: PoolKey, more: u64, jobs: u32) -> bool {
        let gpus = kind.demand.gpus() + more;
        let queue = &self.queues[usize::from(kind.queue.0)];
        let in_quota = || {
            queue.rules.quota.is_empty()
                || (self.quota_left(queue, kind, pool).is_none_or(|left| gpus <= left)
                    && self.held_back_for(kind).is_none())
        };
        self.is_group_open(kind, jobs) && (kind.preemptible || in_quota())
    }

    /// Whether its group may have one more, beside `jobs` that it has not yet.
    fn is_group_open(&self, kind: &Kind, jobs: u32) -> bool {
        let placed = |group: u64| self.groups.get(&group).copied().unwrap_or_default() + jobs;
        kind.group.is_none_or(|(group, cap)| placed(group) < cap)
    }

    /// The job of its queue for which that one's quota fills up, if another does.
    pub(crate) fn held_back_for(&self, kind: &Kind) -> Option<Id> {
        let (id, demand) = self.held_back.get(&kind.queue)?;
        (*demand != kind.demand && kind.demand.gpu_milli() > 0).then_some(*id)
    }

    /// In a queue with a quota, small jobs could for ever leave too little of it for a large one. Once the one that
    /// has waited longest has waited for too long, all others wait for it.
    pub(crate) fn hold_back_for_starving(&mut self, now: Time) {
        self.hold_back_for_none_in_vain();
        for (place, queue) in (0..).zip(&self.queues) {
            let key = QueueKey(place);
            if queue.rules.quota.is_empty() || self.held_back.contains_key(&key) {
                continue;
            }
            let capped = |shape: &&Shape<Id>| {
                let (kind, gpus) = (&shape.kind, shape.kind.demand.gpus());
                let fits = |pool| self.quota_left(queue, kind, pool).is_none_or(|left| gpus <= left);
                !kind.preemptible
                    && self.is_group_open(kind, 0)
                    && self.has_quota_ever(queue, shape)
                    && !shape.pools.iter().any(|pool| fits(*pool))
            };
            let shapes = queue.shapes.iter().map(|shape| self.shape(*shape)).filter(capped);
            let starving =
                shapes.flat_map(|shape| shape.heads.iter().map(move |head| (head.first.turn, shape)));
            let oldest = starving.min_by_key(|(turn, _)| *turn);
            if let Some((turn, shape)) =
                oldest.filter(|(turn, _)| now - turn.submitted > self.settings.starving_after)
            {
                self.held_back.insert(key, (turn.id, shape.kind.demand.clone()));
            }
        }
    }

    /// Where a quota was lowered since, or devices went, the job may never start for which the others wait.
    fn hold_back_for_none_in_vain(&mut self) {
        let may_start = |key: &QueueKey, id: &Id| {
            let queue = &self.queues[usize::from(key.0)];
            let class = self.waiting.get(id).map(|(class, _)| *class);
            class.is_some_and(|class| self.has_quota_ever(queue, self.shape_of(class)))
        };
        let in_vain = self.held_back.iter().filter(|(key, (id, _))| !may_start(key, id));
        let in_vain: Vec<QueueKey> = in_vain.map(|(key, _)| *key).collect();
        in_vain.iter().for_each(|key| drop(self.held_back.remove(key)));
    }

    /// Whether the quota suffices for it if nothing else of its queue runs, where a device takes jobs that could run it.
    fn has_quota_ever(&self, queue: &Queue, shape: &Shape<Id>) -> bool {
        let (kind, gpus) = (&shape.kind, shape.kind.demand.gpus());
        let suffices = |pool: PoolKey| self.quota(queue, kind, pool).is_none_or(|quota| gpus <= quota);
        shape.pools.iter().any(|pool| suffices(*pool) && self.has_place_ever(shape, *pool))
    }

    /// The types of a pool that a job could get.
    pub(crate) fn kinds_for<'a>(&'a self, of: &'a Kind, pool: PoolKey) -> impl Iterator<Item = &'a String> {
        let accepts = |kind: &String| of.demand.parts.iter().any(|(need, _)| need.accepts(kind));
        self.cluster.pool(pool).kinds.iter().filter(move |kind| accepts(kind))
    }

    /// GPUs that a queue may have by its quota, of the types that a job could get in a pool; none: as many as there are.
    fn quota(&self, queue: &Queue, of: &Kind, pool: PoolKey) -> Option<u64> {
        self.caps(queue, of, pool).map(|(cap, _)| u64::from(cap)).min()
    }

    /// … and may still have.
    fn quota_left(&self, queue: &Queue, of: &Kind, pool: PoolKey) -> Option<u64> {
        self.caps(queue, of, pool).map(|(cap, used)| u64::from(cap.saturating_sub(used))).min()
    }

    /// The caps that count, with what is used of each.
    fn caps<'a>(
        &'a self,
        queue: &'a Queue,
        of: &'a Kind,
        pool: PoolKey,
    ) -> impl Iterator<Item = (u32, u32)> + 'a {
        let cap = |kind: &str| queue.rules.quota.get(kind).copied();
        let used = |kind: &str| queue.used.get(kind).copied().unwrap_or_default();
        let of_kinds = self.kinds_for(of, pool).filter_map(move |kind| Some((cap(kind)?, used(kind))));
        of_kinds.chain(cap(ANY_TYPE).map(|cap| (cap, queue.used_in_all)))
    }
}
