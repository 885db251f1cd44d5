//! What queues, groups and preemptible jobs have now, and how much more they may.

use std::fmt::Debug;
use std::hash::Hash;

use crate::cluster::{DeviceKey, PoolKey};
use crate::device::Held;
use crate::queue::ANY_TYPE;
use crate::{Gpus, Kind, Policy, Queue, Running, Time};

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
        let in_group = kind.group.is_none_or(|(group, cap)| self.groups.get(&group).is_none_or(|n| *n < cap));
        let gpus = kind.demand.gpu_milli().div_ceil(1000);
        let queue = &self.queues[usize::from(kind.queue.0)];
        let in_quota = || self.quota_left(queue, pool).is_none_or(|left| gpus <= u64::from(left));
        in_group && (kind.preemptible || in_quota())
    }

    /// GPUs that a queue may still have by its quota, on devices of a pool; none: as many as there are.
    fn quota_left(&self, queue: &Queue, pool: PoolKey) -> Option<u32> {
        if queue.rules.quota.is_empty() {
            return None;
        }
        let in_all = queue.rules.quota.get(ANY_TYPE).map(|cap| cap.saturating_sub(queue.used_in_all));
        let of_kinds = self.cluster.pool(pool).kinds.iter().filter_map(|kind| {
            let cap = queue.rules.quota.get(kind)?;
            Some(cap.saturating_sub(queue.used.get(kind.as_str()).copied().unwrap_or_default()))
        });
        of_kinds.chain(in_all).min()
    }
}
