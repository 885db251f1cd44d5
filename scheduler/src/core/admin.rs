//! What admins change in the cluster: queues, and devices that will not come back.

use berth_common::device::DeviceState;
use berth_common::id::JobId;
use berth_common::message::{AdminRequest, Reply};
use berth_common::problem::{FieldError, Problem};
use berth_common::queue::{DEFAULT_QUEUE, Member, Queue};
use jiff::Timestamp;
use serde_json::Value;

use super::input::Admin;
use super::job::End;
use super::known::Known;
use super::life::Cause;
use super::rows::{ForgottenDevice, Role};
use super::{Core, refused};

impl Core {
    pub(super) fn administer(&mut self, admin: Admin, known: &Known, now: Timestamp) -> Reply {
        if known.users.get(&admin.actor).is_none_or(|user| user.role != Role::Admin) {
            return refused(Problem::new(403, "only an admin may do this"));
        }
        let done = match admin.request {
            AdminRequest::CreateQueue { queue } => self.create_queue(*queue, known),
            AdminRequest::ReplaceQueue { queue } => self.replace_queue(*queue, known, now),
            AdminRequest::DeleteQueue { name } => self.delete_queue(&name, known),
            AdminRequest::DeleteDevice { name } => self.delete_device(&name, &admin.actor, now),
        };
        done.unwrap_or_else(refused)
    }

    fn create_queue(&mut self, queue: Queue, known: &Known) -> Result<Reply, Problem> {
        if self.queues.contains_key(&queue.name) {
            return Err(Problem::new(
                409,
                format!("there is a queue {:?} already; change it with PUT", queue.name),
            ));
        }
        check_members(&queue, &[], known)?;
        self.queues.insert(queue.name.clone(), queue.clone());
        self.plan.set_queue(&queue);
        // One that was deleted in the same step is changed, not new.
        let rows = if self.changes.deleted_queues.remove(&queue.name) {
            &mut self.changes.queues
        } else {
            &mut self.changes.new_queues
        };
        rows.insert(queue.name.clone(), queue.clone());
        Ok(Reply { status: 201, body: written(&queue) })
    }

    /// Its jobs get the new rules: who waits for an approval is looked at again, and a running job that
    /// names no limit of its own gets the queue's.
    fn replace_queue(&mut self, queue: Queue, known: &Known, now: Timestamp) -> Result<Reply, Problem> {
        let Some(before) = self.queues.get(&queue.name).cloned() else {
            return Err(no_queue(&queue.name));
        };
        check_members(&queue, &before.members, known)?;
        let limit_differs = before.limit_of_others_s() != queue.limit_of_others_s();
        let affected =
            |job: &super::Job| job.row.spec.queue == queue.name && job.row.spec.timeout_s.is_none();
        let affected: Vec<JobId> =
            self.jobs.iter().filter(|(_, job)| limit_differs && affected(job)).map(|(id, _)| *id).collect();
        affected.iter().for_each(|id| self.unindex(*id));
        self.queues.insert(queue.name.clone(), queue.clone());
        self.plan.set_queue(&queue);
        self.unsettled = true;
        affected.iter().for_each(|id| self.index(*id));
        for id in affected {
            self.tell_limit(id, now);
        }
        let turns = self.indexes.unapproved.keys().filter(|(name, _)| *name == queue.name);
        self.freed.extend(turns.cloned());
        let rows = if self.changes.new_queues.contains_key(&queue.name) {
            &mut self.changes.new_queues
        } else {
            &mut self.changes.queues
        };
        rows.insert(queue.name.clone(), queue.clone());
        Ok(Reply { status: 200, body: written(&queue) })
    }

    fn delete_queue(&mut self, name: &str, known: &Known) -> Result<Reply, Problem> {
        if !self.queues.contains_key(name) {
            return Err(no_queue(name));
        }
        if name == DEFAULT_QUEUE {
            return Err(Problem::new(409, "the queue of jobs that name none cannot be deleted"));
        }
        let in_use =
            self.jobs.values().any(|job| job.row.spec.queue == name) || known.used_queues.contains(name);
        if in_use {
            let text = format!("there are jobs of the queue {name:?}, which keep its name in their history");
            return Err(Problem::new(409, text));
        }
        self.queues.remove(name);
        self.plan.forget_queue(name);
        self.changes.queues.remove(name);
        // One that this step made was never there.
        if self.changes.new_queues.remove(name).is_none() {
            self.changes.deleted_queues.insert(name.to_owned());
        }
        Ok(Reply { status: 204, body: Value::Null })
    }

    /// Its attempts end with a fault, also those that wait for it; what a worker that comes back still
    /// runs is stopped then.
    fn delete_device(&mut self, name: &str, actor: &str, now: Timestamp) -> Result<Reply, Problem> {
        let Some(&did) = self.dids.get(name) else {
            return Err(Problem::new(404, format!("there is no device {name:?}")));
        };
        let device = &self.devices[&did];
        let state = device.shown_state();
        // What still runs on a device that is heard would go on beside its next attempt.
        let is_empty = device.containers.is_empty() && device.strange_jobs().next().is_none();
        if state == DeviceState::Up || (state != DeviceState::Lost && !is_empty) {
            let text = format!(
                "the device {name} is {state}: drain it and wait until nothing runs there, or stop its worker \
                 and wait until it is lost ({} s after its last heartbeat)",
                self.limits.lost_after_s
            );
            return Err(Problem::new(409, text));
        }
        let text = format!("the device {name} was deleted");
        let cause = Cause { actor: actor.to_owned(), reason: Some(text.clone()) };
        let containers: Vec<_> = self.devices[&did].containers.iter().copied().collect();
        for replica in containers {
            self.container_gone(replica, End::Lost { text: text.clone() }, &cause, now);
        }
        self.dids.remove(name);
        self.devices.remove(&did);
        self.plan.stale.insert(did);
        self.forgotten.insert(name.to_owned(), did);
        self.changes.forget_device(ForgottenDevice { did, name: name.to_owned() });
        Ok(Reply { status: 204, body: Value::Null })
    }
}

/// Whoever becomes a member is a user. One who was a member before may have been disabled since, and stays
/// as long as nobody strikes the name: a queue must not open to everybody because its last member left.
fn check_members(queue: &Queue, before: &[Member], known: &Known) -> Result<(), Problem> {
    let is_known = |user: &str| known.users.contains_key(user) || before.iter().any(|m| m.user == user);
    let unknown = queue.members.iter().enumerate().filter(|(_, member)| !is_known(&member.user));
    let errors: Vec<FieldError> = unknown
        .map(|(i, member)| {
            let message = format!("there is no user {:?}", member.user);
            FieldError::new(format!("/members/{i}/user"), message)
        })
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
}

fn no_queue(name: &str) -> Problem {
    Problem::new(404, format!("there is no queue {name:?}"))
}

fn written(queue: &Queue) -> Value {
    serde_json::to_value(queue).expect("a queue is plain JSON")
}
