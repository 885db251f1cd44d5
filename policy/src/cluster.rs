//! All devices, in pools of those with GPUs of the same types.

use std::sync::Arc;

use crate::demand::Demand;
use crate::device::{Device, Held, Inventory};
use crate::fgd;
use crate::links::Links;
use crate::pool::Pool;

/// A device, as long as it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceKey(pub u32);

/// Devices with GPUs of the same types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolKey(pub u16);

/// Between two devices that come one after the other: so many may come between them, give or take, before all are numbered anew.
const GAP: i64 = 1 << 32;

#[derive(Debug, Clone, Default)]
pub struct Cluster {
    devices: Vec<Option<Device>>,
    places: Vec<Place>,
    /// All devices in the order of their names.
    by_name: Vec<DeviceKey>,
    pools: Vec<Pool>,
    /// Needs that usually come, with how often: what [`Placement::Fgd`](crate::queue::Placement::Fgd) spoils least for.
    pub usual: fgd::Usual,
}

/// Where a device is found.
#[derive(Debug, Clone, Copy)]
struct Place {
    pool: PoolKey,
    seat: u32,
    /// Larger than those of the devices whose names are before its own.
    rank: i64,
}

impl Cluster {
    pub fn add(&mut self, inventory: Inventory) -> DeviceKey {
        let key = DeviceKey(u32::try_from(self.devices.len()).expect("fewer devices than u32 has numbers"));
        let device = Device::new(inventory);
        let pool = self.pool_for(&device);
        let name = &device.inventory.name;
        let place = self.by_name.partition_point(|of| self.name(*of) < Some(name));
        let rank = self.rank_at(place);
        self.by_name.insert(place, key);
        let seat = self.pools[usize::from(pool.0)].add(key, &device);
        self.devices.push(Some(device));
        self.places.push(Place { pool, seat, rank: rank.unwrap_or(0) });
        if rank.is_none() {
            self.rank_again(key);
        }
        self.list(key);
        self.expect(key);
        key
    }

    /// Takes a device out, with all that it has.
    pub fn remove(&mut self, key: DeviceKey) {
        self.unlist(key);
        let Some(device) = self.devices.get_mut(key.0 as usize).and_then(Option::take) else { return };
        self.by_name.retain(|of| *of != key);
        let Place { pool, seat, .. } = self.places[key.0 as usize];
        self.pools[usize::from(pool.0)].remove(key, seat, &device);
    }

    fn pool_for(&mut self, device: &Device) -> PoolKey {
        let kinds: Vec<String> = device.kinds().map(str::to_owned).collect();
        let place = self.pools.iter().position(|pool| pool.kinds == kinds).unwrap_or_else(|| {
            self.pools.push(Pool::new(kinds));
            self.pools.len() - 1
        });
        PoolKey(u16::try_from(place).expect("fewer pools than u16 has numbers"))
    }

    /// For a device that comes before the one at that place in the order of names; none: there is no number left.
    fn rank_at(&self, place: usize) -> Option<i64> {
        let rank = |key: &DeviceKey| self.places[key.0 as usize].rank;
        let before = place.checked_sub(1).map(|place| rank(&self.by_name[place]));
        match (before, self.by_name.get(place).map(rank)) {
            (None, None) => Some(0),
            (Some(before), None) => before.checked_add(GAP),
            (None, Some(after)) => after.checked_sub(GAP),
            (Some(before), Some(after)) => Some(i64::midpoint(before, after)).filter(|rank| *rank > before),
        }
    }

    /// With gaps between all; one is not listed yet.
    fn rank_again(&mut self, new: DeviceKey) {
        let keys = self.by_name.clone();
        let listed = || keys.iter().copied().filter(|key| *key != new);
        listed().for_each(|key| self.unlist(key));
        for (rank, key) in (0..).zip(&keys) {
            self.places[key.0 as usize].rank = rank * GAP;
        }
        listed().for_each(|key| self.list(key));
    }

    fn name(&self, key: DeviceKey) -> Option<&String> {
        self.get(key).map(|device| &device.inventory.name)
    }

    #[must_use]
    pub fn get(&self, key: DeviceKey) -> Option<&Device> {
        self.devices.get(key.0 as usize)?.as_ref()
    }

    /// # Panics
    /// When it was removed.
    #[must_use]
    pub fn device(&self, key: DeviceKey) -> &Device {
        self.get(key).expect("only keys of devices that are there are kept")
    }

    #[must_use]
    pub fn pool_of(&self, key: DeviceKey) -> PoolKey {
        self.places[key.0 as usize].pool
    }

    pub fn pools(&self) -> impl Iterator<Item = (PoolKey, &Pool)> {
        (0..).map(PoolKey).zip(&self.pools)
    }

    #[must_use]
    pub fn pool(&self, key: PoolKey) -> &Pool {
        &self.pools[usize::from(key.0)]
    }

    /// In the order of their names.
    pub fn devices(&self) -> impl Iterator<Item = (DeviceKey, &Device)> {
        self.by_name.iter().filter_map(|key| Some((*key, self.get(*key)?)))
    }

    /// As many numbers as were given to devices.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.devices.len()
    }

    pub fn set_links(&mut self, key: DeviceKey, links: Arc<Links>) {
        if let Some(device) = self.devices.get_mut(key.0 as usize).and_then(Option::as_mut) {
            device.links = Some(links);
        }
    }

    pub fn set_open(&mut self, key: DeviceKey, open: bool) {
        self.change(key, |device| device.open = open);
    }

    pub fn take(&mut self, key: DeviceKey, held: Held) {
        self.change(key, |device| device.take(held));
    }

    pub fn release(&mut self, key: DeviceKey, held: &Held) {
        self.change(key, |device| device.release(held));
    }

    pub fn set_end(&mut self, key: DeviceKey, held: &mut Held, ends: crate::Time) {
        self.change(key, |device| device.ends(held, ends));
    }

    fn change(&mut self, key: DeviceKey, change: impl FnOnce(&mut Device)) {
        self.unlist(key);
        if let Some(device) = self.devices.get_mut(key.0 as usize).and_then(Option::as_mut) {
            change(device);
        }
        self.list(key);
        self.expect(key);
    }

    fn list(&mut self, key: DeviceKey) {
        let Place { pool, rank, .. } = self.places[key.0 as usize];
        if let Some(device) = self.devices[key.0 as usize].as_ref().filter(|device| device.open) {
            self.pools[usize::from(pool.0)].list(device, rank, key);
        }
    }

    fn unlist(&mut self, key: DeviceKey) {
        let Some(Place { pool, rank, .. }) = self.places.get(key.0 as usize) else { return };
        if let Some(device) = self.devices[key.0 as usize].as_ref().filter(|device| device.open) {
            self.pools[usize::from(pool.0)].unlist(device, *rank, key);
        }
    }

    /// What it will have free, and when.
    fn expect(&mut self, key: DeviceKey) {
        let Some(Place { pool, seat, .. }) = self.places.get(key.0 as usize) else { return };
        if let Some(device) = &self.devices[key.0 as usize] {
            self.pools[usize::from(pool.0)].expect(*seat, device);
        }
    }

    pub(crate) fn rank(&self, key: DeviceKey) -> i64 {
        self.places[key.0 as usize].rank
    }

    /// Whether a pool could run all of it if nothing else ran there.
    #[must_use]
    pub fn could_ever(&self, pool: PoolKey, demand: &Demand) -> bool {
        self.pool(pool).could_ever(demand)
    }
}
