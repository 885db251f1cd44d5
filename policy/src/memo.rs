//! What was found not to fit, so that nobody looks again before something has become free.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Time;
use crate::cluster::{Cluster, DeviceKey, PoolKey};
use crate::demand::{Demand, Need};
use crate::outlook::Total;
use crate::reservation::Reservation;
use crate::state::Kind;

/// Needs to remember per pool; the smallest of them speak for all larger ones.
const MOST: usize = 32;

#[derive(Debug, Clone)]
pub struct Memo<Id> {
    pools: BTreeMap<PoolKey, InPool<Id>>,
    /// Where something has become free since.
    freed: Vec<DeviceKey>,
    /// How often something was added.
    learned: u64,
}

#[derive(Debug, Clone)]
struct InPool<Id> {
    /// They fit on no device.
    nowhere: Vec<Need>,
    /// They fit on no device without delaying the reservation, if they run beyond its time.
    hindered: Vec<Need>,
    /// Where several containers go depends on all that is there: what was found holds until the pool changes.
    gangs: Vec<Gang<Id>>,
    rival: Option<(Id, Time, Total)>,
}

/// Several containers were found to fit only so that they would delay a reservation.
#[derive(Debug, Clone)]
struct Gang<Id> {
    demand: Arc<Demand>,
    avoid: Option<DeviceKey>,
    /// Of the pool, until then.
    changes: u64,
    rival: (Id, Time),
}

impl<Id> Default for Memo<Id> {
    fn default() -> Self {
        Self { pools: BTreeMap::new(), freed: Vec::new(), learned: 0 }
    }
}

impl<Id> Default for InPool<Id> {
    fn default() -> Self {
        Self { nowhere: Vec::new(), hindered: Vec::new(), gangs: Vec::new(), rival: None }
    }
}

impl<Id: Copy + Eq> Memo<Id> {
    /// Something other than the end of a job has changed.
    pub fn forget(&mut self) {
        self.pools.clear();
        self.freed.clear();
    }

    pub fn freed(&mut self, device: DeviceKey) {
        self.freed.push(device);
    }

    /// Before a pass: forgets what may have become wrong.
    pub fn refresh(&mut self, cluster: &Cluster, reservations: &BTreeMap<PoolKey, Reservation<Id>>) {
        let freed = std::mem::take(&mut self.freed);
        for (pool, memo) in &mut self.pools {
            let rival = reservations.get(pool);
            memo.meet(rival);
            let here = freed.iter().filter(|key| cluster.pool_of(**key) == *pool);
            for key in here {
                let Some(device) = cluster.get(*key) else { continue };
                memo.nowhere.retain(|need| !device.fits(need, device.free()));
                memo.hindered.retain(|need| {
                    !device.fits(need, device.free())
                        || rival.is_some_and(|rival| rival.is_hindered_on(cluster, *key, need))
                });
            }
        }
    }

    /// After a pass, in which less became free: so it stands.
    pub fn note(&mut self, reservations: &BTreeMap<PoolKey, Reservation<Id>>) {
        for (pool, memo) in &mut self.pools {
            memo.meet(reservations.get(pool));
        }
    }

    #[must_use]
    pub fn fits_nowhere(&self, pool: PoolKey, need: &Need) -> bool {
        self.pools.get(&pool).is_some_and(|memo| memo.nowhere.iter().any(|less| asks_for_more(need, less)))
    }

    /// For one that runs beyond the time of that reservation.
    #[must_use]
    pub fn is_hindered(&self, pool: PoolKey, need: &Need, rival: &Reservation<Id>) -> bool {
        self.pools.get(&pool).is_some_and(|memo| {
            memo.rival.is_some_and(|(id, horizon, _)| id == rival.id && horizon == rival.horizon())
                && memo.hindered.iter().any(|less| asks_for_more(need, less))
        })
    }

    #[must_use]
    pub fn learned(&self) -> u64 {
        self.learned
    }

    /// As [`Self::is_hindered`], for several containers in a pool that has changed so often.
    #[must_use]
    pub(crate) fn is_gang_hindered(
        &self,
        pool: PoolKey,
        kind: &Kind,
        changes: u64,
        rival: &Reservation<Id>,
    ) -> bool {
        let is_it = |gang: &Gang<Id>| {
            gang.changes == changes
                && gang.rival == (rival.id, rival.horizon())
                && gang.avoid == kind.avoid
                && Arc::ptr_eq(&gang.demand, &kind.demand)
        };
        self.pools.get(&pool).is_some_and(|memo| memo.gangs.iter().any(is_it))
    }

    pub(crate) fn add_gang(&mut self, pool: PoolKey, kind: &Kind, changes: u64, rival: &Reservation<Id>) {
        self.learned += 1;
        let gangs = &mut self.pools.entry(pool).or_default().gangs;
        gangs.retain(|gang| gang.changes == changes);
        let (demand, avoid) = (kind.demand.clone(), kind.avoid);
        gangs.push(Gang { demand, avoid, changes, rival: (rival.id, rival.horizon()) });
    }

    pub fn add_nowhere(&mut self, pool: PoolKey, need: &Need) {
        self.learned += 1;
        add(&mut self.pools.entry(pool).or_default().nowhere, need);
    }

    pub fn add_hindered(&mut self, pool: PoolKey, need: &Need, rival: &Reservation<Id>) {
        self.learned += 1;
        let memo = self.pools.entry(pool).or_default();
        memo.meet(Some(rival));
        add(&mut memo.hindered, need);
    }
}

impl<Id: Copy + Eq> InPool<Id> {
    /// What is known of hindrances counts for one reservation, as long as it has not gained slack.
    fn meet(&mut self, rival: Option<&Reservation<Id>>) {
        let now = rival.map(|rival| (rival.id, rival.horizon(), rival.total()));
        let is_as_tight = match (&self.rival, &now, rival) {
            (Some((id, horizon, before)), Some((of, at, after)), Some(rival)) => {
                id == of && horizon == at && (!after.exceeds(before) || !rival.has_slack())
            }
            _ => false,
        };
        if !is_as_tight {
            self.hindered.clear();
        }
        self.rival = now;
    }
}

fn add(needs: &mut Vec<Need>, need: &Need) {
    needs.retain(|more| !asks_for_more(more, need));
    if needs.len() < MOST {
        needs.push(need.clone());
    }
}

/// Whether whatever has no place for `less` has none for `need`.
fn asks_for_more(need: &Need, less: &Need) -> bool {
    need.gpus >= less.gpus
        && need.share >= less.share
        && need.cpu_milli >= less.cpu_milli
        && need.memory_mb >= less.memory_mb
        && (less.types.is_empty() || less.types == need.types)
}
