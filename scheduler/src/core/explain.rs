//! Why a job waits: the code, a sentence, and the numbers, by the very predicates that place it.

use std::collections::{HashMap, HashSet};

use berth_common::device::DeviceState;
use berth_common::id::JobId;
use berth_common::job::{Reason, Status};
use berth_common::message::{Reasons, Waiting};
use berth_common::spec::Resources;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::device::Device;
use super::placement::{could_ever_fit, fits};
use super::{Core, Job};

impl Core {
    /// The reasons and the positions of those of `jobs` that wait. However many are asked for, the
    /// queue is gone through once.
    #[must_use]
    pub fn explain(&self, jobs: &[JobId], now: Timestamp) -> Reasons {
        let mut positions = self.positions(jobs);
        let explained = jobs.iter().filter_map(|&id| {
            let (reason, position) = (self.reason(id, now)?, positions.remove(&id));
            Some((id, Waiting { reason, position, start_by: None }))
        });
        explained.collect()
    }

    fn reason(&self, id: JobId, now: Timestamp) -> Option<Reason> {
        let job = self.jobs.get(&id)?;
        let life = &job.row.life;
        match life.status {
            Status::Unapproved => {
                Some(reason("APPROVAL", "It waits for an admin's approval.".into(), json!({})))
            }
            Status::Pending if life.held => {
                Some(reason("HELD", "It is held; release it with `berth release`.".into(), json!({})))
            }
            Status::Pending => Some(match life.not_before.filter(|at| *at > now) {
                Some(at) => backoff(life.attempt, life.error.as_deref(), at),
                None => self.no_room(&job.row.spec.resources, now),
            }),
            Status::Scheduled => {
                let device = job.live().next().and_then(|c| self.devices.get(&c.did));
                let name = device.map_or("its device", |d| d.row.name.as_str());
                let text = format!("GPUs are reserved on {name}; its container is being started.");
                Some(reason("STARTING", text, json!({ "device": name })))
            }
            Status::Running | Status::Exited => None,
        }
    }

    /// The places of the pending ones among them in their queues, from 1.
    fn positions(&self, jobs: &[JobId]) -> HashMap<JobId, u64> {
        let is_pending = |id: &&JobId| self.jobs.get(*id).is_some_and(Job::is_pending);
        let mut asked: HashSet<JobId> = jobs.iter().filter(is_pending).copied().collect();
        let mut ahead: HashMap<&str, u64> = HashMap::new();
        let mut positions = HashMap::new();
        for place in self.pending.iter() {
            if asked.is_empty() {
                break;
            }
            let Some(job) = self.jobs.get(&place.job) else { continue };
            let position = ahead.entry(&job.row.spec.queue).or_default();
            *position += 1;
            if asked.remove(&place.job) {
                positions.insert(place.job, *position);
            }
        }
        positions
    }

    fn no_room(&self, need: &Resources, now: Timestamp) -> Reason {
        let able: Vec<&Device> = self.devices.values().filter(|d| could_ever_fit(d, need)).collect();
        let up: Vec<&Device> = able.iter().copied().filter(|d| d.is_placeable(now)).collect();
        if up.is_empty() {
            return self.no_device(&able, need, now);
        }
        if up.iter().any(|d| fits(d, need)) {
            return reason("ORDER", "It is its turn now.".into(), json!({ "ahead": 0 }));
        }
        let free: Vec<usize> = up.iter().map(|d| d.free_gpus(need).count()).collect();
        let (total, largest) = (free.iter().sum::<usize>(), free.iter().copied().max().unwrap_or(0));
        let wanted = need.gpus as usize;
        if wanted > total {
            let text = format!("It needs {}; {total} free.", gpus(need));
            return reason("CAPACITY", text, json!({ "resource": "gpus", "need": wanted, "free": total }));
        }
        if wanted > largest {
            let text = format!(
                "It needs {} on one device; {total} are free, but at most {largest} on one.",
                gpus(need)
            );
            return reason(
                "FRAGMENTED",
                text,
                json!({ "need": wanted, "free_total": total, "largest_hole": largest }),
            );
        }
        let cpu_milli = up.iter().map(|d| d.free_cpu_milli()).max().unwrap_or(0);
        if need.cpus.milli > cpu_milli {
            let text = format!(
                "It needs {} CPUs; at most {} are free on one device.",
                cpus(need.cpus.milli),
                cpus(cpu_milli)
            );
            return reason(
                "CAPACITY",
                text,
                json!({ "resource": "cpus", "need": thousandth(need.cpus.milli), "free": thousandth(cpu_milli) }),
            );
        }
        let memory = up.iter().map(|d| d.free_memory_mb()).max().unwrap_or(0);
        if super::placement::memory_mb(need) > memory {
            let text = format!(
                "It needs {} MB of memory; at most {memory} MB are free on one device.",
                need.memory_mb
            );
            return reason(
                "CAPACITY",
                text,
                json!({ "resource": "memory_mb", "need": need.memory_mb, "free": memory }),
            );
        }
        let text = "GPUs, CPUs and memory are free, but not all of them on one device.".to_owned();
        reason("FRAGMENTED", text, json!({ "need": wanted, "free_total": total, "largest_hole": largest }))
    }

    /// Nothing that could run it takes jobs now.
    fn no_device(&self, able: &[&Device], need: &Resources, now: Timestamp) -> Reason {
        let count = |state| able.iter().filter(|d| d.shown_state() == state).count();
        let lost = count(DeviceState::Lost);
        let draining = count(DeviceState::Draining) + count(DeviceState::Degraded);
        let up = |d: &&&Device| d.shown_state() == DeviceState::Up;
        let silent = able.iter().filter(up).filter(|d| d.is_quiet(now)).count();
        let text = if self.devices.is_empty() {
            "No device has registered yet; start a worker.".to_owned()
        } else if able.is_empty() {
            format!("No device that is registered now could run it: it needs {}.", gpus(need))
        } else {
            format!(
                "Of the devices that could run it, {lost} are lost, {silent} silent, and {draining} take no jobs now."
            )
        };
        reason("DEVICE_DOWN", text, json!({ "lost": lost, "silent": silent, "draining": draining }))
    }
}

fn backoff(attempt: u32, error: Option<&str>, at: Timestamp) -> Reason {
    let after = error.map_or_else(String::new, |error| format!(" after attempt {attempt} ended: {error}"));
    reason(
        "BACKOFF",
        format!("It waits until {at:.0}{after}."),
        json!({ "until": format!("{at:.6}"), "attempt": attempt }),
    )
}

fn reason(code: &str, text: String, numbers: Value) -> Reason {
    let numbers = match numbers {
        Value::Object(numbers) => numbers,
        _ => Map::new(),
    };
    Reason { code: code.into(), text, numbers }
}

fn gpus(need: &Resources) -> String {
    let kind =
        if need.gpu_type.is_empty() { String::new() } else { format!(" {}", need.gpu_type.join(" or ")) };
    let s = if need.gpus == 1 { "" } else { "s" };
    format!("{}{kind} GPU{s}", need.gpus)
}

fn cpus(milli: i64) -> String {
    thousandth(milli).to_string()
}

#[allow(clippy::cast_precision_loss)] // below 2^53 for any machine
fn thousandth(milli: i64) -> f64 {
    milli as f64 / 1000.0
}
