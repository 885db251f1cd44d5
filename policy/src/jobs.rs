//! Jobs come, and go without having run; and what can be asked about those that wait.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use crate::cluster::DeviceKey;
use crate::order::rounded;
use crate::reservation::Reservation;
use crate::state::Kind;
use crate::{Job, Policy, Promise, Time};

impl<Id: Copy + Ord + Hash + Debug> Policy<Id> {
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// It waits from now on. An id that is known already is not taken again.
    pub fn submit(&mut self, id: Id, job: Job) {
        if self.waiting.contains_key(&id) || self.running.contains_key(&id) {
            return;
        }
        let submitted = job.submitted;
        let (kind, limit) = self.kind_of(job);
        self.enqueue(id, kind, submitted, limit);
    }

    /// What it has in common with others, and how long it may run.
    pub(crate) fn kind_of(&self, job: Job) -> (Kind, Time) {
        let Job { queue, demand, priority, submitted: _, estimate, limit, preemptible, group, avoid } = job;
        let estimate = rounded(estimate, self.settings.steps);
        (Kind { queue, demand: Arc::new(demand), priority, estimate, preemptible, group, avoid }, limit)
    }

    #[must_use]
    pub fn is_waiting(&self, id: &Id) -> bool {
        self.waiting.contains_key(id)
    }

    /// It waits no longer, for it was cancelled, or is held.
    pub fn withdraw(&mut self, id: &Id) {
        if self.dequeue(id) {
            self.promises.remove(id);
            self.reservations.retain(|_, reservation| reservation.id != *id);
        }
    }

    /// For whom something is kept free, and from when on.
    pub fn reserved(&self) -> impl Iterator<Item = (Id, Time)> {
        self.reservations.values().map(|reservation| (reservation.id, reservation.at))
    }

    /// The devices of which some are kept free for it.
    pub fn reserved_for(&self, id: &Id) -> impl Iterator<Item = DeviceKey> {
        let reservation = self.reservations.values().find(|reservation| reservation.id == *id);
        reservation.into_iter().flat_map(Reservation::devices)
    }

    /// When it was promised to start, if it was.
    #[must_use]
    pub fn promise(&self, id: &Id) -> Option<Promise> {
        self.promises.get(id).copied()
    }
}
