//! Why a job waits: the code, a sentence, and the numbers, by the very predicates that place it.

use std::collections::{HashMap, HashSet};

use berth_common::device::DeviceState;
use berth_common::id::JobId;
use berth_common::job::{Reason, Status};
use berth_common::message::{Reasons, Waiting};
use berth_common::queue::ANY_TYPE;
use berth_common::spec::{JobSpec, Resources};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::approval::Rule;
use super::device::Device;
use super::placement::{could_ever_fit, fits, room};
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
            Status::Unapproved => Some(self.unapproved(job)),
            Status::Pending if life.held => {
                Some(reason("HELD", "It is held; release it with `berth release`.".into(), json!({})))
            }
            Status::Pending if self.recovering_until.is_some() => self.recovering_until.map(|until| {
                let text = format!(
                    "A backup of the database was restored: nothing is started before {until:.0}, so that what ran \
                     before is known."
                );
                reason("BACKOFF", text, json!({ "until": format!("{until:.6}"), "attempt": life.attempt }))
            }),
            Status::Pending => Some(match life.not_before.filter(|at| *at > now) {
                Some(at) => backoff(life.attempt, life.error.as_deref(), at),
                None => self.dependency(job).or_else(|| self.array_full(job)).or_else(|| self.still_runs(id)).unwrap_or_else(|| {
                    let spec = &job.row.spec;
                    if spec.replicas > 1 {
                        self.no_room_for_gang(spec, now)
                    } else {
                        self.no_room(spec, now)
                    }
                }),
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

    fn array_full(&self, job: &Job) -> Option<Reason> {
        let cap = self.array_cap(&job.row)?;
        let text = format!("{cap} jobs of its array run, as many as its array.max_running allows.");
        Some(reason("QUOTA", text, json!({ "rule": "array.max_running", "used": cap, "cap": cap })))
    }

    fn still_runs(&self, id: JobId) -> Option<Reason> {
        let device = self.devices.values().find(|d| d.strange_jobs().any(|job| job == id))?;
        let name = &device.row.name;
        let text = format!("An earlier container of it is still on {name}; it starts when that is gone.");
        Some(reason("DEVICE_DOWN", text, json!({ "device": name })))
    }

    /// A gang starts as a whole: there must be room for all its replicas.
    fn no_room_for_gang(&self, spec: &JobSpec, now: Timestamp) -> Reason {
        let need = &spec.resources;
        let able: Vec<&Device> = self.able(spec).collect();
        let up: Vec<&Device> = able.iter().copied().filter(|d| d.is_placeable(now)).collect();
        if up.is_empty() {
            return self.no_device(&able, spec, now);
        }
        let room: u64 = up.iter().map(|d| room(d, need)).sum();
        let wanted = u64::from(spec.replicas);
        if room >= wanted {
            return reason("ORDER", "It is its turn now.".into(), json!({ "ahead": 0 }));
        }
        let each = gpus(need);
        let text =
            format!("It needs room for {wanted} replicas of {each} at once; there is room for {room}.");
        let free: usize = up.iter().map(|d| d.free_gpus(need).count()).sum();
        let asked = wanted * u64::from(need.gpus);
        let numbers = json!({
            "resource": "replicas", "need": wanted, "free": room, "gpus_need": asked, "gpus_free": free,
        });
        reason("CAPACITY", text, numbers)
    }

    /// The places of the pending ones among them in their queues, from 1.
    fn positions(&self, jobs: &[JobId]) -> HashMap<JobId, u64> {
        let is_pending = |id: &&JobId| self.jobs.get(*id).is_some_and(Job::is_pending);
        let mut asked: HashSet<JobId> = jobs.iter().filter(is_pending).copied().collect();
        let mut ahead: HashMap<&str, u64> = HashMap::new();
        let mut positions = HashMap::new();
        for place in self.indexes.pending.iter() {
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

    /// Devices that could run one replica if nothing else ran there.
    fn able(&self, spec: &JobSpec) -> impl Iterator<Item = &Device> {
        let carrying = self.devices.values().filter(|d| d.row.carries(&spec.constraints));
        carrying.filter(|d| could_ever_fit(d, &spec.resources))
    }

    fn no_room(&self, spec: &JobSpec, now: Timestamp) -> Reason {
        let need = &spec.resources;
        let able: Vec<&Device> = self.able(spec).collect();
        let up: Vec<&Device> = able.iter().copied().filter(|d| d.is_placeable(now)).collect();
        if up.is_empty() {
            return self.no_device(&able, spec, now);
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
    fn no_device(&self, able: &[&Device], spec: &JobSpec, now: Timestamp) -> Reason {
        let count = |state| able.iter().filter(|d| d.shown_state() == state).count();
        let lost = count(DeviceState::Lost);
        let draining = count(DeviceState::Draining) + count(DeviceState::Degraded);
        let up = |d: &&&Device| d.shown_state() == DeviceState::Up;
        let silent = able.iter().filter(up).filter(|d| d.is_quiet(now)).count();
        let text = if self.devices.is_empty() {
            "No device has registered yet; start a worker.".to_owned()
        } else if able.is_empty() {
            let labels: Vec<String> =
                spec.constraints.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let labelled = if labels.is_empty() {
                String::new()
            } else {
                format!(" on a device with {}", labels.join(", "))
            };
            format!(
                "No device that is registered now could run it: it needs {}{labelled}.",
                gpus(&spec.resources)
            )
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

fn gpus_of(kind: &str) -> String {
    if kind == ANY_TYPE { "GPUs".to_owned() } else { format!("{kind} GPUs") }
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
