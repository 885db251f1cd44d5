//! What a device could run if nothing else ran there.

use berth_common::spec::Resources;

use super::device::Device;

/// Replicas that would fit if nothing else ran there.
#[must_use]
pub fn room_ever(device: &Device, need: &Resources) -> u64 {
    let gpus = device.row.gpus.iter().filter(|g| accepts(need, &g.gpu.kind)).count();
    replicas_in((gpus, device.row.cpu_milli, device.row.memory_mb), need)
}

fn replicas_in((gpus, cpu_milli, memory_mb): (usize, i64, i64), need: &Resources) -> u64 {
    let times = |has: i64, wants: i64| if wants > 0 { (has / wants).max(0) } else { i64::MAX };
    let gpus = times(i64::try_from(gpus).unwrap_or(i64::MAX), i64::from(need.gpus));
    let fit = gpus.min(times(cpu_milli, need.cpus.milli)).min(times(memory_mb, self::memory_mb(need)));
    u64::try_from(fit).unwrap_or(0)
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
