//! Where a job runs: one container on the device that fits best, a gang on whole devices first.

use std::collections::BTreeSet;

use crate::cluster::{Cluster, DeviceKey, PoolKey};
use crate::demand::{Demand, Need, WHOLE};
use crate::device::Device;
use crate::fgd;
use crate::pool::Pool;
use crate::queue::Placement;
use crate::reservation::Reservation;
use crate::{NEVER, Time};

/// So many containers of one part of a demand on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub device: DeviceKey,
    /// The place of the part in the demand.
    pub part: usize,
    pub times: u32,
}

/// Why a job is not placed in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// It would make the reserved job later; one that runs no longer than so many milliseconds would not.
    Delays { limit: Time },
    /// There is no room for it.
    Room,
}

/// What a placement has to respect.
#[derive(Clone, Copy)]
pub struct Bounds<'a, Id> {
    /// Another job's.
    pub reservation: Option<&'a Reservation<Id>>,
    /// When it will have ended.
    pub end: Time,
    pub now: Time,
    pub avoid: Option<DeviceKey>,
    /// Not there at all.
    pub closed: Option<&'a BTreeSet<DeviceKey>>,
    pub placement: Placement,
}

impl<Id: Copy> Bounds<'_, Id> {
    /// The reservation, if what is to be placed runs beyond its time.
    pub fn rival(&self) -> Option<&Reservation<Id>> {
        self.reservation.filter(|rival| self.end == NEVER || self.end > rival.horizon())
    }

    fn is_closed(&self, device: DeviceKey) -> bool {
        self.closed.is_some_and(|closed| closed.contains(&device))
    }

    fn refusal(&self) -> Refusal {
        self.rival().map_or(Refusal::Room, |rival| Refusal::Delays { limit: rival.horizon() - self.now })
    }
}

/// Devices for all containers of `demand` in one pool.
pub fn find<Id: Copy>(
    cluster: &Cluster,
    pool: PoolKey,
    demand: &Demand,
    bounds: &Bounds<'_, Id>,
) -> Result<Vec<Share>, Refusal> {
    match demand.parts.as_slice() {
        [(need, 1)] => find_one(cluster, pool, need, demand, bounds),
        _ => find_gang(cluster, pool, demand, bounds),
    }
}

fn find_one<Id: Copy>(
    cluster: &Cluster,
    pool: PoolKey,
    need: &Need,
    demand: &Demand,
    bounds: &Bounds<'_, Id>,
) -> Result<Vec<Share>, Refusal> {
    let rival = bounds.rival();
    let mut hindered = false;
    let mut search = |avoid: Option<DeviceKey>| {
        cluster.find(pool, need, &demand.labels, bounds.placement, |key, _| {
            let delays = rival.is_some_and(|rival| rival.is_hindered_on(cluster, key, need));
            hindered |= delays;
            avoid != Some(key) && !delays && !bounds.is_closed(key)
        })
    };
    let found = search(bounds.avoid).or_else(|| bounds.avoid.and_then(|_| search(None)));
    match found {
        Some(device) => Ok(vec![Share { device, part: 0, times: 1 }]),
        None if hindered => Err(bounds.refusal()),
        None => Err(Refusal::Room),
    }
}

/// For each part the fullest device that takes all that is left of it; while there is none, the one that takes
/// most. So as few devices as possible share a job.
fn find_gang<Id: Copy>(
    cluster: &Cluster,
    pool: PoolKey,
    demand: &Demand,
    bounds: &Bounds<'_, Id>,
) -> Result<Vec<Share>, Refusal> {
    if is_too_large(cluster.pool(pool), demand) {
        return Err(Refusal::Room);
    }
    let all = gather(cluster, pool, demand, bounds, &|_, _| u32::MAX).ok_or(Refusal::Room)?;
    let Some(rival) = bounds.rival() else { return Ok(all) };
    if !rival.is_delayed_by(cluster, demand, &all) {
        return Ok(all);
    }
    // Perhaps with no more on each device than leaves it as useful for the reserved job.
    let aside = gather(cluster, pool, demand, bounds, &|key, need| rival.harmless_on(cluster, key, need));
    aside.filter(|aside| !rival.is_delayed_by(cluster, demand, aside)).ok_or_else(|| bounds.refusal())
}

