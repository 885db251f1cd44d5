//! A submission: the same id with the same body is the same job; anything invalid stores nothing.

use berth_common::id::JobId;
use berth_common::job::Status;
use berth_common::message::Reply;
use berth_common::problem::Problem;
use berth_common::spec::JobSpec;
use berth_common::validate::USER_PRIORITY;
use jiff::Timestamp;
use serde_json::json;

use super::input::Submission;
use super::placement::could_ever_fit;
use super::rows::{JobRow, Life, Role};
use super::{Core, Job, Known, refused};

impl Core {
    pub(super) fn submit(&mut self, submission: Submission, known: &mut Known, now: Timestamp) -> Reply {
        let Submission { id, owner, spec, hash } = submission;
        let before = self.jobs.get(&id).map(|job| &job.row).or_else(|| known.jobs.get(&id));
        if let Some(before) = before {
            return repeated(before, &owner, &hash);
        }
        let Some(user) = known.users.get(&owner) else {
            return refused(Problem::new(
                403,
                format!("there is no user {owner:?}; an admin makes one with `berth users add`"),
            ));
        };
        if let Err(problem) = self.admit(&spec, user.role) {
            return refused(problem);
        }
        let life = Life::submitted(now, spec.hold, spec.not_before);
        let row = JobRow {
            id,
            uid: user.uid,
            owner: owner.clone(),
            priority: spec.priority,
            spec,
            body_hash: hash,
            array: None,
            life,
        };
        self.jobs.insert(id, Job::waiting(row));
        self.index(id);
        self.changes.new_jobs.insert(id);
        self.record(id, None, Status::Pending, owner, None, now);
        self.unsettled = true;
        answer(201, id)
    }

    /// What depends on the cluster and on who asks.
    fn admit(&self, spec: &JobSpec, role: Role) -> Result<(), Problem> {
        if !self.queues.contains_key(&spec.queue) {
            let names: Vec<_> = self.queues.keys().map(String::as_str).collect();
            let message = format!("there is no queue {:?}; there is {}", spec.queue, names.join(", "));
            return Err(Problem::invalid_field("/queue", message));
        }
        if role == Role::User && !USER_PRIORITY.contains(&spec.priority) {
            return Err(Problem::invalid_field("/priority", "users give 100–200, admins 1–1000"));
        }
        self.refuse_larger_than_every_device(spec)
    }

    /// With no device registered nothing is refused for its size.
    fn refuse_larger_than_every_device(&self, spec: &JobSpec) -> Result<(), Problem> {
        let need = &spec.resources;
        if self.devices.is_empty() || self.devices.values().any(|device| could_ever_fit(device, need)) {
            return Ok(());
        }
        let gpus = |d: &super::Device| {
            d.row.gpus.iter().filter(|g| super::placement::accepts(need, &g.gpu.kind)).count()
        };
        let most_gpus = self.devices.values().map(gpus).max().unwrap_or(0);
        let most_cpu = self.devices.values().map(|d| d.row.cpu_milli).max().unwrap_or(0);
        let most_memory = self.devices.values().map(|d| d.row.memory_mb).max().unwrap_or(0);
        let kind = if need.gpu_type.is_empty() {
            String::new()
        } else {
            format!(" of type {}", need.gpu_type.join(" or "))
        };
        if need.gpus as usize > most_gpus {
            let message = format!("no device has {} GPUs{kind}; the largest has {most_gpus}", need.gpus);
            return Err(Problem::invalid_field("/resources/gpus", message));
        }
        if need.cpus.milli > most_cpu {
            let message = format!("no device has so many CPUs; the largest has {}", most_cpu / 1000);
            return Err(Problem::invalid_field("/resources/cpus", message));
        }
        if super::placement::memory_mb(need) > most_memory {
            let message = format!("no device has so much memory; the largest has {most_memory} MB");
            return Err(Problem::invalid_field("/resources/memory_mb", message));
        }
        let message = format!(
            "no single device has {} GPUs{kind} together with the CPUs and the memory asked for",
            need.gpus
        );
        Err(Problem::invalid_field("/resources", message))
    }
}

fn repeated(before: &JobRow, owner: &str, hash: &str) -> Reply {
    if before.body_hash == hash && before.owner == owner {
        return answer(200, before.id);
    }
    refused(Problem::new(
        409,
        "this idempotency key was used for a job with another specification; take a new key",
    ))
}

fn answer(status: u16, id: JobId) -> Reply {
    Reply { status, body: json!({ "id": id }) }
}
