//! Who gets a reservation: the first that does not fit, or whoever has waited for too long.

use std::fmt::Debug;
use std::hash::Hash;

use crate::cluster::PoolKey;
use crate::order::Score;
use crate::pass::Starts;
use crate::queue::Order;
use crate::reservation::Reservation;
use crate::waiting::Entry;
use crate::{ClassKey, Kind, Policy, Promise, Shape, Time};

impl<Id: Copy + Ord + Hash + Debug> Policy<Id> {
    /// Where first come is first served the time is looked for anew at each pass, as EASY is defined; else it stays.
    pub(crate) fn keep_reservations(&mut self, now: Time) {
        self.yield_to_priority(now);
        // What its queue may not have is kept free for nobody.
        let capped = self.reservations.iter().filter(|(pool, reservation)| {
            let kind = self.waiting.get(&reservation.id).map(|(key, _)| &self.class(*key).kind);
            kind.is_some_and(|kind| !self.is_within_caps(kind, **pool))
        });
        let capped: Vec<(PoolKey, Id)> = capped.map(|(pool, of)| (*pool, of.id)).collect();
        for (pool, id) in capped {
            self.reservations.remove(&pool);
            self.void(&id);
        }
        let (queues, waiting, classes) = (&self.queues, &self.waiting, &self.classes);
        let order_of = |id: &Id| {
            let (key, _) = waiting.get(id)?;
            let class = classes[key.0 as usize].as_ref()?;
            Some(queues[usize::from(class.kind.queue.0)].rules.order)
        };
        let cluster = &self.cluster;
        self.reservations.retain(|pool, reservation| match order_of(&reservation.id) {
            None => false,
            Some(Order::Expansion) => {
                reservation.elapse(cluster, *pool, now);
                true
            }
            Some(Order::Fifo | Order::FifoBackfill) => reservation.renew(cluster, *pool, now),
        });
    }

    /// What is kept free for one is kept for another of its queue as soon as somebody gives that a larger priority,
    /// but for those that had waited for too long. A person did that: the promise is void.
    fn yield_to_priority(&mut self, now: Time) {
        let reserved = self.reservations.iter().filter(|(_, reservation)| !reservation.promoted);
        let reserved: Vec<(PoolKey, Id)> =
            reserved.map(|(pool, reservation)| (*pool, reservation.id)).collect();
        for (pool, id) in reserved {
            let Some((key, entry)) = self.of_larger_priority(pool, &id, now) else { continue };
            let Some(before) = self.reservations.remove(&pool) else { continue };
            self.reserve(key, entry, now);
            if !self.has_reservation(&entry.turn.id) {
                // Nothing can be kept free for the other one: so nothing is taken for it.
                self.reservations.insert(pool, before);
            } else {
                self.void(&id);
            }
        }
    }

    /// The first of its queue that could be kept room for in that pool instead of it.
    fn of_larger_priority(&self, pool: PoolKey, id: &Id, now: Time) -> Option<(ClassKey, Entry<Id>)> {
        let (key, _) = self.waiting.get(id)?;
        let own = &self.class(*key).kind;
        let queue = &self.queues[usize::from(own.queue.0)];
        let shapes = queue.shapes.iter().map(|key| self.shape(*key)).filter(|shape| {
            !shape.kind.preemptible && shape.pools.contains(&pool) && self.is_within_caps(&shape.kind, pool)
        });
        let larger = shapes
            .flat_map(|shape| &shape.heads)
            .filter(|head| head.priority > own.priority && !self.has_reservation(&head.first.turn.id));
        let order = queue.rules.order;
        let first = larger
            .min_by_key(|head| Score::new(order, head.priority, head.estimate, head.first.turn, now))?;
        Some((first.class, first.first))
    }

    pub(crate) fn start_reserved(&mut self, now: Time, starts: &mut Starts<'_, Id>) {
        let reserved = self.reservations.values().map(|reservation| reservation.id).collect();
        self.start_first(reserved, now, starts);
    }

    /// Those for whom others of their queue wait, so that those wait no longer than they must.
    pub(crate) fn start_held_back_for(&mut self, now: Time, starts: &mut Starts<'_, Id>) {
        let mut first: Vec<Id> = self.held_back.values().map(|(id, _)| *id).collect();
        first.sort_unstable();
        self.start_first(first, now, starts);
    }

