//! Why a job waits, with the numbers, found by the very predicates that place it.
//!
//! Asked for when somebody looks: nothing of it is kept. What is said is what binds: if the job were first and would
//! still not fit, that is capacity, however many are ahead of it.

use std::fmt::Debug;
use std::hash::Hash;

use crate::cluster::PoolKey;
use crate::device::Device;
use crate::look::Look;
use crate::order::Score;
use crate::place::least_gpus;
use crate::queue::{ANY_TYPE, Order};
use crate::{ClassKey, Policy, Shape, ShapeKey, Time};

/// Of a queue at a moment: decayed GPU-hours per weight.
pub type Share = f64;

#[derive(Debug, Clone, PartialEq)]
pub enum Why<Id> {
    /// Nothing that could run it takes jobs now.
    DeviceDown,
    /// So many of its group run, as many as may.
    Group { cap: u32 },
    /// `kind` is a GPU type, or all of them ([`ANY_TYPE`]).
    Quota { queue: String, kind: String, used: u32, cap: u32, need: u32 },
    /// Its queue's quota fills up for another job of it, which has waited for too long.
    KeptQuota { queue: String, job: Id },
    /// The earliest time at which it fits is kept free for it.
    Reserved { start_by: Time },
    /// It fits, and would end later than what was reserved for another job begins.
    WouldDelay { job: Id, its_start: Time, by: Time },
    /// Not enough is free. For several containers `need` and `free` count containers.
    Capacity { what: What, need: i64, free: i64, earliest: Option<Time> },
    /// Enough is free, but not on one device.
    Fragmented { need: u32, free_total: u32, largest_hole: u32, earliest: Option<Time> },
    /// It does not fit now, and what becomes free is offered to another queue first.
    QueueTurn { serving: String, its_share: Share, own_share: Share },
    /// It fits; others are looked at first.
    Order { ahead: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Gpus,
    CpuMilli,
    MemoryMb,
    Containers,
}

impl<Id: Copy + Ord + Hash + Debug> Policy<Id> {
    /// Why it waits; none: it does not wait here.
    #[must_use]
    pub fn why(&self, id: &Id, now: Time) -> Option<Why<Id>> {
        let (key, entry) = self.entry_of(id)?;
        let class = self.shape_of(key);
        if !class.pools.iter().any(|pool| self.has_place_ever(class, *pool)) {
            return Some(Why::DeviceDown);
        }
        if let Some((group, cap)) = class.kind.group
            && self.groups.get(&group).is_some_and(|placed| *placed >= cap)
        {
            return Some(Why::Group { cap });
        }
        if let Some(quota) = self.over_quota(class) {
            return Some(quota);
        }
        if let Some(reservation) = self.reservations.values().find(|of| of.id == *id) {
            return Some(Why::Reserved { start_by: reservation.at });
        }
        Some(match self.look(key, entry, now).0 {
            Look::Delays { limit } => self.rival_of(class, limit, entry.limit, now),
            Look::Placed(_) | Look::Capped => Why::Order { ahead: self.ahead(id, now).unwrap_or(0) },
            // The one for whom the room is made.
            Look::Cleared => Why::Order { ahead: self.ahead(id, now).unwrap_or(0).max(1) },
            Look::Room => self.served_before(key, id, now).unwrap_or_else(|| self.no_room(class, now)),
        })
    }

    /// What it lacks now, whatever is kept free for it; none: it does not wait here.
    #[must_use]
    pub fn lacks(&self, id: &Id, now: Time) -> Option<Why<Id>> {
        let (key, _) = self.entry_of(id)?;
        Some(self.no_room(self.shape_of(key), now))
    }

    /// The jobs of its queue that are looked at before it.
    #[must_use]
    pub fn ahead(&self, id: &Id, now: Time) -> Option<usize> {
        let (own, entry) = self.entry_of(id)?;
        let queue = &self.queues[usize::from(self.class(own).kind.queue.0)];
        let order = queue.rules.order;
        let score = |key: ClassKey, turn| {
            let kind = &self.class(key).kind;
            (kind.preemptible, Score::new(order, kind.priority, kind.estimate, turn, now))
        };
        let mine = score(own, entry.turn);
        let heads = queue.shapes.iter().flat_map(|shape| &self.shape(*shape).heads);
        let before = heads.map(|head| {
            self.class(head.class).line.count_while(|other| score(head.class, other.turn) < mine)
        });
        Some(before.sum())
    }

    /// Whether a device there takes jobs and could run a container of it if nothing else ran there.
    pub(crate) fn has_place_ever(&self, class: &Shape<Id>, pool: PoolKey) -> bool {
        let demand = &class.kind.demand;
        let devices = self.cluster.pool(pool).devices.iter().map(|key| self.cluster.device(*key));
        let mut open = devices.filter(|device| device.open && device.carries(&demand.labels));
        open.any(|device| demand.parts.iter().any(|(need, _)| device.fits(need, device.empty())))
    }

