//! Why a job waits that waits for its turn: what the policy says, in our words.

use berth_common::device::DeviceState;
use berth_common::id::JobId;
use berth_common::job::Reason;
use berth_common::spec::{JobSpec, Resources};
use berth_policy::why::{What, Why};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::device::Device;
use super::explain::{gpus_of, reason};
use super::placement::room_ever;
use super::plan::{ms, timestamp};
use super::queue::Seat;
use super::waiting::FAR_MS;
use super::{Core, Job};

/// Of a start that is promised for later than this, what is missing is told first.
const PROMISE_MS: i64 = 24 * 3_600_000;
/// Devices that a reservation names.
const SHOWN_DEVICES: usize = 20;

impl Core {
    /// The reason, and by when it starts, where that was promised.
    pub(super) fn turn_reason(&self, job: &Job, now: Timestamp) -> (Reason, Option<Timestamp>) {
        let (spec, seat) = (&job.row.spec, Seat::of(&job.row));
        let Some(why) = self.plan.policy.why(&seat, ms(now)) else {
            return (self.not_looked_at(spec, now), None);
        };
        let start_by = match why {
            // What outran its limit, or began late, breaks promises: one that is over is no answer.
            Why::Reserved { start_by } => soon(start_by, now).filter(|at| *at >= now),
            _ => None,
        };
        // A promise for next week, as those have for whom nobody named a limit, answers nobody's question.
        let why = match why {
            Why::Reserved { start_by } if start_by - ms(now) > PROMISE_MS => {
                self.plan.policy.lacks(&seat, ms(now)).unwrap_or(why)
            }
            why => why,
        };
        (self.in_words(job, why, start_by, now), start_by)
    }

    fn in_words(&self, job: &Job, why: Why<Seat>, start_by: Option<Timestamp>, now: Timestamp) -> Reason {
        let spec = &job.row.spec;
        let need = &spec.resources;
        match why {
            Why::DeviceDown => self.no_device(spec, now),
            Why::Group { cap } => {
                let text = format!("{cap} jobs of its array run, as many as its array.max_running allows.");
                reason("QUOTA", text, json!({ "rule": "array.max_running", "used": cap, "cap": cap }))
            }
            Why::Quota { queue, kind, used, cap, need } => {
                let text = format!(
                    "The queue {queue} may have {cap} {} at once and has {used}; the job needs {need}.",
                    gpus_of(&kind)
                );
                let numbers = json!({
                    "rule": "quota", "queue": queue, "type": kind, "used": used, "cap": cap, "need": need,
                });
                reason("QUOTA", text, numbers)
            }
            Why::KeptQuota { queue, job: first } => {
                let text = format!(
                    "The quota of the queue {queue} fills up for another job of it, which has waited for too long."
                );
                let other = self.shown_to(job, first.job);
                reason("QUOTA", text, json!({ "rule": "quota", "queue": queue, "job": other }))
            }
            Why::Reserved { .. } => {
                let devices = self.reserved_devices(job);
                let on = if devices.len() == 1 { format!(" on {}", devices[0]) } else { String::new() };
                let text = format!("It is the next: what it needs is kept free for it{on}.");
                reason("RESERVED", text, json!({ "start_by": shown(start_by), "devices": devices }))
            }
            Why::WouldDelay { job: other, its_start, by } => {
                would_delay(self.shown_to(job, other.job), soon(its_start, now), by / 1000)
            }
            Why::Capacity { what, need: wanted, free, earliest } => {
                let earliest = earliest.and_then(|at| soon(at, now));
                capacity(need, what, wanted, free, earliest)
            }
            Why::Fragmented { need: wanted, free_total, largest_hole, earliest } => {
                let earliest = earliest.and_then(|at| soon(at, now));
                fragmented(need, wanted, free_total, largest_hole, earliest)
            }
            Why::QueueTurn { serving, its_share, own_share } => {
                let text = format!(
                    "It is the turn of the queue {serving}, which has had fewer GPUs for its weight than {}.",
                    spec.queue
                );
                let hours = |share: f64| (share * 100.0).round() / 100.0;
                let numbers = json!({ "serving": serving, "its_usage": hours(its_share), "own_usage": hours(own_share) });
                reason("QUEUE_TURN", text, numbers)
            }
            Why::Order { ahead: 0 } => {
                reason("ORDER", "It is its turn now.".into(), json!({ "ahead": 0, "position": 1 }))
            }
            Why::Order { ahead } => {
                let text = format!("{ahead} jobs of its queue come first.");
                reason("ORDER", text, json!({ "ahead": ahead, "position": ahead + 1 }))
            }
        }
    }

