//! Devices with GPUs of the same types, found again by how much they have free, now and later.
//!
//! They stand by their number of free GPUs and then by how full they are, so that the best fit is the first that
//! suffices, however many there are. What must always hold: only open devices are found.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::Time;
use crate::cluster::DeviceKey;
use crate::demand::{Demand, Need};
use crate::device::{Device, MAX_GPUS};
use crate::soonest::Soonest;

/// How full a device is: the least free first, then by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fill {
    cpu_milli: i64,
    memory_mb: i64,
    rank: i64,
    pub key: DeviceKey,
}

#[derive(Debug, Clone)]
pub struct Pool {
    pub kinds: Vec<String>,
    pub devices: Vec<DeviceKey>,
    /// Devices that have the same, empty, and how many there are.
    models: BTreeMap<Model, (Device, u32)>,
    /// Open devices, by their number of free GPUs.
    by_free: Vec<BTreeSet<Fill>>,
    /// Bit i: some open device has exactly i GPUs free.
    present: u128,
    /// Of open devices.
    pub gpus: u32,
    pub free_gpus: u32,
    /// How often a device was not as before.
    changes: u64,
    soonest: Soonest,
    /// By seat in `soonest`.
    seats: Vec<DeviceKey>,
    unused: Vec<u32>,
}

/// All of an inventory but the name.
type Model = (Vec<String>, i64, i64, BTreeMap<String, String>);

fn model_of(device: &Device) -> Model {
    let of = &device.inventory;
    (of.gpus.clone(), of.cpu_milli, of.memory_mb, of.labels.clone())
}

impl Pool {
    pub(crate) fn new(kinds: Vec<String>) -> Self {
        Self {
            kinds,
            devices: Vec::new(),
            models: BTreeMap::new(),
            by_free: vec![BTreeSet::new(); MAX_GPUS + 1],
            present: 0,
            gpus: 0,
            free_gpus: 0,
            changes: 0,
            soonest: Soonest::default(),
            seats: Vec::new(),
            unused: Vec::new(),
        }
    }

    /// A device without jobs comes; its seat. It is not listed yet.
    pub(crate) fn add(&mut self, key: DeviceKey, device: &Device) -> u32 {
        self.devices.push(key);
        self.models.entry(model_of(device)).or_insert_with(|| (device.clone(), 0)).1 += 1;
        let seat = self.unused.pop().unwrap_or_else(|| {
            self.seats.push(key);
            u32::try_from(self.seats.len() - 1).expect("fewer devices than u32 has numbers")
        });
        self.seats[seat as usize] = key;
        seat
    }

    /// A device goes that is not listed any more.
    pub(crate) fn remove(&mut self, key: DeviceKey, seat: u32, device: &Device) {
        self.devices.retain(|of| *of != key);
        self.soonest.set(seat as usize, &[]);
        self.unused.push(seat);
        let model = model_of(device);
        if let Some((_, count)) = self.models.get_mut(&model) {
            *count -= 1;
            if *count == 0 {
                self.models.remove(&model);
            }
        }
    }

    pub(crate) fn list(&mut self, device: &Device, rank: i64, key: DeviceKey) {
        let (free, fill) = (device.free_gpu_count(), fill(device, rank, key));
        self.by_free[free as usize].insert(fill);
        self.present |= 1 << free;
        self.changes += 1;
        self.gpus += device.gpu_count();
        self.free_gpus += free;
    }

    pub(crate) fn unlist(&mut self, device: &Device, rank: i64, key: DeviceKey) {
        let (free, fill) = (device.free_gpu_count(), fill(device, rank, key));
        self.changes += 1;
        let bucket = &mut self.by_free[free as usize];
        if bucket.remove(&fill) {
            if bucket.is_empty() {
                self.present &= !(1 << free);
            }
            self.gpus -= device.gpu_count();
            self.free_gpus -= free;
        }
    }

    /// From which times on a device will have GPUs free.
    pub(crate) fn expect(&mut self, seat: u32, device: &Device) {
        let mut times = [0; MAX_GPUS + 1];
        let times = if device.open { device.soonest(&mut times) } else { &[] };
        self.soonest.set(seat as usize, times);
    }

    /// The devices that will ever have so many GPUs free, with that time, the soonest first.
    pub(crate) fn soonest(&self, gpus: u16) -> impl Iterator<Item = (Time, DeviceKey)> {
        self.soonest.first(usize::from(gpus)).map(|(time, seat)| (time, self.seats[seat]))
    }

    /// Never goes back; while it stands, all devices are as they were.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// The most GPUs that are free on one open device.
    #[must_use]
    pub fn largest_hole(&self) -> u32 {
        127_u32.saturating_sub(self.present.leading_zeros())
    }

    /// Open devices with at least so many free GPUs.
    pub(crate) fn open_devices(&self, least: u16) -> impl DoubleEndedIterator<Item = &Fill> {
        self.by_free.iter().skip(usize::from(least)).flatten()
    }

    /// Those that may suffice, the fewest free GPUs first.
    pub(crate) fn fullest_first<'a>(&'a self, need: &Need) -> impl Iterator<Item = &'a Fill> {
        let least = (need.cpu_milli, need.memory_mb);
        let start = Fill { cpu_milli: least.0, memory_mb: i64::MIN, rank: i64::MIN, key: DeviceKey(0) };
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
    pub(crate) fn emptiest_first(&self) -> impl Iterator<Item = &Fill> {
        self.by_free.iter().rev().flat_map(|bucket| bucket.iter().rev())
    }

    /// Devices that could have room, the most free GPUs first, the fullest of those first.
    pub(crate) fn roomiest(&self, least: u16) -> impl Iterator<Item = DeviceKey> {
        let most = self.largest_hole() as usize;
        let buckets = self.by_free.get(usize::from(least)..=most).unwrap_or_default();
        buckets.iter().rev().flatten().map(|fill| fill.key)
    }

    /// At most so many containers have room now, by the number of free GPUs.
    pub(crate) fn room_at_most(&self, gpus: u16) -> u64 {
        if gpus == 0 {
            return u64::MAX;
        }
        let most = self.largest_hole() as usize;
        let buckets = self.by_free.get(usize::from(gpus)..=most).unwrap_or_default();
        (u64::from(gpus)..).zip(buckets).map(|(free, of)| free / u64::from(gpus) * of.len() as u64).sum()
    }

    /// Whether it could run all of it if nothing else ran there.
    pub(crate) fn could_ever(&self, demand: &Demand) -> bool {
        let models = self.models.values().filter(|(device, _)| device.carries(&demand.labels));
        let mut parts: Vec<(&Need, u64)> =
            demand.parts.iter().map(|(need, times)| (need, u64::from(*times))).collect();
        for (device, count) in models {
            let mut count = u64::from(*count);
            // A device takes containers of one part only.
            for (need, left) in &mut parts {
                let room = u64::from(device.room(need, device.empty()));
                if room > 0 && *left > 0 {
                    let devices = left.div_ceil(room).min(count);
                    *left = left.saturating_sub(devices.saturating_mul(room));
                    count -= devices;
                }
            }
        }
        parts.iter().all(|(_, left)| *left == 0)
    }
}

fn fill(device: &Device, rank: i64, key: DeviceKey) -> Fill {
    let free = device.free();
    Fill { cpu_milli: free.cpu_milli, memory_mb: free.memory_mb, rank, key }
}
