//! Who is first: scores that are compared field by field, and the queues' turns.

use crate::Time;
use crate::queue::Order;
use crate::waiting::Turn;

/// A job that asks for less counts as if it asked for so long: ten minutes.
pub const LEAST_ESTIMATE: Time = 600_000;

/// Smaller is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score<Id> {
    /// The priority, then the expansion in 65,536ths, which is 0 where the order does not depend on it. The larger are
    /// first. In one number, for scores are compared more often than anything else.
    rank: u128,
    pub turn: Turn<Id>,
}

impl<Id: Copy> Score<Id> {
    #[must_use]
    pub fn new(order: Order, priority: i32, estimate: Time, turn: Turn<Id>, now: Time) -> Self {
        let expansion = match order {
            Order::Expansion => expansion(now - turn.submitted, estimate),
            Order::Fifo | Order::FifoBackfill => 0,
        };
        let priority = u128::from(i32::MAX.abs_diff(priority));
        Self { rank: priority << u64::BITS | u128::from(!expansion), turn }
    }
}

/// `(wait + estimate) / estimate` in 65,536ths: it rises as the wait grows relative to what was asked for.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // both are positive, and 2^53 ms are 285,000 years
fn expansion(wait: Time, estimate: Time) -> u64 {
    let estimate = estimate.max(1) as f64;
    ((wait.max(0) as f64 + estimate) / estimate * 65_536.0) as u64
}

/// The estimate that orders a job: at least [`LEAST_ESTIMATE`], rounded up to one of `steps` steps between it and
/// its double, so that jobs of one class keep their order; 0 steps: as it is.
#[must_use]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // as above
pub fn rounded(estimate: Time, steps: u32) -> Time {
    let estimate = estimate.max(LEAST_ESTIMATE);
    if steps == 0 || estimate == LEAST_ESTIMATE {
        return estimate;
    }
    let least = LEAST_ESTIMATE as f64;
    let step = ((estimate as f64 / least).log2() * f64::from(steps) - 1e-9).ceil();
    (least * (step / f64::from(steps)).exp2()).round() as Time
}

/// GPU-time that a queue has had, of which every half-life leaves half. Nothing has to be gone through again as
/// time passes: the sum decays as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// GPU-milliseconds, decayed to `since`.
    sum: f64,
    /// In use since then.
    gpus: f64,
    since: Time,
}

impl Usage {
    /// So much was had by then, and nothing is in use.
    #[must_use]
    pub fn of(gpu_ms: f64, at: Time) -> Self {
        Self { sum: gpu_ms, gpus: 0.0, since: at }
    }

    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.gpus > 0.0
    }

    /// When it changed last.
    #[must_use]
    pub fn since(&self) -> Time {
        self.since
    }

    /// From now on it uses so many GPUs more, or fewer.
    pub fn change(&mut self, gpus: f64, now: Time, half_life: Time) {
        *self = Self { sum: self.at(now, half_life), gpus: self.gpus + gpus, since: now };
    }

    /// Comparable among queues at one moment: GPU-milliseconds, decayed to now.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // as above
    pub fn at(&self, now: Time, half_life: Time) -> f64 {
        let passed = (now - self.since).max(0) as f64 / half_life as f64;
        let decay = (-passed).exp2();
        let during = self.gpus * half_life as f64 / std::f64::consts::LN_2 * (1.0 - decay);
        self.sum * decay + during
    }
}
