//! What a queue may have, and in which order its jobs go.

use std::collections::BTreeMap;

/// In a quota: GPUs of whatever type, all together.
pub const ANY_TYPE: &str = "*";

/// The order inside a queue, and what happens behind the first job that does not fit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Order {
    /// By expansion factor; what does not delay the reservation may pass.
    #[default]
    Expansion,
    /// First come, first served: the first job that does not fit blocks its queue.
    Fifo,
    /// First come, first served; what does not delay the first job that does not fit may pass.
    FifoBackfill,
}

/// How a device is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Placement {
    /// The fullest device that suffices.
    #[default]
    Pack,
    /// The emptiest one.
    Spread,
    /// The one where it spoils least for the jobs that usually come (fragmentation gradient descent).
    Fgd,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    pub order: Order,
    pub placement: Placement,
    /// Its share in proportion to the other queues; at least 1.
    pub weight: u32,
    /// GPUs by type, or of all types ([`ANY_TYPE`]), that its jobs may have at once, but for preemptible ones.
    pub quota: BTreeMap<String, u32>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { order: Order::default(), placement: Placement::default(), weight: 1, quota: BTreeMap::new() }
    }
}
