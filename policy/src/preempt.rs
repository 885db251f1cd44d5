//! Who has to go: preemptible jobs, for jobs within their queue's quota that wait and would then start.
//!
//! What becomes free is offered in order, and preemptible jobs come last, and [not before](crate::clearing) all who have
//! to go are gone. So room is made only where a job would be placed by the same rules as any other, and no more of it
//! than its queue may have.

mod victims;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::Hash;

use rustc_hash::FxHashMap;

use crate::clearing::Clearing;
use crate::cluster::{Cluster, DeviceKey, PoolKey};
use crate::device::Held;
use crate::place::{Bounds, choose_gpus, find};
use crate::queue::{Order, Placement};
use crate::waiting::Entry;
use crate::{ClassKey, Kind, NEVER, Policy, QueueKey, Shape, Time};

/// Jobs for which room is made in one pass.
const JOBS: usize = 32;
/// It is looked for victims this often: the whole cluster is copied for that.
const EVERY: Time = 1_000;

/// One that may have to go, and what it has on one device.
#[derive(Debug, Clone, Copy)]
struct Victim<Id> {
    id: Id,
    started: Time,
    held: Held,
}

/// What would be if some had gone.
struct Trial<'a, Id> {
    policy: &'a Policy<Id>,
    now: Time,
    /// Without those that were told to go, and with those for whom that was.
    later: Cluster,
    /// Those that may go, by device, the youngest first.
    on: BTreeMap<DeviceKey, Vec<Victim<Id>>>,
    going: BTreeSet<Id>,
    /// Those, and whoever leaves already, by device.
    leaving: BTreeMap<DeviceKey, Vec<Id>>,
    clearings: Vec<Clearing<Id>>,
    /// GPUs that queues will have more, and jobs that groups will.
    of_queues: FxHashMap<QueueKey, u64>,
    of_groups: FxHashMap<u64, u32>,
}

impl<Id: Copy + Ord + Hash + Debug> Policy<Id> {
    /// Those that are to be stopped, so that jobs which did not fit in this pass will. They count as running until
    /// they are [finished](Policy::finish). And when others may be found, though nothing happens until then.
    pub(crate) fn preempt(&mut self, short: &[(ClassKey, Entry<Id>)], now: Time) -> (Vec<Id>, Option<Time>) {
        if short.is_empty() || self.preemptible_count == 0 {
            return (Vec::new(), None);
        }
        if now < self.next_preemption {
            return (Vec::new(), Some(self.next_preemption));
        }
        self.next_preemption = now.saturating_add(EVERY);
        let again_at = self.next_that_may_go(now);
        let on = self.may_go(now);
        if on.is_empty() && !self.running.values().any(|running| running.leaving) {
            return (Vec::new(), again_at);
        }
        let mut trial = Trial::new(self, on, now);
        for (key, entry) in self.short_jobs(short) {
            trial.make_room(key, entry);
        }
        let Trial { going, clearings, .. } = trial;
        let going: Vec<Id> = going.into_iter().collect();
        going.iter().for_each(|id| self.leaves(id));
        self.clearings.put(clearings);
        (going, again_at)
    }

    /// When the next one has run for so long that it may be stopped.
    fn next_that_may_go(&self, now: Time) -> Option<Time> {
        let young = self.running.values().filter(|running| running.kind.preemptible && !running.leaving);
        let times = young.map(|running| running.started.saturating_add(self.settings.least_runtime));
        times.filter(|at| *at > now).min()
    }

    fn short_jobs(&self, short: &[(ClassKey, Entry<Id>)]) -> Vec<(ClassKey, Entry<Id>)> {
        let of_class = |(key, first): &(ClassKey, Entry<Id>)| {
            let line = &self.class(*key).line;
            let strict = self.queues[usize::from(self.class(*key).kind.queue.0)].rules.order == Order::Fifo;
            let most = if strict { 1 } else { JOBS };
            let entries: Vec<Entry<Id>> =
                line.iter().filter(|entry| entry.turn >= first.turn).take(most).copied().collect();
            entries.into_iter().map(|entry| (*key, entry)).collect::<Vec<_>>()
        };
        short.iter().flat_map(of_class).take(JOBS).collect()
    }

    fn may_go(&self, now: Time) -> BTreeMap<DeviceKey, Vec<Victim<Id>>> {
        let mut on: BTreeMap<DeviceKey, Vec<Victim<Id>>> = BTreeMap::new();
        let may = self.running.iter().filter(|(_, running)| {
            running.kind.preemptible
                && !running.leaving
                && now - running.started >= self.settings.least_runtime
        });
        for (id, running) in may {
            let there = running.places.iter().filter(|(device, _)| self.cluster.get(*device).is_some());
            for (device, held) in there {
                let victim = Victim { id: *id, started: running.started, held: *held };
                on.entry(*device).or_default().push(victim);
            }
        }
        for victims in on.values_mut() {
            victims.sort_unstable_by_key(|victim| (std::cmp::Reverse(victim.started), victim.id));
        }
        on
    }
}

