//! Who is looked at in a pass: the first of each class, the best first, but for those that are known not to start.
//!
//! What must always hold: nobody is left out who could start, or from whose looking something follows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Debug;
use std::hash::Hash;

use crate::cluster::PoolKey;
use crate::order::Score;
use crate::place::is_too_large;
use crate::queue::Order;
use crate::waiting::Entry;
use crate::{Class, ClassKey, NEVER, Policy, Shape, ShapeKey, Time};

/// In most passes few are taken before the others have become hopeless. So many are searched for; only who takes more
/// has use for order among the rest.
const SEARCHES: u32 = 4;
/// No job is as short.
const NONE: Time = Time::MIN;

/// The first of each class.
pub(crate) struct Heads<Id> {
    /// In no order.
    list: Vec<Candidate<Id>>,
    /// The others, the best on top.
    heap: BinaryHeap<Reverse<Candidate<Id>>>,
    searches: u32,
    limits: Limits,
}

/// By shape: how long its jobs may run to start, as far as is known; of those that are not here nobody can.
#[derive(Default)]
struct Limits(Vec<Time>);

impl Limits {
    fn of(&self, shape: ShapeKey) -> Time {
        self.0.get(shape.0 as usize).copied().unwrap_or(NONE)
    }

    fn set(&mut self, shape: ShapeKey, limit: Time) {
        let place = shape.0 as usize;
        if place >= self.0.len() {
            self.0.resize(place + 1, NONE);
        }
        self.0[place] = limit;
    }
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

impl<Id: Copy + Ord> Heads<Id> {
    /// The best, which is not among them any more.
    fn take(&mut self) -> Option<Candidate<Id>> {
        if self.searches < SEARCHES {
            self.searches += 1;
            let others = 1..self.list.len();
            let best = others.fold(0, |best, of| if self.list[of] < self.list[best] { of } else { best });
            return (!self.list.is_empty()).then(|| self.list.swap_remove(best));
        }
        self.heap.extend(self.list.drain(..).map(Reverse));
        self.heap.pop().map(|Reverse(best)| best)
    }

    /// Without those whose classes have nobody who may start.
    fn narrow(&mut self, limits: Limits) {
        self.list.extend(self.heap.drain().map(|Reverse(candidate)| candidate));
        self.list.retain(|candidate| candidate.shortest <= limits.of(candidate.shape));
        self.searches = 0;
        self.limits = limits;
    }
}

impl<Id: Copy + Ord + Hash + Debug> Policy<Id> {
    /// Of one queue, those that have not failed in this pass.
    pub(crate) fn heads(&self, queue: usize, preemptible: bool, now: Time) -> Heads<Id> {
        let order = self.queues[queue].rules.order;
        let (mut list, mut limits) = (Vec::new(), Limits::default());
        for (shape, Shape { heads: classes, .. }, limit) in self.hopeful(queue, preemptible, now) {
            limits.set(shape, limit);
            list.reserve(classes.len());
            // Most classes are passed by, or answered for, without a look at their line.
            for head in classes.iter().filter(|head| head.failed_in < self.passes && head.shortest <= limit) {
                let first = Some(&head.first).filter(|first| first.limit <= limit);
                if let Some(first) = first.or_else(|| self.class(head.class).line.first_within(limit)) {
                    let score = Score::new(order, head.priority, head.estimate, first.turn, now);
                    let (limit, shortest, class) = (first.limit, head.shortest, head.class);
                    list.push(Candidate { score, limit, shortest, class, shape });
                }
            }
        }
        Heads { list, heap: BinaryHeap::new(), searches: 0, limits }
    }

    /// The best of them, as far as it is not known that it cannot start.
    pub(crate) fn next(&self, heads: &mut Heads<Id>, now: Time) -> Option<Candidate<Id>> {
        loop {
            let first = heads.take()?;
            let limit = heads.limits.of(first.shape);
            if first.limit <= limit {
                return Some(first);
            }
            if first.shortest <= limit {
                // Perhaps one that comes later in its class.
                let later = self.class(first.class).line.first_within(limit).copied();
                self.add(heads, first.class, later, now);
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
        heads.list.push(Candidate { score, limit, shortest, class, shape });
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
        let mut limits = std::mem::take(&mut heads.limits);
        limits.0.clear();
        self.hopeful(queue, preemptible, now).for_each(|(shape, _, limit)| limits.set(shape, limit));
        heads.narrow(limits);
    }
}
