//! All devices, found again by how much they have free.
//!
//! Devices with GPUs of the same types are a *pool*. In it they stand by their number of free GPUs and
//! then by how full they are, so that the best fit is the first that suffices, however many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::demand::{Demand, Need, WHOLE};
use crate::device::{Device, Held, Inventory, MAX_GPUS};
use crate::fgd;
use crate::links::Links;
use crate::place::choose_gpus;
use crate::queue::Placement;

/// A device, as long as it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceKey(pub u32);

/// Devices with GPUs of the same types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolKey(pub u16);

/// How full a device is: the least free first, then by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Fill {
    cpu_milli: i64,
    memory_mb: i64,
    rank: u32,
    key: DeviceKey,
}

#[derive(Debug, Clone)]
pub struct Pool {
    pub kinds: Vec<String>,
    pub devices: Vec<DeviceKey>,
    /// Open devices, by their number of free GPUs.
    by_free: Vec<BTreeSet<Fill>>,
    /// Bit i: some open device has exactly i GPUs free.
    present: u128,
    /// Of open devices.
    pub gpus: u32,
    pub free_gpus: u32,
}

#[derive(Debug, Clone, Default)]
pub struct Cluster {
    devices: Vec<Option<Device>>,
    pool_of: Vec<PoolKey>,
    /// The place of each device in the order of names.
    ranks: Vec<u32>,
    /// All devices in the order of their names.
    by_name: Vec<DeviceKey>,
    pools: Vec<Pool>,
    /// Needs that usually come, with how often: what [`Placement::Fgd`] spoils least for.
    pub usual: fgd::Usual,
}

impl Cluster {
    pub fn add(&mut self, inventory: Inventory) -> DeviceKey {
        let key = DeviceKey(u32::try_from(self.devices.len()).expect("fewer devices than u32 has numbers"));
        let device = Device::new(inventory);
        let pool = self.pool_for(&device);
        let name = &device.inventory.name;
        let place = self.by_name.partition_point(|of| self.name(*of) < Some(name));
        self.by_name.insert(place, key);
        self.pools[usize::from(pool.0)].devices.push(key);
        self.devices.push(Some(device));
        self.pool_of.push(pool);
        self.ranks.push(u32::try_from(place).expect("a place among the devices"));
        if place + 1 < self.by_name.len() {
            self.rank_again();
        } else {
            self.list(key);
        }
        key
    }

    /// Takes a device out, with all that it has.
    pub fn remove(&mut self, key: DeviceKey) {
        if self.get(key).is_none() {
            return;
        }
        self.unlist(key);
        self.by_name.retain(|of| *of != key);
        let pool = self.pool_of[key.0 as usize];
        self.pools[usize::from(pool.0)].devices.retain(|of| *of != key);
        self.devices[key.0 as usize] = None;
    }

    fn pool_for(&mut self, device: &Device) -> PoolKey {
        let kinds: Vec<String> = device.kinds().map(str::to_owned).collect();
        let place = self.pools.iter().position(|pool| pool.kinds == kinds).unwrap_or_else(|| {
            let by_free = vec![BTreeSet::new(); MAX_GPUS + 1];
            self.pools.push(Pool { kinds, devices: Vec::new(), by_free, present: 0, gpus: 0, free_gpus: 0 });
            self.pools.len() - 1
        });
        PoolKey(u16::try_from(place).expect("fewer pools than u16 has numbers"))
    }

    fn rank_again(&mut self) {
        let keys = self.by_name.clone();
        keys.iter().for_each(|key| self.unlist(*key));
        for (rank, key) in (0..).zip(&keys) {
            self.ranks[key.0 as usize] = rank;
        }
        keys.iter().for_each(|key| self.list(*key));
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
        self.pool_of[key.0 as usize]
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
    }

