//! A reservation: the time at which a job that does not fit now will, if what runs ends at its limits,
//! and what may start meanwhile without making that later.
//!
//! One per pool. It is sticky: the time stands until its job starts, a device is lost, or a person acts.
//! Whether something delays it is found on the devices as they will be at that time, not on counts.

use std::collections::BTreeMap;

use crate::Time;
use crate::cluster::{Cluster, DeviceKey, PoolKey};
use crate::demand::{Demand, Need};
use crate::outlook::{Total, Use, by, earliest, use_of};
use crate::place::Share;

#[derive(Debug, Clone)]
pub struct Reservation<Id> {
    pub id: Id,
    pub demand: Demand,
    /// When it fits.
    pub at: Time,
    /// Whether it was given because the job had waited for long.
    pub promoted: bool,
    /// Of the devices that are of use for it at its time.
    uses: BTreeMap<DeviceKey, Use>,
    total: Total,
    /// For which time `uses` was looked at: a job whose time has passed may start at any moment.
    horizon: Time,
}

impl<Id: Copy> Reservation<Id> {
    /// None: it never fits, as far as the limits say.
    #[must_use]
    pub fn make(cluster: &Cluster, pool: PoolKey, id: Id, demand: &Demand, now: Time) -> Option<Self> {
        let at = earliest(cluster, pool, demand, now)?;
        let (uses, total) = (BTreeMap::new(), Total::default());
        let mut this = Self { id, demand: demand.clone(), at, promoted: false, uses, total, horizon: at };
        this.look(cluster, pool);
        Some(this)
    }

    fn look(&mut self, cluster: &Cluster, pool: PoolKey) {
        self.uses.clear();
        self.total = Total::default();
        for key in by(cluster, pool, &self.demand, self.horizon) {
            let used = use_of_device(cluster, key, &self.demand, self.horizon);
            if used != Use::default() {
                self.uses.insert(key, used);
                self.total.add(used);
            }
        }
    }

    /// Time passes: what has outrun its limit since counts as if it ended at once.
    pub fn elapse(&mut self, cluster: &Cluster, pool: PoolKey, now: Time) {
        if now > self.horizon {
            self.horizon = now;
            self.look(cluster, pool);
        }
    }

    /// The earliest time as things are now; false: there is none.
    pub fn renew(&mut self, cluster: &Cluster, pool: PoolKey, now: Time) -> bool {
        let Some(at) = earliest(cluster, pool, &self.demand, now) else { return false };
        (self.at, self.horizon) = (at, at);
        self.look(cluster, pool);
        true
    }

    /// After something changed on a device of its pool.
    pub fn refresh(&mut self, cluster: &Cluster, key: DeviceKey) {
        let used = use_of_device(cluster, key, &self.demand, self.horizon);
        let before =
            if used == Use::default() { self.uses.remove(&key) } else { self.uses.insert(key, used) };
        self.total.remove(before.unwrap_or_default());
        self.total.add(used);
    }

    #[must_use]
    pub fn total(&self) -> Total {
        self.total
    }

    /// Those that will have room for it.
    pub fn devices(&self) -> impl Iterator<Item = DeviceKey> {
        self.uses.keys().copied()
    }

    /// Whether there is more for it than it needs.
    #[must_use]
    pub fn has_slack(&self) -> bool {
        self.total.has_slack(&self.demand)
    }

    /// Whether it still fits at its time.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.total.suffices(&self.demand)
    }

    /// Whether containers of another demand would make it later, that run beyond its time.
    #[must_use]
    pub fn is_delayed_by(&self, cluster: &Cluster, other: &Demand, shares: &[Share]) -> bool {
        let mut total = self.total;
        for share in shares {
            let device = cluster.device(share.device);
            let (need, _) = &other.parts[share.part];
            let accepted = device.accepted(need);
            let mut free = device.free_at(self.horizon);
            for _ in 0..share.times {
                free = free.less(need, accepted);
            }
            total.remove(self.use_on(share.device));
            total.add(use_of(device, &self.demand, free));
        }
        !total.suffices(&self.demand)
    }

    fn use_on(&self, key: DeviceKey) -> Use {
        self.uses.get(&key).copied().unwrap_or_default()
    }

    /// How many such containers that run beyond its time leave that device as useful for it as it is.
    #[must_use]
    pub fn harmless_on(&self, cluster: &Cluster, key: DeviceKey, need: &Need) -> u32 {
        let (device, mine) = (cluster.device(key), self.use_on(key));
        let accepted = device.accepted(need);
        let mut free = device.free_at(self.horizon);
        let room = device.room(need, device.free());
        if mine == Use::default() {
            return room;
        }
        (0..room)
            .take_while(|_| {
                free = free.less(need, accepted);
                use_of(device, &self.demand, free) == mine
            })
            .fold(0, |count, _| count + 1)
    }

    /// Whether one container on that device would, that runs beyond the reserved time.
    #[must_use]
    pub fn is_hindered_on(&self, cluster: &Cluster, key: DeviceKey, need: &Need) -> bool {
        let mine = self.use_on(key);
        if mine == Use::default() {
            return false;
        }
        // Enough without that device: the usual answer, and a cheap one.
        let mut total = self.total;
        total.remove(mine);
        if total.suffices(&self.demand) {
            return false;
        }
        let device = cluster.device(key);
        let free = device.free_at(self.horizon).less(need, device.accepted(need));
        total.add(use_of(device, &self.demand, free));
        !total.suffices(&self.demand)
    }

    /// The time up to which whatever runs delays nothing.
    #[must_use]
    pub fn horizon(&self) -> Time {
        self.horizon
    }
}

fn use_of_device(cluster: &Cluster, key: DeviceKey, demand: &Demand, at: Time) -> Use {
    cluster.get(key).map_or_else(Use::default, |device| use_of(device, demand, device.free_at(at)))
}
