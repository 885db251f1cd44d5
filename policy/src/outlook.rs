//! What a pool can do for a demand, now and later, if what runs ends at its limits.
//!
//! Only devices are looked at that have as many GPUs free as the demand needs of one, in the order of the time at which
//! they have. What has outrun its limit counts as if it ended now.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::cluster::{Cluster, DeviceKey, PoolKey};
use crate::demand::Demand;
use crate::device::{Device, Free};
use crate::place::least_gpus;
use crate::{NEVER, Time};

/// What one device can do for the job at the reserved time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
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

impl Total {
    pub fn add(&mut self, of: Use) {
        self.room += u64::from(of.room);
        self.roomy += u32::from(of.room > 0);
        self.rest += u32::from(of.rest);
    }

    pub fn remove(&mut self, of: Use) {
        self.room -= u64::from(of.room);
        self.roomy -= u32::from(of.room > 0);
        self.rest -= u32::from(of.rest);
    }

    /// Whether there is room for more than it.
    #[must_use]
    pub fn has_slack(&self, demand: &Demand) -> bool {
        match demand.parts.as_slice() {
            [(_, times)] => self.room > u64::from(*times),
            _ => true,
        }
    }

    /// Whether anything is more than it was.
    #[must_use]
    pub fn exceeds(&self, before: &Self) -> bool {
        self.room > before.room || self.roomy > before.roomy || self.rest > before.rest
    }

    /// Whether all of it has room.
    #[must_use]
    pub fn suffices(&self, demand: &Demand) -> bool {
        match demand.parts.as_slice() {
            [] => true,
            [(_, times)] => self.room >= u64::from(*times),
            // The first part has whole devices: one that has the rest cannot have a whole one, too.
            [(_, times), ..] => self.roomy > *times || (self.roomy >= *times && self.rest > 0),
        }
    }
}

#[must_use]
pub fn use_of(device: &Device, demand: &Demand, free: Free) -> Use {
    if !device.open || !device.carries(&demand.labels) {
        return Use::default();
    }
    let room = demand.parts.first().map_or(0, |(need, _)| device.room(need, free));
    let rest = room == 0 && demand.parts.get(1).is_some_and(|(need, _)| device.fits(need, free));
    Use { room, rest }
}

/// The devices that can be of any use for it by a time.
pub fn by(
    cluster: &Cluster,
    pool: PoolKey,
    demand: &Demand,
    horizon: Time,
) -> impl Iterator<Item = DeviceKey> {
    soonest(cluster, pool, demand).take_while(move |(time, _)| *time <= horizon).map(|(_, key)| key)
}

/// The devices that will ever be of use, with a time before which they are not, in its order.
fn soonest(cluster: &Cluster, pool: PoolKey, demand: &Demand) -> impl Iterator<Item = (Time, DeviceKey)> {
    let least = demand.parts.iter().map(|(need, _)| least_gpus(need)).min().unwrap_or(0);
    cluster.pool(pool).soonest(least)
}

/// The earliest time at which a demand fits.
#[must_use]
pub fn earliest(cluster: &Cluster, pool: PoolKey, demand: &Demand, now: Time) -> Option<Time> {
    let mut devices = soonest(cluster, pool, demand).peekable();
    let mut changes: BinaryHeap<Reverse<(Time, DeviceKey, Use, Use)>> = BinaryHeap::new();
    let mut total = Total::default();
    let mut at = now;
    loop {
        while let Some((_, key)) = devices.next_if(|(time, _)| *time <= at) {
            let of_device = changes_of(cluster.device(key), key, demand, now);
            changes.extend(of_device.into_iter().map(Reverse));
        }
        while let Some(Reverse((_, _, before, then))) = changes.peek().filter(|of| of.0.0 <= at).copied() {
            changes.pop();
            total.remove(before);
            total.add(then);
        }
        if total.suffices(demand) {
            return Some(at);
        }
        let next = changes.peek().map(|of| of.0.0);
        at = next.into_iter().chain(devices.peek().map(|(time, _)| *time)).min()?;
    }
}

/// The use of one device from now on: when it becomes another, what it was before, and what then.
fn changes_of(
    device: &Device,
    key: DeviceKey,
    demand: &Demand,
    now: Time,
) -> Vec<(Time, DeviceKey, Use, Use)> {
    let mut before = Use::default();
    let mut changes = Vec::new();
    let ends = device.held().iter().map(|held| held.ends).filter(|end| *end > now && *end != NEVER);
    for at in std::iter::once(now).chain(ends) {
        let then = use_of(device, demand, device.free_at(at));
        if then != before {
            changes.push((at, key, std::mem::replace(&mut before, then), then));
        }
    }
    changes
}
