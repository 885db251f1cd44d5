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
    /// All of them, with GPUs and without.
    times: u64,
}

/// Needs that differ in their CPUs and memory only: what GPUs are to one of them, they are to all.
#[derive(Debug, Clone)]
struct Kind {
    gpus: Need,
    rest: Vec<Rest>,
    /// What is enough for all of them, and how many those are.
    most: Rest,
}

#[derive(Debug, Clone, Copy, Default)]
struct Rest {
    cpu_milli: i64,
    memory_mb: i64,
    times: u64,
}

impl Usual {
    /// `times` may be counts: they are compared with each other only.
    #[must_use]
    pub fn new(times: impl IntoIterator<Item = (Need, u64)>) -> Self {
        let (mut kinds, mut all): (BTreeMap<Need, Vec<Rest>>, u64) = (BTreeMap::new(), 0);
        for (need, times) in times {
            all = all.saturating_add(times);
            // To one without GPUs they are all fragments, before and after.
            if need.gpus > 0 {
                let Need { cpu_milli, memory_mb, .. } = need;
                let rest = kinds.entry(Need { cpu_milli: 0, memory_mb: 0, ..need }).or_default();
                rest.push(Rest { cpu_milli, memory_mb, times });
            }
        }
        Self { kinds: kinds.into_iter().map(|(gpus, rest)| Kind::new(gpus, rest)).collect(), times: all }
    }
}

impl Kind {
    fn new(gpus: Need, rest: Vec<Rest>) -> Self {
        let most = rest.iter().fold(Rest::default(), |most, of| Rest {
            cpu_milli: most.cpu_milli.max(of.cpu_milli),
            memory_mb: most.memory_mb.max(of.memory_mb),
            times: most.times.saturating_add(of.times),
        });
        Self { gpus, rest, most }
    }

    /// How often one comes that has enough CPUs and memory there.
    fn times_with(&self, left: &Left) -> u64 {
        let fits = |of: &Rest| left.cpu_milli >= of.cpu_milli && left.memory_mb >= of.memory_mb;
        if fits(&self.most) {
            return self.most.times;
        }
        self.rest.iter().map(|of| if fits(of) { of.times } else { 0 }).sum()
    }
}

/// What is left of a device.
#[derive(Clone, Copy)]
struct Left {
    /// GPUs that are free as a whole, and those of which there is some left.
    whole: u64,
    partly: u64,
    /// Thousandths, of the latter.
    gpus: [u16; MAX_GPUS],
    cpu_milli: i64,
    memory_mb: i64,
}

impl Left {
    fn of(device: &Device) -> Self {
        let free = device.free();
        let (cpu_milli, memory_mb) = (free.cpu_milli, free.memory_mb);
        let mut this = Self { whole: 0, partly: 0, gpus: [0; MAX_GPUS], cpu_milli, memory_mb };
        (0..device.gpu_count() as usize).for_each(|place| this.set(place, device.left(place)));
        this
    }

    fn set(&mut self, place: usize, left: u16) {
        let bit = 1 << place;
        self.whole = if left == WHOLE { self.whole | bit } else { self.whole & !bit };
        self.partly = if left > 0 && left < WHOLE { self.partly | bit } else { self.partly & !bit };
        self.gpus[place] = left;
    }

    /// Thousandths of GPUs that are of use to one of a kind, if it has CPUs and memory.
    fn useful(&self, accepted: u64, kind: &Need) -> u32 {
        let mut count = (self.whole & accepted).count_ones();
        let mut sum = count * u32::from(WHOLE);
        let partly = if kind.share < WHOLE { self.partly & accepted } else { 0 };
        for left in places_in(partly).map(|place| self.gpus[place]).filter(|left| *left >= kind.share) {
            count += 1;
            sum += u32::from(left);
        }
        if count < u32::from(kind.gpus) { 0 } else { sum }
    }

    fn take(&mut self, need: &Need, places: u64) {
        places_in(places).for_each(|place| self.set(place, self.gpus[place].saturating_sub(need.share)));
        self.cpu_milli -= need.cpu_milli;
        self.memory_mb -= need.memory_mb;
    }

    fn free(&self) -> u32 {
        let partly = places_in(self.partly).map(|place| u32::from(self.gpus[place]));
        self.whole.count_ones() * u32::from(WHOLE) + partly.sum::<u32>()
    }
}

/// The places of the bits that are set.
fn places_in(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = mask.trailing_zeros() as usize;
        (mask != 0).then(|| {
            mask &= mask - 1;
            place
        })
    })
}

/// How bad it is to have one more container there, smaller is better: how much more of the device would be a fragment
/// for a usual need, on average, in steps of [`STEP`]; of as much, the fewest free GPUs. The device has room for it.
#[must_use]
pub fn spoiled(device: &Device, need: &Need, usual: &Usual) -> i64 {
    let choices = places(device, need).into_iter();
    let Some(least) = choices.map(|places| grown(device, need, usual, places)).min() else {
        return i64::MAX;
    };
    let steps = least.div_euclid(STEP);
    steps * GPUS + i64::from(device.free_gpu_count())
}

/// How much more is free and of no use for a usual need, on average, in millionths of a GPU.
fn grown(device: &Device, need: &Need, usual: &Usual, places: u64) -> i64 {
    let before = Left::of(device);
    let mut after = before;
    after.take(need, places);
    // Thousandths of GPUs that are of use, by how often: exact, so that it is the same in whatever order it is added.
    let lost = usual.kinds.iter().map(|kind| {
        let accepted = device.accepted(&kind.gpus);
        let useful = |left: &Left| match left.useful(accepted, &kind.gpus) {
            0 => 0,
            useful => i128::from(useful) * i128::from(kind.times_with(left)),
        };
        useful(&before) - useful(&after)
    });
    let (lost, all) = (lost.sum::<i128>(), i128::from(usual.times.max(1)));
    let taken = i128::from(before.free() - after.free());
    let grown = (lost - taken * all) * 1000;
    i64::try_from((2 * grown + all).div_euclid(2 * all)).unwrap_or(i64::MAX)
}

/// The GPUs of the device that spoil least.
#[must_use]
pub fn best_places(device: &Device, need: &Need, usual: &Usual) -> u64 {
    places(device, need).into_iter().min_by_key(|places| grown(device, need, usual, *places)).unwrap_or(0)
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
