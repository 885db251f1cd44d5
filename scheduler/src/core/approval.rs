//! Who may wait in a queue at once, and who needs an admin first.

use std::collections::HashSet;

use berth_common::id::JobId;
use berth_common::queue::Queue;
use berth_common::spec::JobSpec;
use jiff::Timestamp;

use super::Core;
use super::job::Event;
use super::life::Cause;
use super::quota::Exceeded;

/// Why a job is not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// The queue wants every job approved.
    Queue,
    UserQuota(Exceeded),
}

impl Core {
    /// Why a job of `owner` is not admitted to its queue now; none when it is.
    pub(super) fn rule_against(&self, spec: &JobSpec, owner: &str) -> Option<Rule> {
        let queue: &Queue = self.queues.get(&spec.queue)?;
        if queue.approval {
            return Some(Rule::Queue);
        }
        self.indexes.usage.exceeded(queue, owner, spec).map(Rule::UserQuota)
    }

    /// Admits what waited for quota that was freed, or for a rule that is gone; the first ones first,
    /// and what is too large lets smaller ones pass.
    pub(super) fn admit_waiting(&mut self, now: Timestamp) {
        while let Some(turn) = self.freed.pop_first() {
            let waiting: Vec<JobId> = self
                .indexes
                .unapproved
                .get(&turn)
                .into_iter()
                .flatten()
                .map(|place| place.seat.job)
                .collect();
            // What was too much once stays too much while others are admitted.
            let mut refused = HashSet::new();
            for id in waiting {
                let Some(job) = self.jobs.get(&id) else { continue };
                let (spec, owner) = (&job.row.spec, &job.row.owner);
                let demand = (spec.resources.gpus, spec.replicas, spec.resources.gpu_type.clone());
                if refused.contains(&demand) {
                    continue;
                }
                if self.rule_against(spec, owner).is_some() {
                    refused.insert(demand);
                } else {
                    let cause =
                        Cause::scheduler(Some("no rule of its queue is against it any more".to_owned()));
                    let event = Event::Approve { held: self.held_once_approved(id) };
                    let happened = self.happen(id, &event, cause, now);
                    debug_assert!(happened.is_ok(), "only unapproved jobs wait for quota: {happened:?}");
                }
            }
        }
    }

    /// As it was submitted; not again when it is retried.
    pub(super) fn held_once_approved(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| job.row.spec.hold && job.row.life.attempt == 0)
    }
}
