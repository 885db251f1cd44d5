//! A reservation: the time at which a job that does not fit now will, if what runs ends at its limits,
//! and what may start meanwhile without making that later.
//!
//! One per pool. It is sticky: the time stands until its job starts, a device is lost, or a person acts.
//! Whether something delays it is found on the devices as they will be at that time, not on counts.

use crate::cluster::{Cluster, DeviceKey, PoolKey};
use crate::demand::{Demand, Need};
use crate::device::{Device, Free};
use crate::place::Share;
use crate::{NEVER, Time};

/// What one device can do for the job at the reserved time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Use {
    /// How often the first part of the demand fits.
    room: u32,
    /// Whether the second part fits, where the first does not.
    rest: bool,
}

/// What all devices of the pool can do for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Total {
    room: u64,
    /// Devices with room.
    roomy: u32,
    /// Devices for the second part only.
    rest: u32,
}

#[derive(Debug, Clone)]
pub struct Reservation<Id> {
    pub id: Id,
    pub demand: Demand,
    /// When it fits.
    pub at: Time,
    /// Whether it was given because the job had waited for long.
    pub promoted: bool,
    /// By device, those of other pools too.
    uses: Vec<Use>,
    total: Total,
    /// For which time `uses` was looked at: a job whose time has passed may start at any moment.
    horizon: Time,
}

impl Total {
    fn add(&mut self, of: Use) {
        self.room += u64::from(of.room);
        self.roomy += u32::from(of.room > 0);
        self.rest += u32::from(of.rest);
    }

    fn remove(&mut self, of: Use) {
        self.room -= u64::from(of.room);
        self.roomy -= u32::from(of.room > 0);
        self.rest -= u32::from(of.rest);
    }

    /// Whether anything is more than it was.
    #[must_use]
    pub fn exceeds(&self, before: &Self) -> bool {
        self.room > before.room || self.roomy > before.roomy || self.rest > before.rest
    }

    fn suffices(&self, demand: &Demand) -> bool {
        match demand.parts.as_slice() {
            [] => true,
            [(_, times)] => self.room >= u64::from(*times),
            // The first part has whole devices: one that has the rest cannot have a whole one, too.
            [(_, times), ..] => self.roomy > *times || (self.roomy >= *times && self.rest > 0),
        }
    }
}

fn use_of(device: &Device, demand: &Demand, free: Free) -> Use {
    if !device.open || !device.carries(&demand.labels) {
        return Use::default();
    }
    let room = demand.parts.first().map_or(0, |(need, _)| device.room(need, free));
    let rest = room == 0 && demand.parts.get(1).is_some_and(|(need, _)| device.fits(need, free));
    Use { room, rest }
}

impl<Id: Copy> Reservation<Id> {
    /// None: it never fits, as far as the limits say.
    #[must_use]
    pub fn make(cluster: &Cluster, pool: PoolKey, id: Id, demand: &Demand, now: Time) -> Option<Self> {
        let at = earliest(cluster, pool, demand, now)?;
        let (uses, total) = (Vec::new(), Total::default());
        let mut this = Self { id, demand: demand.clone(), at, promoted: false, uses, total, horizon: at };
        this.look(cluster, pool);
        Some(this)
    }

    fn look(&mut self, cluster: &Cluster, pool: PoolKey) {
        self.uses = vec![Use::default(); cluster.keys()];
        self.total = Total::default();
        for key in &cluster.pool(pool).devices {
            self.refresh(cluster, *key);
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
        let place = key.0 as usize;
        if place >= self.uses.len() {
            self.uses.resize(place + 1, Use::default());
        }
        let used = cluster
            .get(key)
            .map_or_else(Use::default, |device| use_of(device, &self.demand, device.free_at(self.horizon)));
        self.total.remove(std::mem::replace(&mut self.uses[place], used));
        self.total.add(used);
    }

    #[must_use]
    pub fn total(&self) -> Total {
        self.total
    }

    /// Whether there is more for it than it needs.
    #[must_use]
    pub fn has_slack(&self) -> bool {
        match self.demand.parts.as_slice() {
            [(_, times)] => self.total.room > u64::from(*times),
            _ => true,
        }
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
        self.uses.get(key.0 as usize).copied().unwrap_or_default()
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

/// The earliest time at which a demand fits, if what runs ends at its limit. What has outrun it counts as if it
/// ended now.
#[must_use]
pub fn earliest(cluster: &Cluster, pool: PoolKey, demand: &Demand, now: Time) -> Option<Time> {
    let mut changes: Vec<(Time, Use, Use)> = Vec::new();
    let mut total = Total::default();
    for key in &cluster.pool(pool).devices {
        let device = cluster.device(*key);
        let first = use_of(device, demand, device.free_at(now));
        total.add(first);
        let mut ends: Vec<Time> =
            device.held().iter().map(|held| held.ends).filter(|end| *end > now).collect();
        ends.sort_unstable();
        ends.dedup();
        let mut before = first;
        for end in ends.into_iter().filter(|end| *end != NEVER) {
            let then = use_of(device, demand, device.free_at(end));
            if then != before {
                changes.push((end, before, then));
                before = then;
            }
        }
    }
    if total.suffices(demand) {
        return Some(now);
    }
    changes.sort_unstable_by_key(|(at, _, _)| *at);
    let mut changes = changes.into_iter().peekable();
    while let Some((at, before, then)) = changes.next() {
        total.remove(before);
        total.add(then);
        let more = changes.peek().is_some_and(|(next, _, _)| *next == at);
        if !more && total.suffices(demand) {
            return Some(at);
        }
    }
    None
}
