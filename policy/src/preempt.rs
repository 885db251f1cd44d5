//! Who has to go: preemptible jobs, for jobs within their queue's quota that wait and would then fit.
//!
//! Nothing is kept free for those: what becomes free is offered in order, and preemptible jobs come last.

use std::fmt::Debug;
use std::hash::Hash;

use crate::cluster::{Cluster, DeviceKey, PoolKey};
use crate::device::{Free, Held};
use crate::place::{Bounds, choose_gpus, find};
use crate::queue::{Order, Placement};
use crate::waiting::Entry;
use crate::{ClassKey, NEVER, Policy, Shape, Time};

/// Jobs for which room is made in one pass.
const JOBS: usize = 32;
/// Of so many candidates on one device all combinations are tried.
const TRIED: usize = 10;

/// One that may have to go.
struct Victim<Id> {
    id: Id,
    started: Time,
    held: Held,
}

impl<Id: Copy + Ord + Hash + Debug> Policy<Id> {
    /// Those that are to be stopped, so that jobs which did not fit in this pass will. They count as running until
    /// they are [finished](Policy::finish).
    pub(crate) fn preempt(&mut self, short: &[(ClassKey, Entry<Id>)], now: Time) -> Vec<Id> {
        let mut going: Vec<Id> = Vec::new();
        if short.is_empty() || self.preemptible_count == 0 {
            return going;
        }
        // As it will be when those have gone that were told to.
        let mut later = self.cluster.clone();
        for running in self.running.values().filter(|running| running.leaving) {
            running.places.iter().for_each(|(device, held)| later.release(*device, held));
        }
        for (key, entry) in self.short_jobs(short) {
            let victims = self.make_room(&mut later, key, entry, &going, now);
            going.extend(victims);
        }
        for id in &going {
            if let Some(running) = self.running.get_mut(id) {
                running.leaving = true;
            }
        }
        going
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

    /// Places one job in the cluster as it will be, with as few gone as possible.
    fn make_room(
        &self,
        later: &mut Cluster,
        key: ClassKey,
        entry: Entry<Id>,
        going: &[Id],
        now: Time,
    ) -> Vec<Id> {
        let Shape { kind, pools, .. } = self.shape_of(key);
        let allowed = pools.iter().filter(|pool| self.is_within_caps(kind, **pool));
        for pool in allowed {
            if self.settle(later, *pool, key, entry, now) {
                return Vec::new();
            }
            let victims = self.victims(later, *pool, key, going, now);
            if victims.is_empty() {
                continue;
            }
            for id in &victims {
                let places =
                    self.running.get(id).map(|running| running.places.as_slice()).unwrap_or_default();
                places.iter().for_each(|(device, held)| later.release(*device, held));
            }
            self.settle(later, *pool, key, entry, now);
            return victims;
        }
        Vec::new()
    }

    /// Whether it fits there; it is put there then.
    fn settle(&self, later: &mut Cluster, pool: PoolKey, key: ClassKey, entry: Entry<Id>, now: Time) -> bool {
        let kind = &self.class(key).kind;
        let (avoid, placement, end) = (kind.avoid, Placement::Pack, entry.limit.saturating_add(now));
        let bounds = Bounds::<Id> { reservation: None, end, now, avoid, placement };
        let Ok(shares) = find(later, pool, &kind.demand, &bounds) else { return false };
        for share in shares {
            let (need, _) = &kind.demand.parts[share.part];
            for _ in 0..share.times {
                let device = later.device(share.device);
                let gpus = choose_gpus(device, need, placement, &later.usual);
                let held = device.hold(need, gpus, NEVER, false);
                later.take(share.device, held);
            }
        }
        true
    }

    fn may_go(&self, id: &Id, going: &[Id], now: Time) -> bool {
        self.running.get(id).is_some_and(|running| {
            running.kind.preemptible
                && !running.leaving
                && !going.contains(id)
                && now - running.started >= self.settings.least_runtime
        })
    }

    /// The fewest that make room for all its containers; of as few, those that free least, then the youngest.
    fn victims(&self, later: &Cluster, pool: PoolKey, key: ClassKey, going: &[Id], now: Time) -> Vec<Id> {
        let demand = &self.class(key).kind.demand;
        let mut on: std::collections::BTreeMap<DeviceKey, Vec<Victim<Id>>> =
            std::collections::BTreeMap::new();
        for (id, running) in &self.running {
            if self.may_go(id, going, now) {
                for (device, held) in &running.places {
                    let victim = Victim { id: *id, started: running.started, held: *held };
                    on.entry(*device).or_default().push(victim);
                }
            }
        }
        on.retain(|device, _| later.get(*device).is_some() && later.pool_of(*device) == pool);
        on.values_mut()
            .for_each(|victims| victims.sort_by_key(|victim| (std::cmp::Reverse(victim.started), victim.id)));
        let Some((need, 1)) = demand.parts.first().filter(|_| demand.parts.len() == 1) else {
            return self.victims_of_gang(later, pool, key, going, now);
        };
        let fits = |device: DeviceKey, free: Free| {
            let device = later.device(device);
            device.open && device.carries(&demand.labels) && device.fits(need, free)
        };
        let sets = on.iter().filter_map(|(device, victims)| {
            fewest(later.device(*device).free(), victims, |free| fits(*device, free))
        });
        let best = sets.min_by_key(|(freed, set)| {
            let newest = set.iter().map(|victim| std::cmp::Reverse(victim.started)).max();
            (set.len(), *freed, newest, set.first().map(|victim| victim.id))
        });
        best.map(|(_, set)| set.into_iter().map(|victim| victim.id).collect()).unwrap_or_default()
    }

    /// The youngest until there is room, less those that were not needed after all, the oldest first.
    fn victims_of_gang(
        &self,
        later: &Cluster,
        pool: PoolKey,
        key: ClassKey,
        going: &[Id],
        now: Time,
    ) -> Vec<Id> {
        let demand = &self.class(key).kind.demand;
        let mut candidates: Vec<(std::cmp::Reverse<Time>, Id)> = self
            .running
            .iter()
            .filter(|(id, running)| {
                self.may_go(id, going, now)
                    && running.places.iter().any(|(device, _)| later.pool_of(*device) == pool)
            })
            .map(|(id, running)| (std::cmp::Reverse(running.started), *id))
            .collect();
        candidates.sort_unstable();
        let fits_without = |gone: &[Id]| {
            let mut cluster = later.clone();
            for running in gone.iter().filter_map(|id| self.running.get(id)) {
                running.places.iter().for_each(|(device, held)| cluster.release(*device, held));
            }
            let (avoid, placement) = (None, Placement::Pack);
            let bounds = Bounds::<Id> { reservation: None, end: NEVER, now, avoid, placement };
            find(&cluster, pool, demand, &bounds).is_ok()
        };
        let all: Vec<Id> = candidates.into_iter().map(|(_, id)| id).collect();
        // More gone never make less room.
        let enough = partition_point(all.len(), |count| !fits_without(&all[..count]));
        if enough > all.len() {
            return Vec::new();
        }
        let mut chosen = all[..enough].to_vec();
        for id in all[..enough].iter().rev() {
            let without: Vec<Id> = chosen.iter().copied().filter(|of| of != id).collect();
            if fits_without(&without) {
                chosen = without;
            }
        }
        chosen
    }
}

/// The smallest count in `0..=most` that is not too few; `most + 1`: all are.
fn partition_point(most: usize, too_few: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, most + 1);
    while low < high {
        let middle = usize::midpoint(low, high);
        if middle <= most && too_few(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// The smallest set of `victims`, the youngest first, without which it `fits`, and how many GPUs it frees.
fn fewest<Id>(
    free: Free,
    victims: &[Victim<Id>],
    fits: impl Fn(Free) -> bool,
) -> Option<(u32, Vec<&Victim<Id>>)> {
    let without = |set: &[&Victim<Id>]| set.iter().fold(free, |free, victim| free.with(&victim.held));
    let freed = |set: &[&Victim<Id>]| set.iter().map(|victim| victim.held.gpus.count_ones()).sum::<u32>();
    if victims.len() <= TRIED {
        let sets = (1_u32..1 << victims.len()).map(|bits| {
            let chosen = victims.iter().enumerate().filter(|(place, _)| bits & (1 << place) != 0);
            chosen.map(|(_, victim)| victim).collect::<Vec<_>>()
        });
        let fitting = sets.filter(|set| fits(without(set)));
        return fitting.map(|set| (freed(&set), set)).min_by_key(|(freed, set)| (set.len(), *freed));
    }
    let mut chosen: Vec<&Victim<Id>> = Vec::new();
    for victim in victims {
        chosen.push(victim);
        if fits(without(&chosen)) {
            while let Some(place) = (0..chosen.len()).rev().find(|place| {
                let fewer: Vec<_> =
                    chosen.iter().enumerate().filter(|(of, _)| of != place).map(|(_, v)| *v).collect();
                fits(without(&fewer))
            }) {
                chosen.remove(place);
            }
            return Some((freed(&chosen), chosen));
        }
    }
    None
}