    fn over_quota(&self, class: &Shape<Id>) -> Option<Why<Id>> {
        if class.kind.preemptible || class.pools.iter().any(|pool| self.is_within_caps(&class.kind, *pool)) {
            return None;
        }
        let queue = &self.queues[usize::from(class.kind.queue.0)];
        if let Some(job) = self.held_back_for(&class.kind) {
            return Some(Why::KeptQuota { queue: queue.name.clone(), job });
        }
        let need = u32::try_from(class.kind.demand.gpus()).unwrap_or(u32::MAX);
        let kinds =
            class.pools.iter().flat_map(|pool| self.kinds_for(&class.kind, *pool)).map(String::as_str);
        let mut caps = kinds.chain([ANY_TYPE]).filter_map(|kind| {
            let cap = *queue.rules.quota.get(kind)?;
            let of_kind = queue.used.get(kind).copied().unwrap_or_default();
            let used = if kind == ANY_TYPE { queue.used_in_all } else { of_kind };
            let quota = Why::Quota { queue: queue.name.clone(), kind: kind.to_owned(), used, cap, need };
            (used.saturating_add(need) > cap).then_some(quota)
        });
        caps.next()
    }

    /// The job that it would delay; `limit`: how long it may run so that it would not.
    fn rival_of(&self, class: &Shape<Id>, limit: Time, own_limit: Time, now: Time) -> Why<Id> {
        let rivals = class.pools.iter().filter_map(|pool| self.reservations.get(pool));
        let rival = rivals.min_by_key(|rival| (rival.horizon() - now - limit).abs());
        match rival {
            Some(rival) => {
                let by = own_limit.saturating_sub(limit);
                Why::WouldDelay { job: rival.id, its_start: rival.at, by }
            }
            None => self.no_room(class, now),
        }
    }

    /// Another queue whose turn comes first and that has jobs for the same devices; if it is the first of its own.
    fn served_before(&self, key: ClassKey, id: &Id, now: Time) -> Option<Why<Id>> {
        let shape = self.shape_of(key);
        let own = usize::from(shape.kind.queue.0);
        let contends = |other: &ShapeKey| {
            let other = self.shape(*other);
            !other.kind.preemptible && other.pools.iter().any(|pool| shape.pools.contains(pool))
        };
        let is_served =
            |(_, place): &(f64, usize)| *place == own || self.queues[*place].shapes.iter().any(contends);
        let (its_share, first) = self.turns(now).into_iter().find(is_served)?;
        if first == own || shape.kind.preemptible || self.ahead(id, now) != Some(0) {
            return None;
        }
        let queue = &self.queues[first];
        let own_share = self.share_of(own, now);
        let hours = |share: f64| share / 3_600_000.0;
        Some(Why::QueueTurn {
            serving: queue.name.clone(),
            its_share: hours(its_share),
            own_share: hours(own_share),
        })
    }

    fn no_room(&self, class: &Shape<Id>, now: Time) -> Why<Id> {
        let demand = &class.kind.demand;
        let strict = self.queues[usize::from(class.kind.queue.0)].rules.order == Order::Fifo;
        let allowed: Vec<PoolKey> =
            class.pools.iter().copied().filter(|pool| self.is_within_caps(&class.kind, *pool)).collect();
        let ends = || {
            let times =
                allowed.iter().filter_map(|pool| crate::outlook::earliest(&self.cluster, *pool, demand, now));
            times.min().filter(|_| !strict)
        };
        // On full devices nothing is to be counted.
        let least = demand.parts.iter().map(|(need, _)| least_gpus(need).min(1)).min().unwrap_or(0);
        let usable_in = |pool: &PoolKey| {
            let devices = self.cluster.pool(*pool).roomiest(least).map(|key| self.cluster.device(key));
            devices.filter(|device| device.carries(&demand.labels)).collect::<Vec<&Device>>()
        };
        let Some((need, times)) = demand.parts.first() else { return Why::DeviceDown };
        if demand.containers() > 1 {
            // The containers of one job are all in one pool.
            let room = allowed.iter().map(|pool| {
                usable_in(pool).iter().map(|device| i64::from(device.room(need, device.free()))).sum()
            });
            let room: i64 = room.max().unwrap_or(0);
            return Why::Capacity {
                what: What::Containers,
                need: i64::from(*times),
                free: room,
                earliest: ends(),
            };
        }
        let usable: Vec<&Device> = allowed.iter().flat_map(usable_in).collect();
        let free: Vec<u32> =
            usable.iter().map(|device| (device.free().gpus & device.accepted(need)).count_ones()).collect();
        let (free_total, largest_hole) = (free.iter().sum(), free.iter().copied().max().unwrap_or(0));
        let gpus = u32::from(need.gpus);
        if gpus > free_total {
            let (need, free) = (i64::from(gpus), i64::from(free_total));
            return Why::Capacity { what: What::Gpus, need, free, earliest: ends() };
        }
        if gpus <= largest_hole {
            let most = |of: fn(&Device) -> i64| usable.iter().map(|device| of(device)).max().unwrap_or(0);
            for (what, need, free) in [
                (What::CpuMilli, need.cpu_milli, most(|device| device.free().cpu_milli)),
                (What::MemoryMb, need.memory_mb, most(|device| device.free().memory_mb)),
            ] {
                if need > free {
                    return Why::Capacity { what, need, free, earliest: ends() };
                }
            }
        }
        Why::Fragmented { need: gpus, free_total, largest_hole, earliest: ends() }
    }
}
