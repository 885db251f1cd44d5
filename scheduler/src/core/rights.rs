//! What somebody may do to a job: its owner, the admins of its queue, the admins of the cluster.
//!
//! Whoever may do nothing to a job does not hear that it exists.

use berth_common::command::Verb;
use berth_common::problem::Problem;
use berth_common::queue::MemberRole;

use super::Core;
use super::rows::{JobRow, Role, UserRow};
use super::rules::admins_of;

impl Core {
    /// Whether `user` is an admin in `queue`: of the cluster, or of the queue.
    pub(super) fn governs(&self, user: &UserRow, queue: &str) -> bool {
        let role = self.queues.get(queue).and_then(|queue| queue.role_of(&user.name));
        user.role == Role::Admin || role == Some(MemberRole::Admin)
    }

    /// Whether `user` may know of a job.
    pub(super) fn may_see(&self, user: &UserRow, job: &JobRow) -> bool {
        user.name == job.owner || self.governs(user, &job.spec.queue)
    }

    /// Whether somebody who may see a job may give it this command.
    ///
    /// # Errors
    /// 403, with who may.
    pub(super) fn check_right(&self, user: &UserRow, job: &JobRow, verb: Verb) -> Result<(), Problem> {
        let queue = &job.spec.queue;
        match verb {
            // The last two aim at devices; that they do not aim at jobs is told later.
            Verb::Kill | Verb::Hold | Verb::Release | Verb::Priority | Verb::Drain | Verb::Resume => Ok(()),
            Verb::Approve if user.role == Role::Admin => Ok(()),
            // A second person looks at it, also where its owner governs the queue.
            Verb::Approve if self.governs(user, queue) && user.name != job.owner => Ok(()),
            Verb::Approve => {
                let whom = self.queues.get(queue).map_or_else(String::new, |q| admins_of(q, &user.name));
                Err(Problem::new(403, format!("only an admin approves jobs, not their owner: ask {whom}")))
            }
            // What runs in a job, and for how long, is between its owner and the cluster.
            Verb::Retry | Verb::Timeout | Verb::Exec
                if user.role == Role::Admin || user.name == job.owner =>
            {
                Ok(())
            }
            Verb::Retry | Verb::Timeout | Verb::Exec => {
                let text = format!(
                    "{verb}: only for the job's owner and the cluster's admins; an admin of its \
                     queue may approve, kill, hold and release it, and set its priority"
                );
                Err(Problem::new(403, text))
            }
        }
    }
}
