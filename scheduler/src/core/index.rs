//! Where jobs are found again without looking at all of them: who waits, who waits for whom, what an
//! array still has, what a user has asked for, and what the time will bring; and what the policy is told.
//!
//! [`Core::index`] and [`Core::unindex`] are each other's reverse and follow from a job's row alone:
//! whoever changes a row takes it out before and puts it back after.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use berth_common::id::JobId;
use berth_common::job::Status;
use jiff::Timestamp;
use uuid::Uuid;

use super::queue::{Pending, Place, Seat};
use super::quota::Usage;
use super::{Core, Job};

#[derive(Debug, Clone, Default)]
pub struct Indexes {
    /// Held ones, and those that wait for others, too.
    pub pending: Pending,
    /// By queue and owner, in the order in which they are looked at when quota is freed.
    pub unapproved: BTreeMap<(String, String), BTreeSet<Place>>,
    /// When a waiting job's back-off ends, or a running one's limit is reached.
    pub wakeups: BTreeSet<(Timestamp, JobId)>,
    /// Arrays with elements that have not exited.
    pub arrays: HashMap<Uuid, Array>,
    /// Waiting jobs by what they come after: a job or an array.
    pub dependents: HashMap<Uuid, BTreeSet<JobId>>,
    pub usage: Usage,
}

#[derive(Debug, Clone)]
pub struct Array {
    pub owner: String,
    /// Elements by status; those that have exited are not counted.
    counts: BTreeMap<Status, u32>,
}

impl Array {
    fn new(owner: &str) -> Self {
        Self { owner: owner.to_owned(), counts: BTreeMap::new() }
    }

    fn add(&mut self, status: Status) {
        *self.counts.entry(status).or_default() += 1;
    }

    fn remove(&mut self, status: Status) {
        if let Some(count) = self.counts.get_mut(&status) {
            *count -= 1;
        }
        self.counts.retain(|_, count| *count > 0);
    }

    /// Elements that have not exited.
    #[must_use]
    pub fn unfinished(&self) -> u32 {
        self.counts.values().sum()
    }

    /// Elements that hold GPUs.
    #[must_use]
    pub fn placed(&self) -> u32 {
        self.counts.iter().filter(|(status, _)| status.is_placed()).map(|(_, count)| count).sum()
    }

    /// The status of the least advanced.
    #[must_use]
    pub fn least(&self) -> Option<Status> {
        self.counts.keys().next().copied()
    }
}

impl Core {
    /// Puts a job where its row says that it has to be found.
    pub(super) fn index(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (row, status) = (&job.row, job.row.life.status);
        if let Some(at) = self.wakeup_of(job) {
            self.indexes.wakeups.insert((at, id));
        }
        let indexes = &mut self.indexes;
        match status {
            Status::Exited => return,
            Status::Unapproved => {
                indexes.unapproved.entry(turn(job)).or_default().insert(Place::of(row));
            }
            Status::Pending => drop(indexes.pending.insert(Place::of(row))),
            Status::Scheduled | Status::Running => {}
        }
        if status != Status::Unapproved {
            indexes.usage.add(row);
        }
        if !status.is_placed() {
            for &dependency in &row.spec.after {
                indexes.dependents.entry(dependency).or_default().insert(id);
            }
        }
        if let Some(place) = row.array {
            let array = indexes.arrays.entry(place.id).or_insert_with(|| Array::new(&row.owner));
            array.add(status);
        }
        self.plan_job(id);
    }

    /// The reverse of [`Self::index`]; called with the row that was indexed.
    pub(super) fn unindex(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (row, status) = (&job.row, job.row.life.status);
        if let Some(at) = self.wakeup_of(job) {
            self.indexes.wakeups.remove(&(at, id));
        }
        let indexes = &mut self.indexes;
        match status {
            Status::Exited => return,
            Status::Unapproved => {
                let turn = turn(job);
                if let Some(places) = indexes.unapproved.get_mut(&turn) {
                    places.remove(&Place::of(row));
                    if places.is_empty() {
                        indexes.unapproved.remove(&turn);
                    }
                }
            }
            Status::Pending => {
                indexes.pending.remove(&Place::of(row));
                self.plan.policy.withdraw(&Seat::of(row));
            }
            Status::Scheduled | Status::Running => {}
        }
        if status != Status::Unapproved {
            indexes.usage.remove(row);
        }
        if !status.is_placed() {
            for dependency in &row.spec.after {
                if let Some(dependents) = indexes.dependents.get_mut(dependency) {
                    dependents.remove(&id);
                    if dependents.is_empty() {
                        indexes.dependents.remove(dependency);
                    }
                }
            }
        }
        if let Some(place) = row.array
            && let Some(array) = indexes.arrays.get_mut(&place.id)
        {
            array.remove(status);
            if array.unfinished() == 0 {
                indexes.arrays.remove(&place.id);
            }
        }
    }
}

/// Under which an unapproved job waits for quota.
fn turn(job: &Job) -> (String, String) {
    (job.row.spec.queue.clone(), job.row.owner.clone())
}
