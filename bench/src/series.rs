//! Samples of one thing, and what is said about them.

/// Samples in the order in which they were taken. Never asked for anything while it is empty: a
/// measurement without a sample has failed before.
#[derive(Debug, Clone, Default)]
pub struct Series(Vec<f64>);

impl Series {
    pub fn add(&mut self, sample: f64) {
        self.0.push(sample);
    }

    #[must_use]
    pub fn samples(&self) -> &[f64] {
        &self.0
    }

    #[must_use]
    pub fn median(&self) -> f64 {
        self.percentile(50.0)
    }

    /// The value below or at which `percent` of the samples lie, between two samples linearly.
    ///
    /// # Panics
    /// When there is no sample.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> f64 {
        assert!(!self.0.is_empty(), "a series has samples");
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let place = percent / 100.0 * (sorted.len() - 1) as f64;
        let below = place.floor();
        let (low, high) = (sorted[below as usize], sorted[place.ceil() as usize]);
        low + (high - low) * (place - below)
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<I: IntoIterator<Item = f64>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_the_samples() {
        let series: Series = [40.0, 10.0, 30.0, 20.0].into_iter().collect();
        assert_eq!(series.percentile(0.0), 10.0);
        assert_eq!(series.median(), 25.0);
        assert_eq!(series.percentile(100.0), 40.0);
        assert_eq!(Series::from_iter([7.0]).percentile(95.0), 7.0);
    }
}
