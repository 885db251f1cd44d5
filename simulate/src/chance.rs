//! Chance: one generator per seed, the same on every platform (SplitMix64, by Steele, Lea and Flood).
//!
//! Only two things here are random: what the [generator](crate::generate) makes up, and the order in which
//! pods [fill](crate::fill) a cluster. A replay of a trace has no chance in it.

pub struct Chance {
    state: u64,
}

impl Chance {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.any() % end.max(1) as u64).unwrap_or(0)
    }

    /// From 0 to below 1.
    pub fn part(&mut self) -> f64 {
        // 53 bits are what an f64 holds exactly.
        (self.any() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Normally distributed around 0 with deviation 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.part()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.part()).cos()
    }

    /// An index of `weights`, as often as its weight says.
    pub fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.part() * weights.iter().sum::<f64>();
        for (index, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return index;
            }
        }
        weights.len().saturating_sub(1)
    }

    /// In any order, each as likely (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_everywhere() {
        let mut chance = Chance::new(1);
        assert_eq!([chance.any(), chance.any()], [0x910a_2dec_8902_5cc1, 0xbeeb_8da1_658e_ec67]);
    }

    #[test]
    fn shares_and_deviation_are_as_asked() {
        let mut chance = Chance::new(7);
        let often = (0..10_000).filter(|_| chance.weighted(&[3.0, 1.0]) == 0).count();
        assert!((7_300..7_700).contains(&often), "{often} of 10,000 at a weight of three quarters");
        let squares: f64 = (0..10_000).map(|_| chance.normal().powi(2)).sum();
        assert!((9_500.0..10_500.0).contains(&squares), "the variance is {}", squares / 10_000.0);
    }
}
