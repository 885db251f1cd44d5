//! The pass: who starts now, and where.
//!
//! In a pass capacity only shrinks: what did not fit once does not fit again, and is not looked at twice.

use std::fmt::Debug;
use std::hash::Hash;

use crate::cluster::DeviceKey;
use crate::device::Held;
use crate::look::Look;
use crate::place::{Share, choose_gpus};
use crate::queue::Order;
use crate::waiting::Entry;
use crate::{ClassKey, Policy, Time};

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
    /// When another pass may find somebody to stop, though nothing happens until then.
    pub again_at: Option<Time>,
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

/// What follows after a job was considered.
enum Considered<Id> {
    /// This one of its class is the next to be looked at, if any.
    Next(Option<Entry<Id>>),
    /// It lacks room that others might make; nothing of its queue may pass it, or everything.
    Short { blocks: bool },
    /// Nothing of its queue may pass it.
    Blocks,
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
        self.end_clearings();
        self.hold_back_for_starving(now);
        self.keep_reservations(now);
        self.memo.refresh(&self.cluster, &self.reservations);
        self.start_reserved(now, &mut starts);
        self.start_held_back_for(now, &mut starts);
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
        let (preempted, again_at) = if cut_short { (Vec::new(), None) } else { self.preempt(&short, now) };
        Pass { starts, preempted, cut_short, again_at }
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
        let mut room = self.room();
        while !starts.is_full
            && let Some(first) = self.next(&mut heads, now)
        {
            let (key, entry) = (first.class, first.entry());
            match self.consider(key, entry, now, starts) {
                Considered::Next(next) => self.add(&mut heads, key, next, now),
                Considered::Short { blocks } => {
                    short.push((key, entry));
                    if blocks {
                        return;
                    }
                }
                Considered::Blocks => return,
            }
            let left = self.room();
            if left != std::mem::replace(&mut room, left) {
                self.narrow(&mut heads, queue, preemptible, now);
            }
        }
    }

    /// The queues with jobs, the one with the least use per weight first.
    pub(crate) fn turns(&self, now: Time) -> Vec<(f64, usize)> {
        let with_jobs = (0..self.queues.len()).filter(|queue| !self.queues[*queue].shapes.is_empty());
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
                return Considered::Next(next.copied());
            }
            Look::Delays { .. } if strict => return Considered::Blocks,
            Look::Delays { limit } => {
                return Considered::Next(self.class(key).line.first_within(limit).copied());
            }
            Look::Room if !preemptible && !self.has_reservation(&entry.turn.id) => {
                self.reserve(key, entry, now);
            }
            Look::Room | Look::Cleared | Look::Capped => {}
        }
        let passes = self.passes;
        self.head_mut(key).failed_in = passes;
        match look {
            Look::Room if !preemptible => Considered::Short { blocks: strict },
            _ if strict => Considered::Blocks,
            _ => Considered::Next(None),
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
