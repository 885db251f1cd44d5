//! Fragmentation gradient descent: where a container spoils least for those that usually come.
//!
//! The idea and the measure are of Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing
//! Workloads with Fragmentation Gradient Descent" (USENIX ATC 2023): a GPU that is free, and that a usual
//! need cannot use on its device for lack of GPUs, CPUs, memory or its type, is a fragment for that need.

use std::collections::BTreeMap;

use crate::demand::{Need, WHOLE};
use crate::device::{Device, MAX_GPUS};

/// What is spoiled is compared in steps of 0.02 GPUs, here in millionths: smaller differences say nothing, and among devices
/// that are as good the fullest keeps the others whole. It allocates 95.3 % of the GPUs of Alibaba's openb, and 94.4 % without.
const STEP: i64 = 20_000;
/// More than a device has free.
const GPUS: i64 = MAX_GPUS as i64 + 1;

/// Needs that usually come, with how often.
#[derive(Debug, Clone, Default)]
pub struct Usual {
    kinds: Vec<Kind>,
}

/// Needs that differ in their CPUs and memory only: what GPUs are to one of them, they are to all.
#[derive(Debug, Clone)]
struct Kind {
    gpus: Need,
    rest: Vec<Rest>,
}

#[derive(Debug, Clone)]
struct Rest {
    cpu_milli: i64,
    memory_mb: i64,
    /// How often it comes, of all needs with GPUs and without.
    part: f64,
}

impl Usual {
    /// `times` may be counts: they are compared with each other only.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "parts of a sum")]
    pub fn new(times: impl IntoIterator<Item = (Need, u64)>) -> Self {
        let times: Vec<(Need, u64)> = times.into_iter().collect();
        let all = times.iter().map(|(_, times)| times).sum::<u64>().max(1);
        let mut kinds: BTreeMap<Need, Vec<Rest>> = BTreeMap::new();
        // To one without GPUs they are all fragments, before and after.
        for (need, times) in times.into_iter().filter(|(need, _)| need.gpus > 0) {
            let Need { cpu_milli, memory_mb, .. } = need;
            let rest = Rest { cpu_milli, memory_mb, part: times as f64 / all as f64 };
            kinds.entry(Need { cpu_milli: 0, memory_mb: 0, ..need }).or_default().push(rest);
        }
        Self { kinds: kinds.into_iter().map(|(gpus, rest)| Kind { gpus, rest }).collect() }
    }
}

/// What is left of a device.
struct Left {
    gpus: [u16; MAX_GPUS],
    count: usize,
    cpu_milli: i64,
    memory_mb: i64,
}

impl Left {
    fn of(device: &Device) -> Self {
        let count = device.gpu_count() as usize;
        let mut gpus = [0; MAX_GPUS];
        for (place, left) in gpus.iter_mut().enumerate().take(count) {
            *left = device.left(place);
        }
        let free = device.free();
        Self { gpus, count, cpu_milli: free.cpu_milli, memory_mb: free.memory_mb }
    }

    /// Thousandths of GPUs that are of use to one of a kind, if it has CPUs and memory.
    fn useful(&self, device: &Device, kind: &Need) -> u32 {
        let accepted = device.accepted(kind);
        let gpus = self.gpus[..self.count].iter().enumerate();
        let of_use = gpus.filter(|(place, left)| accepted & (1 << place) != 0 && **left >= kind.share);
        let (count, usable) = of_use.fold((0, 0), |(n, sum), (_, left)| (n + 1, sum + u32::from(*left)));
        if count < u32::from(kind.gpus) { 0 } else { usable }
    }

    /// Thousandths of GPUs that are free and of no use, for a usual need on average.
    fn expected(&self, device: &Device, usual: &Usual) -> f64 {
        let free: u32 = self.gpus[..self.count].iter().map(|left| u32::from(*left)).sum();
        let fits = |rest: &&Rest| self.cpu_milli >= rest.cpu_milli && self.memory_mb >= rest.memory_mb;
        let useful = usual.kinds.iter().map(|kind| match self.useful(device, &kind.gpus) {
            0 => 0.0,
            useful => f64::from(useful) * kind.rest.iter().filter(fits).map(|rest| rest.part).sum::<f64>(),
        });
        f64::from(free) - useful.sum::<f64>()
    }

    fn take(&mut self, need: &Need, places: u64) {
        let taken = self.gpus.iter_mut().enumerate().filter(|(place, _)| places & (1 << place) != 0);
        taken.for_each(|(_, left)| *left = left.saturating_sub(need.share));
        self.cpu_milli -= need.cpu_milli;
        self.memory_mb -= need.memory_mb;
    }
}

/// How bad it is to have one more container there, smaller is better: how much more of the device would be a fragment
/// for a usual need, on average, in steps of [`STEP`]; of as much, the fewest free GPUs. The device has room for it.
#[must_use]
pub fn spoiled(device: &Device, need: &Need, usual: &Usual) -> i64 {
    let before = Left::of(device).expected(device, usual);
    let choices = places(device, need).into_iter();
    let Some(least) = choices.map(|places| grown(device, need, usual, places, before)).min() else {
        return i64::MAX;
    };
    let steps = least.div_euclid(STEP);
    steps * GPUS + i64::from(device.free_gpu_count())
}

/// In millionths of a GPU, so that it can be ordered.
#[allow(clippy::cast_possible_truncation, reason = "at most 64 GPUs in millionths")]
fn grown(device: &Device, need: &Need, usual: &Usual, places: u64, before: f64) -> i64 {
    let mut after = Left::of(device);
    after.take(need, places);
    ((after.expected(device, usual) - before) * 1000.0).round() as i64
}

/// The GPUs of the device that spoil least.
#[must_use]
pub fn best_places(device: &Device, need: &Need, usual: &Usual) -> u64 {
    let before = Left::of(device).expected(device, usual);
    places(device, need)
        .into_iter()
        .min_by_key(|places| grown(device, need, usual, *places, before))
        .unwrap_or(0)
}

/// The choices that differ: GPUs that can be shared, one of each type with as much left; else just the first free ones.
fn places(device: &Device, need: &Need) -> Vec<u64> {
    if need.gpus == 0 {
        return vec![0];
    }
    if need.share == WHOLE {
        return vec![lowest(device.free().gpus & device.accepted(need), u32::from(need.gpus))];
    }
    let mut choices: Vec<(u16, &String, u64)> = shareable(device, need)
        .map(|place| (device.left(place), &device.inventory.gpus[place], 1 << place))
        .collect();
    choices.sort_unstable();
    choices.dedup_by_key(|(left, kind, _)| (*left, *kind));
    choices.into_iter().map(|(.., place)| place).collect()
}

/// For a shared GPU: the one with least left that suffices.
#[must_use]
pub fn place_for_share(device: &Device, need: &Need) -> Option<usize> {
    shareable(device, need).min_by_key(|place| device.left(*place))
}

/// The GPUs of which so much is left.
fn shareable(device: &Device, need: &Need) -> impl Iterator<Item = usize> {
    let accepted = device.accepted(need);
    (0..MAX_GPUS).filter(move |place| accepted & (1 << place) != 0 && device.left(*place) >= need.share)
}

/// The lowest `count` bits that are set.
#[must_use]
pub fn lowest(mut mask: u64, count: u32) -> u64 {
    let mut chosen = 0;
    for _ in 0..count {
        let bit = mask & mask.wrapping_neg();
        chosen |= bit;
        mask &= !bit;
    }
    chosen
}
