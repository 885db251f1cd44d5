//! A device: what it has, what is free, and when the rest will be.

mod free;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Time;
use crate::demand::{Need, WHOLE};
use crate::links::Links;

pub use free::Free;

/// GPUs of one device: as many as a mask has bits.
pub const MAX_GPUS: usize = 64;

/// A device as its worker tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// Unique; the last tie-breaker.
    pub name: String,
    /// The type of each GPU, in their order on the device; those beyond [`MAX_GPUS`] are not used.
    pub gpus: Vec<String>,
    pub cpu_milli: i64,
    pub memory_mb: i64,
    pub labels: BTreeMap<String, String>,
}

/// What one container has on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Bit i: the GPU at place i.
    pub gpus: u64,
    /// Thousandths of each of them.
    pub share: u16,
    pub cpu_milli: i64,
    pub memory_mb: i64,
    /// When its limit is reached.
    pub ends: Time,
    pub preemptible: bool,
}

#[derive(Debug, Clone)]
pub struct Device {
    pub inventory: Inventory,
    /// By type, the places of its GPUs.
    kinds: Vec<(Arc<str>, u64)>,
    all: u64,
    free: Free,
    /// Thousandths left of each GPU; empty as long as none was shared.
    left: Vec<u16>,
    /// The first to end first.
    held: Vec<Held>,
    /// None: all its GPUs are alike.
    pub links: Option<Arc<Links>>,
    /// Whether it takes new jobs.
    pub open: bool,
}

impl Device {
    #[must_use]
    pub fn new(inventory: Inventory) -> Self {
        let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
        for (place, kind) in inventory.gpus.iter().enumerate().take(MAX_GPUS) {
            *kinds.entry(kind).or_default() |= 1 << place;
        }
        let kinds: Vec<(Arc<str>, u64)> =
            kinds.into_iter().map(|(kind, mask)| (Arc::from(kind), mask)).collect();
        let all = kinds.iter().fold(0, |all, (_, mask)| all | mask);
        let free = Free { gpus: all, cpu_milli: inventory.cpu_milli, memory_mb: inventory.memory_mb };
        Self { inventory, kinds, all, free, left: Vec::new(), held: Vec::new(), links: None, open: true }
    }

    /// The types of its GPUs, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.kinds.iter().map(|(kind, _)| &**kind)
    }

    /// The places of the GPUs that `need` accepts.
    #[must_use]
    pub fn accepted(&self, need: &Need) -> u64 {
        if need.types.is_empty() {
            return self.all;
        }
        self.kinds.iter().filter(|(kind, _)| need.accepts(kind)).fold(0, |all, (_, mask)| all | mask)
    }

    /// The types of its GPUs, with the places of each.
    pub(crate) fn places_by_kind(&self) -> &[(Arc<str>, u64)] {
        &self.kinds
    }

    /// The places of its GPUs of a type.
    #[must_use]
    pub fn places_of(&self, kind: &str) -> u64 {
        self.kinds.iter().find(|(of, _)| **of == *kind).map_or(0, |(_, mask)| *mask)
    }

    #[must_use]
    pub fn carries(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.iter().all(|(key, value)| self.inventory.labels.get(key) == Some(value))
    }

    #[must_use]
    pub fn gpu_count(&self) -> u32 {
        self.all.count_ones()
    }

    #[must_use]
    pub fn free(&self) -> Free {
        self.free
    }

    #[must_use]
    pub fn free_gpu_count(&self) -> u32 {
        self.free.gpus.count_ones()
    }

    /// Thousandths left of the GPU at a place.
    #[must_use]
    pub fn left(&self, place: usize) -> u16 {
        match self.left.get(place) {
            Some(left) => *left,
            None if self.free.gpus & (1 << place) != 0 => WHOLE,
            None => 0,
        }
    }

    /// With nothing on it.
    #[must_use]
    pub fn empty(&self) -> Free {
        Free { gpus: self.all, cpu_milli: self.inventory.cpu_milli, memory_mb: self.inventory.memory_mb }
    }

    /// When everything has ended whose limit is reached at `at` or before.
    #[must_use]
    pub fn free_at(&self, at: Time) -> Free {
        self.free_without(|held| held.ends <= at)
    }

    /// If what `gone` says were not there. Shared GPUs count as they are.
    #[must_use]
    pub fn free_without(&self, gone: impl Fn(&Held) -> bool) -> Free {
        let mut free = self.free;
        for held in self.held.iter().filter(|held| gone(held)) {
            free.add(held);
        }
        free
    }

    /// What a container has from now on. Takes nothing: see [`Self::take`].
    #[must_use]
    pub fn hold(&self, need: &Need, gpus: u64, ends: Time, preemptible: bool) -> Held {
        let Need { share, cpu_milli, memory_mb, .. } = *need;
        Held { gpus, share, cpu_milli, memory_mb, ends, preemptible }
    }

    pub fn take(&mut self, held: Held) {
        self.free.cpu_milli -= held.cpu_milli;
        self.free.memory_mb -= held.memory_mb;
        if held.share < WHOLE {
            self.share(held.gpus, |left| left.saturating_sub(held.share));
        } else {
            self.free.gpus &= !held.gpus;
            if !self.left.is_empty() {
                self.share(held.gpus, |_| 0);
            }
        }
        self.hold_till(held);
    }

    fn hold_till(&mut self, held: Held) {
        let place = self.held.partition_point(|of| of.ends <= held.ends);
        self.held.insert(place, held);
    }

    /// The reverse of [`Self::take`].
    pub fn release(&mut self, held: &Held) {
        let Some(place) = self.held.iter().position(|of| of == held) else { return };
        self.held.remove(place);
        self.free.cpu_milli += held.cpu_milli;
        self.free.memory_mb += held.memory_mb;
        if held.share < WHOLE {
            self.share(held.gpus, |left| left + held.share);
        } else {
            self.free.gpus |= held.gpus;
            if !self.left.is_empty() {
                self.share(held.gpus, |_| WHOLE);
            }
        }
    }

    fn share(&mut self, gpus: u64, change: impl Fn(u16) -> u16) {
        if self.left.is_empty() {
            self.left = (0..self.inventory.gpus.len().min(MAX_GPUS)).map(|place| self.left(place)).collect();
        }
        for (place, left) in self.left.iter_mut().enumerate().filter(|(place, _)| gpus & (1 << place) != 0) {
            *left = change(*left);
            let bit = 1 << place;
            self.free.gpus = if *left == WHOLE { self.free.gpus | bit } else { self.free.gpus & !bit };
        }
    }

    /// Another limit for what is held.
    pub fn ends(&mut self, held: &mut Held, ends: Time) {
        let mine = self.held.iter().position(|of| of == held).map(|place| self.held.remove(place));
        held.ends = ends;
        if mine.is_some() {
            self.hold_till(*held);
        }
    }

    /// By number of GPUs, from 0 on: the time from which on as many are free as a whole.
    pub(crate) fn soonest<'a>(&self, times: &'a mut [Time; MAX_GPUS + 1]) -> &'a [Time] {
        let (mut free, mut count) = (self.free.gpus, self.free_gpu_count() as usize);
        times[..=count].fill(Time::MIN);
        for held in self.held.iter().filter(|held| held.share == WHOLE) {
            free |= held.gpus;
            let before = std::mem::replace(&mut count, free.count_ones() as usize);
            times[before + 1..=count].fill(held.ends);
        }
        &times[..=count]
    }

    /// What containers have, the first to end first.
    #[must_use]
    pub fn held(&self) -> &[Held] {
        &self.held
    }
}