    fn fill(&self, key: DeviceKey) -> Option<(PoolKey, usize, u32, Fill)> {
        let device = self.get(key).filter(|device| device.open)?;
        let (free, rank) = (device.free(), self.ranks[key.0 as usize]);
        let fill = Fill { cpu_milli: free.cpu_milli, memory_mb: free.memory_mb, rank, key };
        Some((self.pool_of(key), device.free_gpu_count() as usize, device.gpu_count(), fill))
    }

    fn list(&mut self, key: DeviceKey) {
        let Some((pool, free, all, fill)) = self.fill(key) else { return };
        let pool = &mut self.pools[usize::from(pool.0)];
        pool.by_free[free].insert(fill);
        pool.present |= 1 << free;
        pool.gpus += all;
        pool.free_gpus += u32::try_from(free).expect("at most as many as a mask has bits");
    }

    fn unlist(&mut self, key: DeviceKey) {
        let Some((pool, free, all, fill)) = self.fill(key) else { return };
        let pool = &mut self.pools[usize::from(pool.0)];
        if pool.by_free[free].remove(&fill) {
            if pool.by_free[free].is_empty() {
                pool.present &= !(1 << free);
            }
            pool.gpus -= all;
            pool.free_gpus -= u32::try_from(free).expect("at most as many as a mask has bits");
        }
    }

    /// The device for one container, among the open ones of a pool that `allow` does not rule out.
    pub fn find(
        &self,
        pool: PoolKey,
        need: &Need,
        labels: &BTreeMap<String, String>,
        placement: Placement,
        mut allow: impl FnMut(DeviceKey, &Device) -> bool,
    ) -> Option<DeviceKey> {
        let pool = self.pool(pool);
        let mut suits = |key: DeviceKey| {
            let device = self.device(key);
            device.fits(need, device.free()) && device.carries(labels) && allow(key, device)
        };
        match placement {
            Placement::Pack if need.share < WHOLE => {
                let suiting = pool.open_devices(0).filter(|fill| suits(fill.key));
                let tightness = |fill: &&Fill| (self.tightest_share(fill.key, need), **fill);
                suiting.min_by_key(tightness).map(|fill| fill.key)
            }
            Placement::Pack if pool.kinds.len() > 1 && !need.types.is_empty() => {
                let suiting = pool.open_devices(need.gpus).filter(|fill| suits(fill.key));
                let usable = |fill: &&Fill| {
                    let device = self.device(fill.key);
                    ((device.free().gpus & device.accepted(need)).count_ones(), **fill)
                };
                suiting.min_by_key(usable).map(|fill| fill.key)
            }
            Placement::Pack => pool.fullest_first(need).find(|fill| suits(fill.key)).map(|fill| fill.key),
            Placement::Spread => pool.emptiest_first().find(|fill| suits(fill.key)).map(|fill| fill.key),
            Placement::Fgd => {
                let suiting = pool.open_devices(if need.share < WHOLE { 0 } else { need.gpus });
                let spoils = |fill: &&Fill| (fgd::spoiled(self.device(fill.key), need, &self.usual), **fill);
                suiting.filter(|fill| suits(fill.key)).min_by_key(spoils).map(|fill| fill.key)
            }
        }
    }

    /// Puts one container where it fits best, whatever pool that is in; it stays there until it is
    /// [released](Self::release). For whoever fills a cluster without queues.
    pub fn place(&mut self, need: &Need, placement: Placement) -> Option<(DeviceKey, Held)> {
        let labels = BTreeMap::new();
        let suits = |(key, pool): &(PoolKey, &Pool)| {
            pool.kinds
                .iter()
                .any(|kind| need.accepts(kind))
                .then(|| self.find(*key, need, &labels, placement, |_, _| true))?
        };
        let found: Vec<DeviceKey> = self.pools().filter_map(|pool| suits(&pool)).collect();
        let device = found.into_iter().min_by_key(|key| self.rank_among_pools(*key, need, placement))?;
        let of = self.device(device);
        let held = of.hold(need, choose_gpus(of, need, placement, &self.usual), crate::NEVER, false);
        self.take(device, held);
        Some((device, held))
    }

