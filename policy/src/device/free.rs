//! What is free on a device, now or later, and what fits into that.

use crate::demand::{Need, WHOLE};
use crate::device::{Device, Held, MAX_GPUS};

/// What is, or will be, free on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// Bit i: the GPU at place i is free as a whole.
    pub gpus: u64,
    pub cpu_milli: i64,
    pub memory_mb: i64,
}

impl Device {
    /// How often `need` fits into `free`.
    #[must_use]
    pub fn room(&self, need: &Need, free: Free) -> u32 {
        let times = |has: i64, wants: i64| if wants > 0 { (has / wants).max(0) } else { i64::from(u32::MAX) };
        let by_gpus = match (need.gpus, need.share) {
            (0, _) => u32::MAX,
            (gpus, WHOLE) => (free.gpus & self.accepted(need)).count_ones() / u32::from(gpus),
            (_, share) => self.room_for_share(need, share),
        };
        let rest = times(free.cpu_milli, need.cpu_milli).min(times(free.memory_mb, need.memory_mb));
        by_gpus.min(u32::try_from(rest).unwrap_or(u32::MAX))
    }

    fn room_for_share(&self, need: &Need, share: u16) -> u32 {
        let accepted = self.accepted(need);
        let places = (0..MAX_GPUS).filter(|place| accepted & (1 << place) != 0);
        places.map(|place| u32::from(self.left(place) / share.max(1))).sum()
    }

    /// Whether `need` fits into `free`.
    #[must_use]
    pub fn fits(&self, need: &Need, free: Free) -> bool {
        if free.cpu_milli < need.cpu_milli || free.memory_mb < need.memory_mb {
            return false;
        }
        match (need.gpus, need.share) {
            (0, _) => true,
            (gpus, WHOLE) => (free.gpus & self.accepted(need)).count_ones() >= u32::from(gpus),
            (_, share) => self.room_for_share(need, share) > 0,
        }
    }
}

impl Free {
    /// If that were free, too.
    #[must_use]
    pub fn with(mut self, held: &Held) -> Self {
        self.add(held);
        self
    }

    pub(super) fn add(&mut self, held: &Held) {
        if held.share == WHOLE {
            self.gpus |= held.gpus;
        }
        self.cpu_milli += held.cpu_milli;
        self.memory_mb += held.memory_mb;
    }

    /// Without one more container. Which GPUs it has does not matter here, only how many of those accepted.
    #[must_use]
    pub fn less(mut self, need: &Need, accepted: u64) -> Self {
        for _ in 0..need.gpus {
            let usable = self.gpus & accepted;
            self.gpus &= !(usable & usable.wrapping_neg());
        }
        self.cpu_milli -= need.cpu_milli;
        self.memory_mb -= need.memory_mb;
        self
    }
}
