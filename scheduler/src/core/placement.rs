//! Where a job runs: the feasible device with the fewest free GPUs that suffice.
//!
//! Best fit keeps whole devices free for large jobs. Ties go to the least free CPU, the least free
//! memory, and the name, so the same state always gives the same answer.

use berth_common::spec::Resources;
use jiff::Timestamp;

use super::device::Device;

/// How well a device fits; smaller is better.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fit<'a> {
    free_gpus: usize,
    free_cpu_milli: i64,
    free_memory_mb: i64,
    name: &'a str,
    pub did: i64,
}

/// The device for one replica; `avoid` only where no other does.
pub fn best_fit<'a>(
    devices: impl Iterator<Item = &'a Device>,
    need: &Resources,
    avoid: Option<i64>,
    now: Timestamp,
) -> Option<i64> {
    devices
        .filter(|device| device.is_placeable(now) && fits(device, need))
        .map(|device| {
            let fit = Fit {
                free_gpus: device.free_gpus(need).count(),
                free_cpu_milli: device.free_cpu_milli(),
                free_memory_mb: device.free_memory_mb(),
                name: &device.row.name,
                did: device.row.did,
            };
            (avoid == Some(device.row.did), fit)
        })
        .min()
        .map(|(_, fit)| fit.did)
}

/// Whether one replica fits on what is free.
#[must_use]
pub fn fits(device: &Device, need: &Resources) -> bool {
    device.free_cpu_milli() >= need.cpus.milli
        && device.free_memory_mb() >= memory_mb(need)
        && device.free_gpus(need).count() >= need.gpus as usize
}

/// Whether one replica would fit if nothing else ran there.
#[must_use]
pub fn could_ever_fit(device: &Device, need: &Resources) -> bool {
    device.row.cpu_milli >= need.cpus.milli
        && device.row.memory_mb >= memory_mb(need)
        && device.row.gpus.iter().filter(|g| accepts(need, &g.gpu.kind)).count() >= need.gpus as usize
}

/// Whether a GPU of type `kind` will do.
#[must_use]
pub fn accepts(need: &Resources, kind: &str) -> bool {
    need.gpu_type.is_empty() || need.gpu_type.iter().any(|wanted| wanted == kind)
}

/// The memory of a request as a device counts it.
#[must_use]
pub fn memory_mb(need: &Resources) -> i64 {
    i64::try_from(need.memory_mb).unwrap_or(i64::MAX)
}