    fn start_first(&mut self, first: Vec<Id>, now: Time, starts: &mut Starts<'_, Id>) {
        for id in first {
            if !starts.is_full()
                && let Some((key, entry)) = self.entry_of(&id)
            {
                self.try_start(key, entry, now, starts);
            }
        }
    }

    /// Whoever has waited for too long comes first where nothing is reserved: it starts, or gets the reservation.
    pub(crate) fn promote(&mut self, now: Time, starts: &mut Starts<'_, Id>) {
        let pools: Vec<PoolKey> = self.cluster.pools().map(|(pool, _)| pool).collect();
        for pool in pools {
            while !starts.is_full()
                && !self.reservations.contains_key(&pool)
                && self.next_promotion.get(&pool).is_none_or(|next| *next <= now)
                && let Some((key, entry)) = self.oldest(pool, now)
            {
                let kind = self.class(key).kind.clone();
                if self.try_start(key, entry, now, starts) {
                    self.pause_promotion(pool, &kind, entry.limit, now);
                    continue;
                }
                let passes = self.passes;
                self.head_mut(key).failed_in = passes;
                let made = Reservation::make(&self.cluster, pool, entry.turn.id, &kind.demand, now);
                if let Some(mut reservation) = made {
                    reservation.promoted = true;
                    self.grant(pool, reservation);
                }
            }
        }
    }

    /// The one that has waited longest, and for too long, of those that may have a reservation.
    fn oldest(&self, pool: PoolKey, now: Time) -> Option<(ClassKey, Entry<Id>)> {
        // First come, first served starves nobody.
        let queues = self.queues.iter().filter(|queue| queue.rules.order == Order::Expansion);
        let shapes = queues.flat_map(|queue| &queue.shapes).map(|key| self.shape(*key)).filter(|shape| {
            let kind = &shape.kind;
            !kind.preemptible && shape.pools.contains(&pool) && self.is_within_caps(kind, pool)
        });
        let starving = shapes.flat_map(|shape| &shape.heads).filter(|head| {
            head.failed_in < self.passes
                && now - head.first.turn.submitted > self.settings.starving_after
                && !self.has_reservation(&head.first.turn.id)
        });
        let oldest = starving.min_by_key(|head| head.first.turn)?;
        Some((oldest.class, oldest.first))
    }

    pub(crate) fn has_reservation(&self, id: &Id) -> bool {
        self.reservations.values().any(|reservation| reservation.id == *id)
    }

    /// A place in time for the first that does not fit, in the pool where that is soonest.
    pub(crate) fn reserve(&mut self, key: ClassKey, entry: Entry<Id>, now: Time) {
        let Shape { kind, pools, .. } = self.shape_of(key);
        let is_open =
            |pool: &&PoolKey| !self.reservations.contains_key(pool) && self.is_within_caps(kind, **pool);
        let (open, id, demand) = (pools.iter().filter(is_open), entry.turn.id, &kind.demand);
        let made =
            open.filter_map(|pool| Some((*pool, Reservation::make(&self.cluster, *pool, id, demand, now)?)));
        if let Some((pool, reservation)) = made.min_by_key(|(_, reservation)| reservation.at) {
            self.grant(pool, reservation);
        }
    }

    fn grant(&mut self, pool: PoolKey, reservation: Reservation<Id>) {
        let at = reservation.at;
        let promise = Promise { first: at, last: at, void: false };
        self.promises.entry(reservation.id).or_insert(promise).last = at;
        self.reservations.insert(pool, reservation);
    }

    /// What was reserved for it is used.
    pub(crate) fn end_reservation(&mut self, id: &Id, kind: &Kind, limit: Time, now: Time) {
        let pool = self.reservations.iter().find(|(_, of)| of.id == *id).map(|(pool, _)| *pool);
        if let Some(pool) = pool
            && self.reservations.remove(&pool).is_some_and(|reservation| reservation.promoted)
        {
            self.pause_promotion(pool, kind, limit, now);
        }
    }

    /// After one that was promoted nobody else is for as long as it would take the whole pool, so that those who have
    /// waited for long do not take all of it.
    fn pause_promotion(&mut self, pool: PoolKey, kind: &Kind, limit: Time, now: Time) {
        let gpus = i64::from(self.cluster.pool(pool).gpus.max(1));
        let taken = i64::try_from(kind.demand.gpu_milli() / 1000).unwrap_or(i64::MAX);
        let pause = limit.saturating_mul(taken) / gpus;
        self.next_promotion.insert(pool, now.saturating_add(pause));
    }
}
