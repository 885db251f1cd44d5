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

impl<'a> Fit<'a> {
    fn of(device: &'a Device, need: &Resources) -> Self {
        Self {
            free_gpus: device.free_gpus(need).count(),
            free_cpu_milli: device.free_cpu_milli(),
            free_memory_mb: device.free_memory_mb(),
            name: &device.row.name,
            did: device.row.did,
        }
    }
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
        .map(|device| (avoid == Some(device.row.did), Fit::of(device, need)))
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

/// Replicas that fit on what is free.
#[must_use]
pub fn room(device: &Device, need: &Resources) -> u64 {
    let gpus = device.free_gpus(need).count();
    let free = (gpus, device.free_cpu_milli(), device.free_memory_mb());
    replicas_in(free, need)
}

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

/// The devices for all replicas of a gang, or none: whole devices first, so that as few as possible
/// share it; the rest goes where it fits best.
pub fn gang_fit<'a>(
    devices: impl Iterator<Item = &'a Device>,
    need: &Resources,
    replicas: u32,
    avoid: Option<i64>,
    now: Timestamp,
) -> Option<Vec<i64>> {
    let mut open: Vec<(bool, u64, Fit<'a>)> = devices
        .filter(|device| device.is_placeable(now))
        .map(|device| (avoid == Some(device.row.did), room(device, need), Fit::of(device, need)))
        .filter(|(_, room, _)| *room > 0)
        .collect();
    let mut chosen = Vec::with_capacity(replicas as usize);
    let mut left = u64::from(replicas);
    while left > 0 {
        // The tightest device that takes all that is left; else the one that takes most.
        let enough = open.iter().enumerate().filter(|(_, (_, room, _))| *room >= left);
        let all = enough.min_by(|(_, a), (_, b)| a.cmp(b));
        let most = || {
            let key = |(avoid, room, fit): &(bool, u64, Fit<'a>)| (*avoid, std::cmp::Reverse(*room), fit.did);
            open.iter().enumerate().min_by_key(|(_, device)| key(device))
        };
        let place = all.or_else(most).map(|(place, _)| place)?;
        let (_, room, fit) = open.swap_remove(place);
        let here = room.min(left);
        chosen.extend((0..here).map(|_| fit.did));
        left -= here;
    }
    Some(chosen)
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