    /// Another job's id, where it is the same owner's: others' jobs are nobody's business.
    fn shown_to(&self, job: &Job, other: JobId) -> Option<JobId> {
        self.jobs.get(&other).filter(|other| other.row.owner == job.row.owner).map(|_| other)
    }

    /// By name.
    fn reserved_devices(&self, job: &Job) -> Vec<&str> {
        let seat = Seat::of(&job.row);
        let keys = self.plan.policy.reserved_for(&seat);
        let rows = keys.filter_map(|key| Some(&self.devices.get(&self.plan.did(key)?)?.row));
        rows.take(SHOWN_DEVICES).map(|row| row.name.as_str()).collect()
    }

    /// Before the next pass, or while none is made because a worker has not told yet what it runs.
    fn not_looked_at(&self, spec: &JobSpec, now: Timestamp) -> Reason {
        match self.devices.values().find(|device| device.has_to_list(now)) {
            Some(device) => {
                let name = &device.row.name;
                let text = format!("The worker of {name} has not told yet what runs there.");
                reason("DEVICE_DOWN", text, json!({ "device": name }))
            }
            None if self.devices.is_empty() => self.no_device(spec, now),
            None => reason("ORDER", "It has not been looked at yet.".into(), json!({ "ahead": 0 })),
        }
    }

    /// Devices that could run one replica if nothing else ran there.
    fn able(&self, spec: &JobSpec) -> impl Iterator<Item = &Device> {
        let carrying = self.devices.values().filter(|d| d.row.carries(&spec.constraints));
        carrying.filter(|d| room_ever(d, &spec.resources) > 0)
    }

    /// Nothing that could run it takes jobs now.
    fn no_device(&self, spec: &JobSpec, now: Timestamp) -> Reason {
        let able: Vec<&Device> = self.able(spec).collect();
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

fn capacity(need: &Resources, what: What, wanted: i64, free: i64, earliest: Option<Timestamp>) -> Reason {
    let (resource, text, wanted, free) = match what {
        What::Gpus => {
            let text = format!("It needs {}; {free} free.", gpus(need));
            ("gpus", text, json!(wanted), json!(free))
        }
        What::CpuMilli => {
            let (wanted, free) = (thousandth(wanted), thousandth(free));
            let text = format!("It needs {wanted} CPUs; at most {free} are free on one device.");
            ("cpus", text, json!(wanted), json!(free))
        }
        What::MemoryMb => {
            let text = format!("It needs {wanted} MB of memory; at most {free} MB are free on one device.");
            ("memory_mb", text, json!(wanted), json!(free))
        }
        What::Containers => {
            let each = gpus(need);
            let text =
                format!("It needs room for {wanted} replicas of {each} at once; there is room for {free}.");
            ("replicas", text, json!(wanted), json!(free))
        }
    };
    let numbers = json!({ "resource": resource, "need": wanted, "free": free, "earliest": shown(earliest) });
    reason("CAPACITY", text, numbers)
}

fn fragmented(
    need: &Resources,
    wanted: u32,
    free_total: u32,
    largest_hole: u32,
    earliest: Option<Timestamp>,
) -> Reason {
    let text = if wanted > largest_hole {
        let each = gpus(need);
        format!("It needs {each} on one device; {free_total} are free, but at most {largest_hole} on one.")
    } else {
        "GPUs, CPUs and memory are free, but not all of them on one device.".to_owned()
    };
    let numbers = json!({
        "need": wanted, "free_total": free_total, "largest_hole": largest_hole, "earliest": shown(earliest),
    });
    reason("FRAGMENTED", text, numbers)
}

fn would_delay(other: Option<JobId>, its_start: Option<Timestamp>, by_s: i64) -> Reason {
    let whom = other.map_or_else(|| "another job".to_owned(), |id| format!("the job {id}"));
    let when = its_start.map_or_else(String::new, |at| format!(", which starts by {at:.0}"));
    let text = format!("It would fit now, but may run {by_s} s too long: it would delay {whom}{when}.");
    reason("WOULD_DELAY", text, json!({ "job": other, "its_start": shown(its_start), "by_s": by_s }))
}

/// A time that relies on limits; none where some job never has to end.
fn soon(at: i64, now: Timestamp) -> Option<Timestamp> {
    timestamp(at).filter(|_| at - ms(now) < FAR_MS)
}

fn shown(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, |at| json!(format!("{at:.6}")))
}

fn gpus(need: &Resources) -> String {
    let kind =
        if need.gpu_type.is_empty() { String::new() } else { format!(" {}", need.gpu_type.join(" or ")) };
    let s = if need.gpus == 1 { "" } else { "s" };
    format!("{}{kind} GPU{s}", need.gpus)
}

#[allow(clippy::cast_precision_loss)] // below 2^53 for any machine
pub(super) fn thousandth(milli: i64) -> f64 {
    milli as f64 / 1000.0
}
