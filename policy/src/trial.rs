//! What would be if a job were another one: for those who ask what they could change.

use std::fmt::Debug;
use std::hash::Hash;

use crate::classes::shape_for;
use crate::look::Look;
use crate::waiting::{Entry, Turn};
use crate::{Job, Policy, Time};

impl<Id: Copy + Ord + Hash + Debug> Policy<Id> {
    /// Whether it would start now, if it were the first to be looked at. `id` is its own, if it waits already: what
    /// is kept free for it is free for it.
    #[must_use]
    pub fn would_start(&self, id: Id, job: Job, now: Time) -> bool {
        let submitted = job.submitted;
        let (kind, limit) = self.kind_of(job);
        let entry = Entry { turn: Turn { submitted, id }, limit };
        matches!(self.examine(&shape_for(&self.cluster, kind), entry, now).0, Look::Placed(_))
    }
}