    /// Compares the best devices of pools as those of one pool are compared.
    fn rank_among_pools(&self, key: DeviceKey, need: &Need, placement: Placement) -> (i64, u32) {
        let device = self.device(key);
        let free = i64::from(device.free_gpu_count());
        let score = match placement {
            Placement::Pack if need.share < WHOLE => {
                let (whole, left, _) = self.tightest_share(key, need);
                i64::from(whole) * i64::from(u16::MAX) + i64::from(left)
            }
            Placement::Pack => free,
            Placement::Spread => -free,
            Placement::Fgd => fgd::spoiled(device, need, &self.usual),
        };
        (score, self.ranks[key.0 as usize])
    }

    /// For a shared GPU: beside others before a whole one; then the fewest whole ones free.
    fn tightest_share(&self, key: DeviceKey, need: &Need) -> (bool, u16, u32) {
        let device = self.device(key);
        let left = fgd::place_for_share(device, need).map_or(WHOLE, |place| device.left(place));
        (left == WHOLE, left, device.free_gpu_count())
    }

    /// Open devices of a pool, the most free GPUs first, the fullest of those first.
    pub fn roomiest(&self, pool: PoolKey) -> impl Iterator<Item = DeviceKey> {
        self.pool(pool).by_free.iter().rev().flatten().map(|fill| fill.key)
    }

    /// Whether a pool could run all of it if nothing else ran there.
    #[must_use]
    pub fn could_ever(&self, pool: PoolKey, demand: &Demand) -> bool {
        let devices = || {
            let all = self.pool(pool).devices.iter().map(|key| self.device(*key));
            all.filter(|device| device.carries(&demand.labels))
        };
        match demand.parts.as_slice() {
            [(need, times)] => {
                let room: u64 = devices().map(|device| u64::from(device.room(need, device.empty()))).sum();
                room >= u64::from(*times)
            }
            parts => {
                let mut parts: Vec<(&Need, u32)> = parts.iter().map(|(need, times)| (need, *times)).collect();
                for device in devices() {
                    let part =
                        parts.iter_mut().find(|(need, left)| *left > 0 && device.fits(need, device.empty()));
                    if let Some((need, left)) = part {
                        *left -= device.room(need, device.empty()).min(*left);
                    }
                }
                parts.iter().all(|(_, left)| *left == 0)
            }
        }
    }
}

impl Pool {
    /// The most GPUs that are free on one open device.
    #[must_use]
    pub fn largest_hole(&self) -> u32 {
        127_u32.saturating_sub(self.present.leading_zeros())
    }

    fn open_devices(&self, least: u16) -> impl Iterator<Item = &Fill> {
        self.by_free.iter().skip(usize::from(least)).flatten()
    }

    /// Those that may suffice, the fewest free GPUs first.
    fn fullest_first<'a>(&'a self, need: &Need) -> impl Iterator<Item = &'a Fill> {
        let least = (need.cpu_milli, need.memory_mb);
        let start = Fill { cpu_milli: least.0, memory_mb: i64::MIN, rank: 0, key: DeviceKey(0) };
        let first = usize::from(need.gpus).min(MAX_GPUS);
        let mut left = self.present & (u128::MAX << first);
        if usize::from(need.gpus) > MAX_GPUS {
            left = 0;
        }
        let buckets = std::iter::from_fn(move || {
            let bucket = left.trailing_zeros();
            (left != 0).then(|| {
                left &= left - 1;
                bucket as usize
            })
        });
        buckets.flat_map(move |bucket| {
            let range = self.by_free[bucket].range((Bound::Included(start), Bound::Unbounded));
            range.filter(move |fill| fill.memory_mb >= least.1)
        })
    }

    /// The most free GPUs first.
    fn emptiest_first(&self) -> impl Iterator<Item = &Fill> {
        self.by_free.iter().rev().flat_map(|bucket| bucket.iter().rev())
    }
}
