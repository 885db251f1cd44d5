//! Which of those that may go: the fewest; of as few, those that free least, then the youngest.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;

use super::{Trial, Victim};
use crate::cluster::PoolKey;
use crate::demand::Need;
use crate::device::Free;
use crate::place::find;
use crate::waiting::Entry;
use crate::{Kind, Time};

/// Of so many on one device all combinations are tried.
const TRIED: usize = 10;
/// Devices that are looked at for one job.
const DEVICES: usize = 256;
/// Jobs that are looked at for a gang, the youngest first.
const FOR_A_GANG: usize = 256;

impl<Id: Copy + Ord + Hash + Debug> Trial<'_, Id> {
    /// Those without whom the job has room in the pool.
    pub(super) fn victims(&mut self, pool: PoolKey, kind: &Kind, entry: Entry<Id>) -> Vec<Id> {
        match kind.demand.parts.as_slice() {
            [(need, 1)] => self.on_one_device(pool, kind, need, entry),
            _ => self.for_a_gang(pool, kind, entry),
        }
    }

    fn on_one_device(&self, pool: PoolKey, kind: &Kind, need: &Need, entry: Entry<Id>) -> Vec<Id> {
        let bounds = self.bounds(pool, kind, entry);
        let candidates = self.on.iter().filter(|(key, _)| {
            self.later.get(**key).is_some_and(|device| device.open && device.carries(&kind.demand.labels))
                && self.later.pool_of(**key) == pool
                && !bounds.rival().is_some_and(|rival| rival.is_hindered_on(&self.later, **key, need))
        });
        let sets = candidates.filter_map(|(key, victims)| {
            let device = self.later.device(*key);
            let left: Vec<Victim<Id>> =
                victims.iter().filter(|victim| !self.going.contains(&victim.id)).copied().collect();
            fewest(device.free(), &left, |free| device.fits(need, free))
        });
        let best = sets.take(DEVICES).min_by_key(|(freed, set)| {
            let newest = set.iter().map(|victim| Reverse(victim.started)).max();
            (set.len(), *freed, newest, set.first().map(|victim| victim.id))
        });
        best.map(|(_, set)| set.into_iter().map(|victim| victim.id).collect()).unwrap_or_default()
    }

    /// The youngest until there is room, less those that were not needed after all, the oldest first.
    fn for_a_gang(&mut self, pool: PoolKey, kind: &Kind, entry: Entry<Id>) -> Vec<Id> {
        let there = self.on.iter().filter(|(key, _)| self.later.pool_of(**key) == pool);
        let there = there.flat_map(|(_, victims)| victims).filter(|victim| !self.going.contains(&victim.id));
        let candidates: BTreeSet<(Reverse<Time>, Id)> =
            there.map(|victim| (Reverse(victim.started), victim.id)).collect();
        let mut chosen: Vec<Id> = Vec::new();
        for (_, id) in candidates.into_iter().take(FOR_A_GANG) {
            if self.fits(pool, kind, entry) {
                break;
            }
            self.release(&id);
            chosen.push(id);
        }
        if self.fits(pool, kind, entry) {
            for id in chosen.clone().into_iter().rev() {
                self.take_back(&id);
                if self.fits(pool, kind, entry) {
                    chosen.retain(|of| *of != id);
                } else {
                    self.release(&id);
                }
            }
            chosen.iter().for_each(|id| self.take_back(id));
            return chosen;
        }
        chosen.iter().for_each(|id| self.take_back(id));
        Vec::new()
    }

    fn fits(&self, pool: PoolKey, kind: &Kind, entry: Entry<Id>) -> bool {
        find(&self.later, pool, &kind.demand, &self.bounds(pool, kind, entry)).is_ok()
    }
}

/// The smallest set of `victims`, the youngest first, without which it `fits`, and how many GPUs it frees.
fn fewest<Id: Copy>(
    free: Free,
    victims: &[Victim<Id>],
    fits: impl Fn(Free) -> bool,
) -> Option<(u32, Vec<Victim<Id>>)> {
    let without = |set: &[Victim<Id>]| set.iter().fold(free, |free, victim| free.with(&victim.held));
    if !fits(without(victims)) {
        return None;
    }
    let freed = |set: &[Victim<Id>]| set.iter().map(|victim| victim.held.gpus.count_ones()).sum::<u32>();
    if victims.len() <= TRIED {
        let sets = (1_u32..1 << victims.len()).map(|bits| {
            let chosen = victims.iter().enumerate().filter(|(place, _)| bits & (1 << place) != 0);
            chosen.map(|(_, victim)| *victim).collect::<Vec<_>>()
        });
        let fitting = sets.filter(|set| fits(without(set)));
        return fitting.map(|set| (freed(&set), set)).min_by_key(|(freed, set)| (set.len(), *freed));
    }
    // The youngest that suffice, less those that were not needed, the oldest first.
    let enough = (1..=victims.len()).find(|count| fits(without(&victims[..*count])))?;
    let mut chosen = victims[..enough].to_vec();
    for place in (0..enough).rev() {
        let mut fewer = chosen.clone();
        fewer.remove(place);
        if fits(without(&fewer)) {
            chosen = fewer;
        }
    }
    Some((freed(&chosen), chosen))
}
