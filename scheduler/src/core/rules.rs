//! What a queue asks of those who submit to it: that they are its members, and that a job keeps to its
//! longest limit, its quota and its number of jobs.
//!
//! The same rules hold for a submission and for a retry; what was admitted once stays, also when a queue
//! gets stricter.

use berth_common::problem::Problem;
use berth_common::queue::{ANY_TYPE, Member, MemberRole, Queue};
use berth_common::spec::JobSpec;

use super::Core;
use super::rows::{Role, UserRow};

impl Core {
    /// Whether the queue that `spec` names takes it from `user`, as `jobs` more than it has.
    ///
    /// # Errors
    /// What is wrong, as it is answered.
    pub(super) fn admit_to_queue(&self, spec: &JobSpec, user: &UserRow, jobs: u64) -> Result<(), Problem> {
        let Some(queue) = self.queues.get(&spec.queue) else {
            let names: Vec<_> = self.queues.keys().map(String::as_str).collect();
            let message = format!("there is no queue {:?}; there is {}", spec.queue, names.join(", "));
            return Err(Problem::invalid_field("/queue", message));
        };
        if !may_submit(queue, user) {
            let text = format!(
                "only members of the queue {:?} may submit to it; ask {} to make you one",
                queue.name,
                admins_of(queue, &user.name)
            );
            return Err(Problem::new(403, text));
        }
        check_limit(queue, spec.timeout_s, "/timeout_s")?;
        check_quota(queue, spec)?;
        self.check_room(queue, jobs)
    }

    /// 422 for what it never has room for. Else 429 and not 409: nothing is wrong with the request, and the same one is taken as soon as a job of the
    /// queue ends, so clients that wait and send it again (`Retry-After`) do what helps. 409 tells them that
    /// it never will be: it stands for keys that were used for something else.
    fn check_room(&self, queue: &Queue, jobs: u64) -> Result<(), Problem> {
        let Some(cap) = queue.max_jobs else { return Ok(()) };
        if jobs > cap {
            let text = format!(
                "the queue {:?} may have {cap} jobs that are not over; {jobs} are too many for it",
                queue.name
            );
            return Err(Problem::invalid_field("/queue", text));
        }
        let used = self.unfinished_in(&queue.name);
        if used + jobs <= cap {
            return Ok(());
        }
        let text = format!(
            "the queue {:?} may have {cap} jobs that are not over, and has {used}: {jobs} more would be too many. \
             Try again when some have ended",
            queue.name
        );
        Err(Problem::new(429, text))
    }

    /// Jobs of a queue that have not exited.
    pub(super) fn unfinished_in(&self, queue: &str) -> u64 {
        let first = (queue.to_owned(), String::new());
        let unapproved = self.indexes.unapproved.range(first..).take_while(|((name, _), _)| name == queue);
        let unapproved: usize = unapproved.map(|(_, places)| places.len()).sum();
        self.indexes.usage.jobs_in(queue) + unapproved as u64
    }
}

/// Whether a limit of so many seconds may be named in `queue`; `pointer` is where it stands.
///
/// # Errors
/// 422 with the longest one.
pub(super) fn check_limit(queue: &Queue, limit_s: Option<u64>, pointer: &str) -> Result<(), Problem> {
    match queue.max_timeout_s.filter(|max| limit_s.is_some_and(|limit| limit > *max)) {
        Some(max) => {
            let message = format!("at most {max} seconds in the queue {:?}", queue.name);
            Err(Problem::invalid_field(pointer, message))
        }
        None => Ok(()),
    }
}

/// What is larger than its queue's whole quota would wait for ever. Preemptible jobs may use what is idle
/// beyond it.
fn check_quota(queue: &Queue, spec: &JobSpec) -> Result<(), Problem> {
    let asked = spec.gpus();
    match quota_for(queue, &spec.resources.gpu_type).filter(|cap| asked > *cap && !spec.preemptible) {
        Some(cap) => {
            let message = format!(
                "the queue {:?} may have {cap} such GPUs at once, and the job needs {asked}",
                queue.name
            );
            Err(Problem::invalid_field("/resources/gpus", message))
        }
        None => Ok(()),
    }
}

/// GPUs of these types (none: of any) that a queue may have at most, all together; none: as many as there are.
fn quota_for(queue: &Queue, kinds: &[String]) -> Option<u64> {
    let cap = |kind: &str| queue.quota.get(kind).copied().map(u64::from);
    let of_kinds = kinds.iter().map(|kind| cap(kind)).sum::<Option<u64>>().filter(|_| !kinds.is_empty());
    of_kinds.into_iter().chain(cap(ANY_TYPE)).min()
}

fn may_submit(queue: &Queue, user: &UserRow) -> bool {
    user.role == Role::Admin || queue.members.is_empty() || queue.role_of(&user.name).is_some()
}

/// Whom `asker` is to ask about a queue, by name.
pub(super) fn admins_of(queue: &Queue, asker: &str) -> String {
    let is_other_admin = |member: &&Member| member.role == MemberRole::Admin && member.user != asker;
    let admins = queue.members.iter().filter(is_other_admin);
    let names: Vec<&str> = admins.map(|member| member.user.as_str()).collect();
    match names.as_slice() {
        [] => "an admin of the cluster".to_owned(),
        names => format!("its admin {}", names.join(" or ")),
    }
}
