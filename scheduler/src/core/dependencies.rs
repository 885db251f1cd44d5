//! Jobs that come after others: they wait until all of those have succeeded, and end with an error as
//! soon as one cannot succeed any more.
//!
//! What a job waits for needs no memory of its own: it waits as long as one of those it names has not
//! exited, and whatever exits otherwise than `succeeded` ends its dependents in the same step.

use berth_common::id::JobId;
use berth_common::job::{Outcome, Status};
use berth_common::problem::Problem;
use berth_common::spec::JobSpec;
use jiff::Timestamp;
use uuid::Uuid;

use super::index::Array;
use super::job::Event;
use super::known::Known;
use super::life::Cause;
use super::rows::{Role, UserRow};
use super::{Core, Job};

impl Core {
    /// The first of those that a job comes after which has not exited.
    pub(super) fn unmet(&self, spec: &JobSpec) -> Option<Uuid> {
        spec.after.iter().copied().find(|id| self.is_unfinished(*id))
    }

    /// A job or an array.
    fn is_unfinished(&self, id: Uuid) -> bool {
        self.jobs.get(&id).is_some_and(|job| !job.has_exited()) || self.indexes.arrays.contains_key(&id)
    }

    /// Checks what a new job comes after.
    ///
    /// # Errors
    /// 422 where one of them does not exist for `user`. Since only what exists can be named, there are
    /// no cycles.
    pub(super) fn check_dependencies(
        &self,
        spec: &JobSpec,
        own: &[Uuid],
        user: &UserRow,
        known: &Known,
    ) -> Result<(), Problem> {
        for (place, dependency) in spec.after.iter().enumerate() {
            let refused = |message: String| Err(Problem::invalid_field(format!("/after/{place}"), message));
            if own.contains(dependency) {
                return refused("a job cannot come after itself".into());
            }
            let owner = self.owner_of(*dependency, known);
            if !owner.is_some_and(|owner| user.role == Role::Admin || owner == user.name) {
                return refused(format!("there is no job and no array {dependency}"));
            }
        }
        Ok(())
    }

    fn owner_of<'a>(&'a self, dependency: Uuid, known: &'a Known) -> Option<&'a str> {
        let job = self.jobs.get(&dependency).map(|job| job.row.owner.as_str());
        let array = || self.indexes.arrays.get(&dependency).map(|array| array.owner.as_str());
        let row = || known.dependencies.get(&dependency).and_then(|rows| Some(rows.first()?.owner.as_str()));
        job.or_else(array).or_else(row)
    }

    /// The first of those that a job comes after which has ended otherwise than well, in words.
    pub(super) fn failed_dependency(&self, spec: &JobSpec, known: &Known) -> Option<String> {
        let told = |id: JobId, outcome: Option<Outcome>| {
            let outcome = self.jobs.get(&id).map_or(outcome, |job| job.row.life.outcome);
            outcome.filter(|o| *o != Outcome::Succeeded).map(|outcome| cannot_succeed(id, outcome))
        };
        spec.after.iter().find_map(|dependency| {
            let rows = known.dependencies.get(dependency).into_iter().flatten();
            told(*dependency, None).or_else(|| rows.filter_map(|row| told(row.id, row.outcome)).next())
        })
    }

    /// What the exits of this step mean to the jobs that come after them, and to those after these.
    pub(super) fn settle_dependents(&mut self, now: Timestamp) {
        while let Some(id) = self.exited.pop() {
            let Some(job) = self.jobs.get(&id).filter(|job| job.has_exited()) else { continue };
            let outcome = job.row.life.outcome;
            // An array has succeeded with its last element, and cannot any more with the first that has not.
            let array = job.row.array.map(|place| place.id);
            let array = array.filter(|id| outcome != Some(Outcome::Succeeded) || !self.is_unfinished(*id));
            let named: Vec<Uuid> = [Some(id), array].into_iter().flatten().collect();
            let dependents: Vec<JobId> = named
                .iter()
                .filter_map(|name| self.indexes.dependents.get(name))
                .flatten()
                .copied()
                .collect();
            self.unsettled |= !dependents.is_empty();
            self.plan.touched.extend(&dependents);
            let Some(outcome) = outcome.filter(|o| *o != Outcome::Succeeded) else { continue };
            for dependent in dependents {
                self.end_for_dependency(dependent, cannot_succeed(id, outcome), now);
            }
        }
    }

    pub(super) fn end_for_dependency(&mut self, id: JobId, text: String, now: Timestamp) {
        let cause = Cause::scheduler(Some(text.clone()));
        let happened = self.happen(id, &Event::DependencyFailed { text }, cause, now);
        debug_assert!(happened.is_ok(), "only what waits is indexed: {happened:?}");
    }

    /// The status of what a job waits for; of an array, of the least advanced that is known.
    pub(super) fn status_of(&self, dependency: Uuid) -> Option<Status> {
        let of_array = || self.indexes.arrays.get(&dependency).and_then(Array::least);
        self.jobs.get(&dependency).map(|job: &Job| job.row.life.status).or_else(of_array)
    }
}

fn cannot_succeed(id: JobId, outcome: Outcome) -> String {
    format!("the job {id}, which it comes after, has ended: {outcome}")
}
