//! The pass: who starts now, and where.
//!
//! In a pass capacity only shrinks: what did not fit once does not fit again, and is not looked at twice.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Debug;
use std::hash::Hash;

use crate::cluster::{DeviceKey, PoolKey};
use crate::device::Held;
use crate::fgd;
use crate::order::Score;
use crate::place::{Bounds, Refusal, Share, choose_gpus, find};
use crate::queue::{Order, Placement};
use crate::waiting::{Entry, Turn};
use crate::{Class, ClassKey, Policy, Time};

/// A job that starts now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start<Id> {
    pub id: Id,
    /// One per container, in the order of the demand's parts.
    pub places: Vec<(DeviceKey, Held)>,
}

/// What a pass came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass<Id> {
    pub starts: Vec<Start<Id>>,
    /// Preemptible jobs that are to be stopped for others.
    pub preempted: Vec<Id>,
    /// More could start.
    pub cut_short: bool,
}

/// The jobs that start in a pass, as long as the caller takes more.
pub(crate) struct Starts<'a, Id> {
    list: Vec<Start<Id>>,
    takes_more: &'a mut dyn FnMut(&Start<Id>) -> bool,
    is_full: bool,
}

impl<Id> Starts<'_, Id> {
    pub(crate) fn is_full(&self) -> bool {
        self.is_full
    }

    fn push(&mut self, start: Start<Id>) {
        self.is_full |= !(self.takes_more)(&start);
        self.list.push(start);
    }
}

/// The first of each class, the best on top.
type Heads<Id> = BinaryHeap<Reverse<(Score<Id>, ClassKey, Turn<Id>)>>;

/// What follows after a job was considered.
enum Considered<Id> {
    /// This one of its class is the next to be looked at, if any.
    Next(Option<Turn<Id>>),
    /// It lacks room that others might make.
    Short,
    /// Nothing of its queue may pass it.
    Blocks,
}

/// What came of looking at a job.
pub(crate) enum Look {
    Placed(Vec<Share>),
    /// One of its class that runs no longer than this may fit.
    Delays {
        limit: Time,
    },
    Room,
    Capped,
}

impl<Id: Copy + Ord + Hash + Debug> Policy<Id> {
    /// Starts what can start now.
    pub fn pass(&mut self, now: Time) -> Pass<Id> {
        self.pass_while(now, |_| true)
    }

    /// Starts what can start now, until the caller takes no more: then the rest is for another pass.
    pub fn pass_while(&mut self, now: Time, mut takes_more: impl FnMut(&Start<Id>) -> bool) -> Pass<Id> {
        self.passes += 1;
        let mut starts = Starts { list: Vec::new(), takes_more: &mut takes_more, is_full: false };
        self.keep_reservations(now);
        self.memo.refresh(&self.cluster, &self.reservations);
        self.start_reserved(now, &mut starts);
        self.promote(now, &mut starts);
        let mut short = Vec::new();
        let turns = self.turns(now);
        for preemptible in [false, true] {
            for (_, queue) in &turns {
                self.serve(*queue, preemptible, now, &mut starts, &mut short);
            }
        }
        self.memo.note(&self.reservations);
        let Starts { list: starts, is_full: cut_short, .. } = starts;
        let preempted = if cut_short { Vec::new() } else { self.preempt(&short, now) };
        Pass { starts, preempted, cut_short }
    }

    /// Starts what can start of one queue, in its order.
    fn serve(
        &mut self,
        queue: usize,
        preemptible: bool,
        now: Time,
        starts: &mut Starts<'_, Id>,
        short: &mut Vec<(ClassKey, Entry<Id>)>,
    ) {
        if starts.is_full {
            return;
        }
        let mut heads = self.heads(queue, preemptible, now);
        while !starts.is_full
            && let Some(Reverse((_, key, turn))) = heads.pop()
        {
            let Some(entry) = self.class(key).line.get(&turn) else { continue };
            match self.consider(key, entry, now, starts) {
                Considered::Next(Some(next)) => {
                    let kind = &self.class(key).kind;
                    let order = self.queues[queue].rules.order;
                    let score = Score::new(order, kind.priority, kind.estimate, next, now);
                    heads.push(Reverse((score, key, next)));
                }
                Considered::Next(None) => {}
                Considered::Short => short.push((key, entry)),
                Considered::Blocks => return,
            }
        }
    }

