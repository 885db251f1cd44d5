//! What a job needs: one or several containers, each with GPUs of some types, CPUs and memory, on
//! devices with some labels.

use std::collections::BTreeMap;

/// One whole GPU, in thousandths.
pub const WHOLE: u16 = 1000;

/// What one container needs on one device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Need {
    /// Whole GPUs; with a `share` below [`WHOLE`], 1.
    pub gpus: u16,
    /// Thousandths of each of them. Less than [`WHOLE`]: of one GPU, beside others. Only the simulator has such.
    pub share: u16,
    /// Acceptable GPU types; empty: any.
    pub types: Vec<String>,
    /// Thousandths of a CPU.
    pub cpu_milli: i64,
    /// Megabytes of 2^20 bytes.
    pub memory_mb: i64,
}

impl Need {
    /// `gpus` whole GPUs of any type, and nothing else.
    #[must_use]
    pub fn of_gpus(gpus: u16) -> Self {
        Self { gpus, share: WHOLE, types: Vec::new(), cpu_milli: 0, memory_mb: 0 }
    }

    #[must_use]
    pub fn accepts(&self, kind: &str) -> bool {
        self.types.is_empty() || self.types.iter().any(|wanted| wanted == kind)
    }

    /// Thousandths of GPUs, all together.
    #[must_use]
    pub fn gpu_milli(&self) -> u64 {
        u64::from(self.gpus) * u64::from(self.share)
    }
}

/// What a whole job needs, all or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Demand {
    /// How often each need; not empty. A job of the API has one entry with its `replicas`; one of a trace that
    /// has more GPUs than a device takes so many whole devices, and the rest on one more.
    pub parts: Vec<(Need, u32)>,
    /// Labels that each device must carry.
    pub labels: BTreeMap<String, String>,
}

impl Demand {
    /// One container.
    #[must_use]
    pub fn one(need: Need) -> Self {
        Self { parts: vec![(need, 1)], labels: BTreeMap::new() }
    }

    /// `gpus` GPUs on devices of `per_device` each: on one if it has as many, else on whole ones and the rest on one more.
    ///
    /// # Panics
    /// When `per_device` is 0 and `gpus` is not.
    #[must_use]
    pub fn spanning(gpus: u32, per_device: u16) -> Self {
        let whole = if gpus > u32::from(per_device) { gpus / u32::from(per_device) } else { 0 };
        let rest = u16::try_from(gpus - whole * u32::from(per_device)).expect("at most what a device has");
        let mut parts = Vec::new();
        if whole > 0 {
            parts.push((Need::of_gpus(per_device), whole));
        }
        if rest > 0 || whole == 0 {
            parts.push((Need::of_gpus(rest), 1));
        }
        Self { parts, labels: BTreeMap::new() }
    }

    /// Containers.
    #[must_use]
    pub fn containers(&self) -> u32 {
        self.parts.iter().map(|(_, times)| times).sum()
    }

    /// Thousandths of GPUs, all together.
    #[must_use]
    pub fn gpu_milli(&self) -> u64 {
        self.parts.iter().map(|(need, times)| need.gpu_milli() * u64::from(*times)).sum()
    }

    /// GPUs that a quota counts for it: a part of one is one.
    #[must_use]
    pub fn gpus(&self) -> u64 {
        self.gpu_milli().div_ceil(u64::from(WHOLE))
    }
}