/// With no more on each device than `most`; on the one to avoid only where nothing else will do.
fn gather<Id: Copy>(
    cluster: &Cluster,
    pool: PoolKey,
    demand: &Demand,
    bounds: &Bounds<'_, Id>,
    most: &dyn Fn(DeviceKey, &Need) -> u32,
) -> Option<Vec<Share>> {
    let open = |key, need: &Need| if bounds.is_closed(key) { 0 } else { most(key, need) };
    let apart = |key, need: &Need| if bounds.avoid == Some(key) { 0 } else { open(key, need) };
    let elsewhere = bounds.avoid.and_then(|_| gather_on(cluster, pool, demand, bounds, &apart));
    elsewhere.or_else(|| gather_on(cluster, pool, demand, bounds, &open))
}

fn gather_on<Id: Copy>(
    cluster: &Cluster,
    pool: PoolKey,
    demand: &Demand,
    bounds: &Bounds<'_, Id>,
    most: &dyn Fn(DeviceKey, &Need) -> u32,
) -> Option<Vec<Share>> {
    let mut chosen: Vec<Share> = Vec::new();
    let mut taken: BTreeSet<DeviceKey> = BTreeSet::new();
    for (part, (need, times)) in demand.parts.iter().enumerate() {
        let mut roomy = cluster.pool(pool).roomiest(least_gpus(need));
        let mut left = *times;
        while left > 0 {
            let all_left = scaled(need, left);
            let enough = cluster.find(pool, &all_left, &demand.labels, bounds.placement, |key, _| {
                !taken.contains(&key) && most(key, need) >= left
            });
            let (device, room) = match enough {
                Some(key) => (key, left),
                None => roomy.by_ref().find_map(|key| {
                    let device = cluster.device(key);
                    let usable = !taken.contains(&key) && device.carries(&demand.labels);
                    let room = if usable { device.room(need, device.free()).min(most(key, need)) } else { 0 };
                    (room > 0).then_some((key, room))
                })?,
            };
            let times = room.min(left);
            taken.insert(device);
            chosen.push(Share { device, part, times });
            left -= times;
        }
    }
    Some(chosen)
}

/// Whether fewer GPUs are free than it needs, wherever they are, or fewer devices have enough of them.
pub(crate) fn is_too_large(pool: &Pool, demand: &Demand) -> bool {
    u64::from(pool.free_gpus) * u64::from(WHOLE) < demand.gpu_milli()
        || demand.parts.iter().any(|(need, times)| pool.room_at_most(least_gpus(need)) < u64::from(*times))
}

/// A device with fewer free GPUs has no room for it.
pub(crate) fn least_gpus(need: &Need) -> u16 {
    if need.share < WHOLE { 0 } else { need.gpus }
}

fn scaled(need: &Need, times: u32) -> Need {
    let gpus = u16::try_from(u32::from(need.gpus) * times).unwrap_or(u16::MAX);
    let (cpu_milli, memory_mb) =
        (need.cpu_milli * i64::from(times), need.memory_mb.saturating_mul(i64::from(times)));
    Need { gpus, cpu_milli, memory_mb, ..need.clone() }
}

/// Which GPUs of the device one container gets; there is room for it.
#[must_use]
pub fn choose_gpus(device: &Device, need: &Need, placement: Placement, usual: &fgd::Usual) -> u64 {
    match (need.share, placement) {
        (WHOLE, _) => {
            let (free, count) = (device.free().gpus & device.accepted(need), u32::from(need.gpus));
            let linked = device.links.as_ref().and_then(|links| links.choose(free, count));
            linked.unwrap_or_else(|| fgd::lowest(free, count))
        }
        (_, Placement::Fgd) => fgd::best_places(device, need, usual),
        (_, Placement::Pack | Placement::Spread) => {
            fgd::place_for_share(device, need).map_or(0, |place| 1 << place)
        }
    }
}