    /// The first of each class that has not failed in this pass, the best on top. Those that are too large for whatever
    /// is free are left out, where they could get no reservation, and nobody could make room for them.
    fn heads(&self, queue: usize, preemptible: bool, now: Time) -> Heads<Id> {
        let queue = &self.queues[queue];
        let order = queue.rules.order;
        let any_open = self.reservations.len() < self.cluster.pools().count() || self.preemptible_count > 0;
        let heads = queue.classes.iter().filter_map(|key| {
            let class = self.class(*key);
            let kind = &class.kind;
            if class.failed_in == self.passes || kind.preemptible != preemptible {
                return None;
            }
            let may_fit = |pool: &PoolKey| u32::from(class.widest) <= self.cluster.pool(*pool).largest_hole();
            if !any_open && order != Order::Fifo && !class.pools.iter().any(may_fit) {
                return None;
            }
            let turn = class.line.first()?.turn;
            Some(Reverse((Score::new(order, kind.priority, kind.estimate, turn, now), *key, turn)))
        });
        heads.collect()
    }

    /// The queues with jobs, the one with the least use per weight first.
    pub(crate) fn turns(&self, now: Time) -> Vec<(f64, usize)> {
        let with_jobs = (0..self.queues.len()).filter(|queue| !self.queues[*queue].classes.is_empty());
        let mut turns: Vec<(f64, usize)> =
            with_jobs.map(|queue| (self.share_of(queue, now), queue)).collect();
        turns.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        turns
    }

    pub(crate) fn share_of(&self, queue: usize, now: Time) -> f64 {
        let queue = &self.queues[queue];
        queue.usage.at(now, self.settings.half_life) / f64::from(queue.rules.weight.max(1))
    }

    fn consider(
        &mut self,
        key: ClassKey,
        entry: Entry<Id>,
        now: Time,
        starts: &mut Starts<'_, Id>,
    ) -> Considered<Id> {
        let class = self.class(key);
        let (queue, preemptible) = (class.kind.queue, class.kind.preemptible);
        let strict = self.queues[usize::from(queue.0)].rules.order == Order::Fifo;
        let (look, refusals) = self.look(key, entry, now);
        self.remember(key, &refusals);
        match look {
            Look::Placed(shares) => {
                self.start(key, entry, &shares, now, starts);
                // Those before it in its class, if any, were found to run for too long.
                let class = self.classes[key.0 as usize].as_ref();
                let next = class.and_then(|class| class.line.after(&entry.turn));
                return Considered::Next(next.map(|next| next.turn));
            }
            Look::Delays { .. } if strict => return Considered::Blocks,
            Look::Delays { limit } => {
                return Considered::Next(self.class(key).line.first_within(limit).map(|later| later.turn));
            }
            Look::Room if !preemptible && !self.has_reservation(&entry.turn.id) => {
                self.reserve(key, entry, now);
            }
            Look::Room | Look::Capped => {}
        }
        self.class_mut(key).failed_in = self.passes;
        match look {
            _ if strict => Considered::Blocks,
            Look::Room if !preemptible => Considered::Short,
            _ => Considered::Next(None),
        }
    }

    /// So that nobody looks again before something has become free.
    fn remember(&mut self, key: ClassKey, refusals: &[(PoolKey, Refusal)]) {
        if refusals.is_empty() {
            return;
        }
        let demand = self.class(key).kind.demand.clone();
        let [(need, 1)] = demand.parts.as_slice() else { return };
        if !demand.labels.is_empty() {
            return;
        }
        for (pool, refusal) in refusals {
            match (refusal, self.reservations.get(pool)) {
                (Refusal::Room, _) => self.memo.add_nowhere(*pool, need),
                (Refusal::Delays { .. }, Some(rival)) => self.memo.add_hindered(*pool, need, rival),
                (Refusal::Delays { .. }, None) => {}
            }
        }
    }

    /// Whether it was started.
    pub(crate) fn try_start(
        &mut self,
        key: ClassKey,
        entry: Entry<Id>,
        now: Time,
        starts: &mut Starts<'_, Id>,
    ) -> bool {
        let (Look::Placed(shares), _) = self.look(key, entry, now) else { return false };
        self.start(key, entry, &shares, now, starts);
        true
    }

    /// Whether the job fits now, in the best of its pools; and what was found out about pools where it does not.
    pub(crate) fn look(&self, key: ClassKey, entry: Entry<Id>, now: Time) -> (Look, Vec<(PoolKey, Refusal)>) {
        self.examine(self.class(key), entry, now)
    }

