//! A device: what it has, what is free, and when the rest will be.

use std::collections::BTreeMap;

/// A device as its worker tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// Unique; the last tie-breaker.
    pub name: String,
    /// The type of each GPU, in their order on the device; at most [`MAX_GPUS`].
    pub gpus: Vec<String>,
    pub cpu_milli: i64,
    pub memory_mb: i64,
    pub labels: BTreeMap<String, String>,
}

/// GPUs of one device: as many as a mask has bits.
pub const MAX_GPUS: usize = 64;
