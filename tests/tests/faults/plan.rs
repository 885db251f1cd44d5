//! A schedule made from a seed: which jobs are submitted when, and what breaks when, for how long.
//!
//! Pure. What must always hold: nothing breaks that is broken already, and nothing is asked of Berth
//! that it does not promise (Docker and the way to the broker are never away together: the fence could
//! not kill).

mod faults;
mod jobs;

use std::time::Duration;

use berth_tests::services::LiveRestore;

pub use self::faults::{Fault, Planned};
pub use self::jobs::{PlannedJob, Wish};
use crate::chance::Chance;

/// As short as the scheduler allows for a fence that has time to work.
pub const FENCE_AFTER: Duration = s(8);
/// At least ten seconds later; see the scheduler's `--lost-after`.
pub const LOST_AFTER: Duration = s(20);
/// Nothing is submitted and nothing is broken later.
pub const LENGTH: Duration = s(60);
pub const WORKERS: usize = 2;

#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub seed: u64,
    pub dockerd: LiveRestore,
    /// In the order of their times.
    pub faults: Vec<Planned>,
    pub jobs: Vec<PlannedJob>,
}

impl Plan {
    pub fn from_seed(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        Self {
            seed,
            dockerd: faults::live_restore(&mut chance),
            faults: faults::draw(&mut chance),
            jobs: jobs::draw(&mut chance),
        }
    }
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Between two durations, the second included.
type Span = (Duration, Duration);

fn within(chance: &mut Chance, (least, most): Span) -> Duration {
    chance.between(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_schedule() {
        assert_eq!(Plan::from_seed(7), Plan::from_seed(7));
        assert_ne!(Plan::from_seed(7), Plan::from_seed(8));
    }
}