    pub(crate) fn examine(
        &self,
        class: &Class<Id>,
        entry: Entry<Id>,
        now: Time,
    ) -> (Look, Vec<(PoolKey, Refusal)>) {
        let end = entry.limit.saturating_add(now);
        let placement = self.queues[usize::from(class.kind.queue.0)].rules.placement;
        let mut best: Option<Vec<Share>> = None;
        let mut refused = Look::Capped;
        let mut refusals = Vec::new();
        for pool in &class.pools {
            if !self.is_within_caps(class, *pool) {
                continue;
            }
            if u32::from(class.widest) > self.cluster.pool(*pool).largest_hole() {
                refused = refused.or(Look::Room);
                continue;
            }
            let reservation = self.reservations.get(pool).filter(|of| of.id != entry.turn.id);
            let bounds = Bounds { reservation, end, now, avoid: class.kind.avoid, placement };
            if let [(need, 1)] = class.kind.demand.parts.as_slice() {
                if self.memo.fits_nowhere(*pool, need) {
                    refused = refused.or(Look::Room);
                    continue;
                }
                if let Some(rival) = bounds.rival().filter(|rival| self.memo.is_hindered(*pool, need, rival))
                {
                    let fits =
                        self.cluster.find(*pool, need, &class.kind.demand.labels, placement, |_, _| true);
                    let limit = rival.horizon() - now;
                    refused = refused.or(if fits.is_some() { Look::Delays { limit } } else { Look::Room });
                    continue;
                }
            }
            match find(&self.cluster, *pool, &class.kind.demand, &bounds) {
                Ok(found) => {
                    if best.as_ref().is_none_or(|best| self.is_better(class, &found, best)) {
                        best = Some(found);
                    }
                }
                Err(refusal) => {
                    refusals.push((*pool, refusal));
                    refused = refused.or(match refusal {
                        Refusal::Room => Look::Room,
                        Refusal::Delays { limit } => Look::Delays { limit },
                    });
                }
            }
        }
        (best.map_or(refused, Look::Placed), refusals)
    }

    /// Whether the first of these devices suits better than the first of those: by how much it spoils where the queue
    /// places by that, else by having less free.
    fn is_better(&self, class: &Class<Id>, these: &[Share], those: &[Share]) -> bool {
        let placement = self.queues[usize::from(class.kind.queue.0)].rules.placement;
        let fill = |shares: &[Share]| {
            let first = shares.first()?;
            let device = self.cluster.device(first.device);
            let (need, _) = class.kind.demand.parts.get(first.part)?;
            let spoiled = match placement {
                Placement::Fgd => fgd::spoiled(device, need, &self.cluster.usual),
                Placement::Pack | Placement::Spread => 0,
            };
            let free = device.free();
            let name = &device.inventory.name;
            Some((spoiled, device.free_gpu_count(), free.cpu_milli, free.memory_mb, name))
        };
        fill(these) < fill(those)
    }

    fn start(
        &mut self,
        key: ClassKey,
        entry: Entry<Id>,
        shares: &[Share],
        now: Time,
        starts: &mut Starts<'_, Id>,
    ) {
        let (id, kind) = (entry.turn.id, self.class(key).kind.clone());
        let placement = self.queues[usize::from(kind.queue.0)].rules.placement;
        let ends = entry.limit.saturating_add(now);
        let mut places = Vec::with_capacity(shares.len());
        for share in shares {
            let (need, _) = &kind.demand.parts[share.part];
            for _ in 0..share.times {
                let device = self.cluster.device(share.device);
                let gpus = choose_gpus(device, need, placement, &self.cluster.usual);
                let held = device.hold(need, gpus, ends, kind.preemptible);
                self.cluster.take(share.device, held);
                places.push((share.device, held));
            }
        }
        self.dequeue(&id);
        self.end_reservation(&id, &kind, entry.limit, now);
        places.iter().for_each(|(device, _)| self.refresh_on(*device));
        self.runs(id, kind, entry.limit, now, now, places.clone());
        starts.push(Start { id, places });
    }
}

impl Look {
    /// Of two refusals in different pools, the one with more hope.
    fn or(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Delays { limit }, Self::Delays { limit: more }) if more > limit => other,
            (Self::Delays { .. } | Self::Placed(_), _) => self,
            (_, Self::Delays { .. }) => other,
            (Self::Room, _) => self,
            (Self::Capped, _) => other,
        }
    }
}
