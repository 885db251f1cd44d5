//! Why a job waits: the code, a sentence, and the numbers, by the very predicates that place it.

use berth_common::id::JobId;
use berth_common::job::{Reason, Status};
use berth_common::message::{Reasons, Waiting};
use berth_common::queue::ANY_TYPE;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::approval::Rule;
use super::plan::ms;
use super::queue::Seat;
use super::{Core, Job};

impl Core {
    /// The reasons and the positions of those of `jobs` that wait.
    #[must_use]
    pub fn explain(&self, jobs: &[JobId], now: Timestamp) -> Reasons {
        jobs.iter().filter_map(|&id| Some((id, self.waiting(id, now)?))).collect()
    }

    /// Why one job waits; none where it does not.
    pub(super) fn waiting(&self, id: JobId, now: Timestamp) -> Option<Waiting> {
        let job = self.jobs.get(&id)?;
        let seat = Seat::of(&job.row);
        let ahead = self.plan.policy.ahead(&seat, ms(now)).map(|ahead| ahead as u64 + 1);
        let (reason, start_by) = match self.before_its_turn(job, now) {
            Some(reason) => (reason, None),
            None if job.is_pending() => self.turn_reason(job, now),
            None => return None,
        };
        Some(Waiting { reason, position: ahead, start_by })
    }

    /// What keeps it from waiting for its turn, or goes on where it has had it.
    fn before_its_turn(&self, job: &Job, now: Timestamp) -> Option<Reason> {
        let life = &job.row.life;
        match life.status {
            Status::Unapproved => Some(self.unapproved(job)),
            Status::Pending if life.held => {
                Some(reason("HELD", "It is held; release it with `berth release`.".into(), json!({})))
            }
            Status::Pending => {
                let recovers = self.recovering_until.map(|until| recovers(until, life.attempt));
                let later = life.not_before.filter(|at| *at > now);
                recovers
                    .or_else(|| later.map(|at| backoff(life.attempt, life.error.as_deref(), at)))
                    .or_else(|| self.dependency(job))
                    .or_else(|| self.still_runs(job.row.id))
            }
            Status::Scheduled => Some(self.starting(job, now)),
            Status::Running | Status::Exited => None,
        }
    }

    fn starting(&self, job: &Job, now: Timestamp) -> Reason {
        let placed = job.live().filter_map(|c| Some((self.devices.get(&c.did)?, c.replica)));
        let mut placed: Vec<_> = placed.collect();
        if let Some((device, _)) = placed.iter().find(|(device, _)| device.is_deaf() || device.is_quiet(now))
        {
            let name = &device.row.name;
            let text = format!(
                "GPUs are reserved on {name}, whose worker does not answer at the moment; it starts there when it \
                 does, or elsewhere when the device is lost or removed."
            );
            return reason("DEVICE_DOWN", text, json!({ "device": name }));
        }
        placed.sort_by_key(|(device, replica)| !device.pulls(*replica));
        let name = placed.first().map_or("its device", |(device, _)| device.row.name.as_str());
        if placed.first().is_some_and(|(device, replica)| device.pulls(*replica)) {
            let image = &job.row.spec.image;
            let text = format!("GPUs are reserved on {name}, which fetches the image {image}.");
            return reason("IMAGE", text, json!({ "device": name, "image": image }));
        }
        let text = format!("GPUs are reserved on {name}; its container is being started.");
        reason("STARTING", text, json!({ "device": name }))
    }

    fn unapproved(&self, job: &Job) -> Reason {
        let row = &job.row;
        let rule = self.rule_against(&row.spec, &row.owner);
        if let Some(Rule::UserQuota(cap)) = rule {
            let text = format!(
                "Its owner has {} {} in use and waiting in the queue {}, and may have {}; it asks for {}. It goes \
                 on when one of those jobs ends, or when an admin approves it.",
                cap.used,
                gpus_of(&cap.kind),
                row.spec.queue,
                cap.cap,
                cap.asked
            );
            let numbers = json!({
                "rule": "user_quota", "queue": row.spec.queue, "type": cap.kind, "used": cap.used,
                "asked": cap.asked, "cap": cap.cap,
            });
            return reason("APPROVAL", text, numbers);
        }
        let text = format!("An admin approves every job of the queue {}: berth approve.", row.spec.queue);
        reason("APPROVAL", text, json!({ "rule": "queue", "queue": row.spec.queue }))
    }

    fn dependency(&self, job: &Job) -> Option<Reason> {
        let on = self.unmet(&job.row.spec)?;
        let status = self.status_of(on);
        let shown = status.map_or_else(String::new, |status| format!(", which is {status}"));
        let text = format!("It comes after {on}{shown}.");
        Some(reason("DEPENDENCY", text, json!({ "job": on, "status": status })))
    }

    fn still_runs(&self, id: JobId) -> Option<Reason> {
        let device = self.devices.values().find(|d| d.strange_jobs().any(|job| job == id))?;
        let name = &device.row.name;
        let text = format!("An earlier container of it is still on {name}; it starts when that is gone.");
        Some(reason("DEVICE_DOWN", text, json!({ "device": name })))
    }
}

fn recovers(until: Timestamp, attempt: u32) -> Reason {
    let text = format!(
        "A backup of the database was restored: nothing is started before {until:.0}, so that what ran before is \
         known."
    );
    reason("BACKOFF", text, json!({ "until": format!("{until:.6}"), "attempt": attempt }))
}

fn backoff(attempt: u32, error: Option<&str>, at: Timestamp) -> Reason {
    let after = error.map_or_else(String::new, |error| format!(" after attempt {attempt} ended: {error}"));
    reason(
        "BACKOFF",
        format!("It waits until {at:.0}{after}."),
        json!({ "until": format!("{at:.6}"), "attempt": attempt }),
    )
}

pub(super) fn reason(code: &str, text: String, numbers: Value) -> Reason {
    let numbers = match numbers {
        Value::Object(numbers) => numbers,
        _ => Map::new(),
    };
    Reason { code: code.into(), text, numbers }
}

pub(super) fn gpus_of(kind: &str) -> String {
    if kind == ANY_TYPE { "GPUs".to_owned() } else { format!("{kind} GPUs") }
}
