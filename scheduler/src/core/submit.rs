//! A submission: the same id with the same body is the same job; anything invalid stores nothing.

use berth_common::message::Reply;
use berth_common::problem::Problem;
use berth_common::spec::JobSpec;
use berth_common::validate::USER_PRIORITY;
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::input::Submission;
use super::known::Known;
use super::rows::{ArrayPlace, JobRow, Life, Role};
use super::{Core, Job, refused};

impl Core {
    pub(super) fn submit(&mut self, submission: Submission, known: &mut Known, now: Timestamp) -> Reply {
        let Submission { id, owner, spec, hash } = submission;
        let ids = spec.job_ids(id);
        let before = ids
            .first()
            .and_then(|first| self.jobs.get(first).map(|job| &job.row).or_else(|| known.jobs.get(first)));
        if let Some(before) = before {
            return repeated(before, id, &owner, &hash);
        }
        if self.is_a_name(id, known) {
            return refused(key_used());
        }
        let Some(user) = known.users.get(&owner) else {
            return refused(Problem::new(
                403,
                format!("there is no user {owner:?}; an admin makes one with `berth users add`"),
            ));
        };
        let mut own = ids.clone();
        own.push(id);
        let admitted =
            self.admit_to_queue(&spec, user, ids.len() as u64).and_then(|()| self.admit(&spec, user.role));
        if let Err(problem) = admitted.and_then(|()| self.check_dependencies(&spec, &own, user, known)) {
            return refused(problem);
        }
        let failed = self.failed_dependency(&spec, known);
        let (uid, array) = (user.uid, spec.element_count().is_some());
        for (index, job) in (0..).zip(ids) {
            let row = JobRow {
                id: job,
                uid,
                owner: owner.clone(),
                priority: spec.priority,
                spec: spec.element(index),
                body_hash: hash.clone(),
                array: array.then_some(ArrayPlace { id, index }),
                life: self.first_life(&spec, &owner, now),
            };
            self.begin(row, now);
            if let Some(text) = &failed {
                self.end_for_dependency(job, text.clone(), now);
            }
        }
        self.unsettled = true;
        answer(201, id)
    }

    /// Whether a job or an array has this id.
    fn is_a_name(&self, id: Uuid, known: &Known) -> bool {
        self.jobs.contains_key(&id)
            || self.indexes.arrays.contains_key(&id)
            || known.dependencies.contains_key(&id)
    }

    fn first_life(&self, spec: &JobSpec, owner: &str, now: Timestamp) -> Life {
        let approved = self.rule_against(spec, owner).is_none();
        Life::submitted(now, approved, spec.hold, spec.not_before)
    }

    fn begin(&mut self, row: JobRow, now: Timestamp) {
        let (id, status, owner) = (row.id, row.life.status, row.owner.clone());
        self.jobs.insert(id, Job::waiting(row));
        self.index(id);
        self.changes.new_jobs.insert(id);
        self.record(id, None, status, owner, None, now);
    }

    /// What depends on the cluster and on who asks, whatever the queue.
    pub(super) fn admit(&self, spec: &JobSpec, role: Role) -> Result<(), Problem> {
        if role == Role::User && !USER_PRIORITY.contains(&spec.priority) {
            return Err(Problem::invalid_field("/priority", "users give 100–200, admins 1–1000"));
        }
        self.refuse_larger_than_every_device(spec)
    }
}

fn repeated(before: &JobRow, id: Uuid, owner: &str, hash: &str) -> Reply {
    if before.body_hash == hash && before.owner == owner {
        return answer(200, id);
    }
    refused(key_used())
}

fn key_used() -> Problem {
    Problem::new(409, "this idempotency key was used for a job with another specification; take a new key")
}

fn answer(status: u16, id: Uuid) -> Reply {
    Reply { status, body: json!({ "id": id }) }
}
