//! Chance: one generator per seed, the same on every platform (SplitMix64, by Steele, Lea and Flood).

use std::cell::Cell;

use uuid::Uuid;

pub struct Chance {
    state: Cell<u64>,
}

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self { state: Cell::new(seed) }
    }

    pub fn next(&self) -> u64 {
        let state = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(state);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// True once in `n` times; never for 0.
    pub fn one_in(&self, n: u64) -> bool {
        n != 0 && self.next().is_multiple_of(n)
    }

    /// Short or long: each doubling up to `high` is as likely as the one before.
    pub fn skewed(&self, low: u64, high: u64) -> u64 {
        let doublings = u64::from((high / low.max(1)).max(1).ilog2());
        let least = low << self.between(0, doublings);
        self.between(least, (2 * least).min(high).max(least))
    }

    pub fn pick<'a, T>(&self, from: &'a [T]) -> &'a T {
        let place = usize::try_from(self.next() % from.len().max(1) as u64).unwrap_or(0);
        &from[place]
    }

    pub fn uuid(&self) -> Uuid {
        Uuid::from_u64_pair(self.next(), self.next())
    }
}