impl<'a, Id: Copy + Ord + Hash + Debug> Trial<'a, Id> {
    fn new(policy: &'a Policy<Id>, on: BTreeMap<DeviceKey, Vec<Victim<Id>>>, now: Time) -> Self {
        let mut later = policy.cluster.clone();
        let mut leaving: BTreeMap<DeviceKey, Vec<Id>> = BTreeMap::new();
        for (id, running) in policy.running.iter().filter(|(_, running)| running.leaving) {
            for (device, held) in &running.places {
                later.release(*device, held);
                leaving.entry(*device).or_default().push(*id);
            }
        }
        let (of_queues, of_groups) = (FxHashMap::default(), FxHashMap::default());
        let (going, clearings) = (BTreeSet::new(), Vec::new());
        Self { policy, now, later, on, going, leaving, clearings, of_queues, of_groups }
    }

    /// Places one job as it will be, with as few gone as possible.
    fn make_room(&mut self, key: ClassKey, entry: Entry<Id>) {
        let Shape { kind, pools, .. } = self.policy.shape_of(key);
        let pools: Vec<PoolKey> = pools.iter().copied().filter(|pool| self.may_have(kind, *pool)).collect();
        let id = entry.turn.id;
        if pools.iter().any(|pool| self.settle(*pool, kind, entry).map(|on| self.clear(id, on)).is_some()) {
            return;
        }
        for pool in pools {
            let victims = self.victims(pool, kind, entry);
            victims.iter().for_each(|id| self.release(id));
            if !victims.is_empty()
                && let Some(devices) = self.settle(pool, kind, entry)
            {
                for id in &victims {
                    for (device, _) in self.places(id) {
                        self.leaving.entry(*device).or_default().push(*id);
                    }
                }
                self.going.extend(victims);
                return self.clear(id, devices);
            }
            victims.iter().for_each(|id| self.take_back(id));
        }
    }

    /// It will be placed there when all have gone that leave.
    fn clear(&mut self, for_whom: Id, devices: Vec<DeviceKey>) {
        let going: Vec<Id> =
            devices.iter().filter_map(|device| self.leaving.get(device)).flatten().copied().collect();
        if !going.is_empty() {
            self.clearings.push(Clearing { for_whom, going, devices });
        }
    }

    fn may_have(&self, kind: &Kind, pool: PoolKey) -> bool {
        let gpus = self.of_queues.get(&kind.queue).copied().unwrap_or_default();
        let jobs = kind.group.and_then(|(group, _)| self.of_groups.get(&group)).copied().unwrap_or_default();
        self.policy.is_within_caps_beside(kind, pool, gpus, jobs)
    }

    fn bounds(&self, pool: PoolKey, kind: &Kind, entry: Entry<Id>) -> Bounds<'a, Id> {
        let policy: &'a Policy<Id> = self.policy;
        let reservation = policy.reservations.get(&pool).filter(|of| of.id != entry.turn.id);
        let end = entry.limit.saturating_add(self.now);
        Bounds {
            reservation,
            end,
            now: self.now,
            avoid: kind.avoid,
            closed: None,
            placement: Placement::Pack,
        }
    }

    /// Puts it where it would be placed in that pool, if it would.
    fn settle(&mut self, pool: PoolKey, kind: &Kind, entry: Entry<Id>) -> Option<Vec<DeviceKey>> {
        let bounds = self.bounds(pool, kind, entry);
        let shares = find(&self.later, pool, &kind.demand, &bounds).ok()?;
        for share in &shares {
            let (need, _) = &kind.demand.parts[share.part];
            for _ in 0..share.times {
                let device = self.later.device(share.device);
                let gpus = choose_gpus(device, need, bounds.placement, &self.later.usual);
                let held = device.hold(need, gpus, NEVER, false);
                self.later.take(share.device, held);
            }
        }
        *self.of_queues.entry(kind.queue).or_default() += kind.demand.gpus();
        if let Some((group, _)) = kind.group {
            *self.of_groups.entry(group).or_default() += 1;
        }
        Some(shares.iter().map(|share| share.device).collect())
    }

    fn release(&mut self, id: &Id) {
        for (device, held) in self.places(id) {
            self.later.release(*device, held);
        }
    }

    fn take_back(&mut self, id: &Id) {
        for (device, held) in self.places(id) {
            self.later.take(*device, *held);
        }
    }

    fn places(&self, id: &Id) -> &'a [(DeviceKey, Held)] {
        let policy: &'a Policy<Id> = self.policy;
        policy.running.get(id).map_or(&[], |running| running.places.as_slice())
    }
}
