//! Who is looked at in a pass: the first of each class, the best first, but for those that are known not to start.
//!
//! What must always hold: nobody is left out who could start, or from whose looking something follows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Debug;
use std::hash::Hash;

use rustc_hash::FxHashMap;

use crate::cluster::PoolKey;
use crate::order::Score;
use crate::place::is_too_large;
use crate::queue::Order;
use crate::waiting::Entry;
use crate::{Class, ClassKey, NEVER, Policy, Shape, ShapeKey, Time};

/// The first of each class, the best on top.
pub(crate) struct Heads<Id> {
    heap: BinaryHeap<Reverse<Candidate<Id>>>,
    /// How long jobs of a shape may run to start, as far as is known; of those that are not here nobody can.
    limits: FxHashMap<ShapeKey, Time>,
}

/// The first of a class that may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate<Id> {
    score: Score<Id>,
    limit: Time,
    /// The shortest limit in its class.
    shortest: Time,
    pub class: ClassKey,
    shape: ShapeKey,
}

impl<Id: Copy> Candidate<Id> {
    pub(crate) fn entry(&self) -> Entry<Id> {
        Entry { turn: self.score.turn, limit: self.limit }
    }
}

impl<Id: Copy + Ord + Hash + Debug> Policy<Id> {
    /// Of one queue, those that have not failed in this pass.
    pub(crate) fn heads(&self, queue: usize, preemptible: bool, now: Time) -> Heads<Id> {
        let order = self.queues[queue].rules.order;
        let (mut heap, mut limits) = (Vec::new(), FxHashMap::default());
        for (shape, Shape { heads: classes, .. }, limit) in self.hopeful(queue, preemptible, now) {
            limits.insert(shape, limit);
            // Most classes are passed by, or answered for, without a look at their line.
            for head in classes.iter().filter(|head| head.failed_in < self.passes && head.shortest <= limit) {
                let first = Some(&head.first).filter(|first| first.limit <= limit);
                if let Some(first) = first.or_else(|| self.class(head.class).line.first_within(limit)) {
                    let score = Score::new(order, head.priority, head.estimate, first.turn, now);
                    let (limit, shortest, class) = (first.limit, head.shortest, head.class);
                    heap.push(Reverse(Candidate { score, limit, shortest, class, shape }));
                }
            }
        }
        Heads { heap: heap.into(), limits }
    }

    /// The best of them, as far as it is not known that it cannot start.
    pub(crate) fn next(&self, heads: &mut Heads<Id>, now: Time) -> Option<Candidate<Id>> {
        loop {
            let Reverse(first) = heads.heap.pop()?;
            match heads.limits.get(&first.shape) {
                Some(limit) if first.limit <= *limit => return Some(first),
                // Perhaps one that comes later in its class.
                Some(limit) => {
                    let later = self.class(first.class).line.first_within(*limit).copied();
                    self.add(heads, first.class, later, now);
                }
                None => {}
            }
        }
    }

    /// Another one of a class is to be looked at, if any.
    pub(crate) fn add(&self, heads: &mut Heads<Id>, class: ClassKey, entry: Option<Entry<Id>>, now: Time) {
        let Some(Entry { turn, limit }) = entry else { return };
        let Class { kind, shape, line, .. } = self.class(class);
        let order = self.queues[usize::from(kind.queue.0)].rules.order;
        let score = Score::new(order, kind.priority, kind.estimate, turn, now);
        let (shape, shortest) = (*shape, line.shortest());
        heads.heap.push(Reverse(Candidate { score, limit, shortest, class, shape }));
    }

    /// The shapes whose jobs may start, and how long those may run.
    fn hopeful(
        &self,
        queue: usize,
        preemptible: bool,
        now: Time,
    ) -> impl Iterator<Item = (ShapeKey, &Shape<Id>, Time)> {
        let queue = &self.queues[queue];
        queue.shapes.iter().filter_map(move |key| {
            let shape = self.shape(*key);
            let limit =
                self.hope(queue.rules.order, shape, now).filter(|_| shape.kind.preemptible == preemptible)?;
            Some((*key, shape, limit))
        })
    }

    /// How long jobs of that shape may run to start in this pass, as far as is known; none: they cannot.
    fn hope(&self, order: Order, shape: &Shape<Id>, now: Time) -> Option<Time> {
        let unreserved = |pool: &PoolKey| !self.reservations.contains_key(pool);
        // Whoever does not fit blocks others, or gets a reservation, or room is made for it.
        let matters = order == Order::Fifo
            || !shape.kind.preemptible && (self.preemptible_count > 0 || shape.pools.iter().any(unreserved));
        if matters {
            return Some(NEVER);
        }
        shape.pools.iter().filter_map(|pool| self.hope_in(shape, *pool, now)).max()
    }

    fn hope_in(&self, shape: &Shape<Id>, pool: PoolKey, now: Time) -> Option<Time> {
        if u32::from(shape.widest) > self.cluster.pool(pool).largest_hole() {
            return None;
        }
        let (demand, of) = (&shape.kind.demand, self.cluster.pool(pool));
        let rival = self.reservations.get(&pool);
        let hinders = match demand.parts.as_slice() {
            [(need, 1)] if self.memo.fits_nowhere(pool, need) => return None,
            [(need, 1)] => rival.filter(|rival| self.memo.is_hindered(pool, need, rival)),
            _ if is_too_large(of, demand) => return None,
            _ => rival.filter(|rival| self.memo.is_gang_hindered(pool, &shape.kind, of.changes(), rival)),
        };
        Some(hinders.map_or(NEVER, |rival| rival.horizon() - now))
    }

    /// Changes when some can start no more who could before.
    pub(crate) fn room(&self) -> (u32, usize, u64) {
        let holes = self.cluster.pools().map(|(_, pool)| pool.largest_hole()).sum();
        (holes, self.reservations.len(), self.memo.learned())
    }

    /// Leaves out those that have become hopeless.
    pub(crate) fn narrow(&self, heads: &mut Heads<Id>, queue: usize, preemptible: bool, now: Time) {
        let limits = self.hopeful(queue, preemptible, now).map(|(key, _, limit)| (key, limit)).collect();
        heads.limits = limits;
        if heads.limits.is_empty() {
            return heads.heap.clear();
        }
        let limits = &heads.limits;
        let may = |of: &Candidate<Id>| limits.get(&of.shape).is_some_and(|limit| of.shortest <= *limit);
        heads.heap.retain(|Reverse(candidate)| may(candidate));
    }
}
