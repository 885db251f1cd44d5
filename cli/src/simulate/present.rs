//! The present cluster and queue, as the API tells it, in the simulator's words.
//!
//! What must always hold: a job's GPUs are those that the API says it has; and what cannot be foretold (held, unapproved, or
//! after such a job) is counted and not played.

use std::collections::{BTreeMap, HashMap, HashSet};

use berth_common::device::{DeviceState, DeviceView};
use berth_common::job::{AttemptStatus, JobView, Status, StopReason};
use berth_common::queue::{Placement as PlacementWord, Policy as OrderWord, Queue};
use berth_policy::demand::{Demand, Need, WHOLE};
use berth_policy::device::{Held, Inventory, MAX_GPUS};
use berth_policy::queue::{Order, Placement, Rules};
use berth_policy::{Job, NEVER, QueueKey, Time};
use berth_simulate::snapshot::{Device, Known, Present, State};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::unseen;

/// What a scheduler told.
pub struct Told {
    pub now: Timestamp,
    pub devices: Vec<DeviceView>,
    pub queues: Vec<Queue>,
    /// Those that are not over, the oldest first.
    pub jobs: Vec<JobView>,
    /// Whether these are everybody's.
    pub complete: bool,
}

/// Jobs that are not played.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    pub held: usize,
    pub unapproved: usize,
    /// They come after one of those.
    pub dependent: usize,
}

/// What can be played of it.
pub struct Playable<'a> {
    pub present: Present,
    /// Those that wait: their places in the present, and what the API says of them.
    pub waiting: Vec<(usize, &'a JobView)>,
    pub left_out: LeftOut,
    /// GPUs of jobs that the asker may not see: they count as busy for ever.
    pub unseen_gpus: u32,
}

struct Reader<'a> {
    told: &'a Told,
    now: Time,
    /// By name.
    devices: HashMap<&'a str, usize>,
    queues: HashMap<&'a str, u16>,
    /// By number in the database: the place on its device.
    gpus: HashMap<i64, usize>,
    /// Arrays of which only some jobs may run at once, by number.
    groups: HashMap<Uuid, u64>,
    jobs: Vec<Known>,
    /// By job and by array: who a job comes after that names this id.
    before: HashMap<Uuid, Vec<usize>>,
    /// Jobs that are not played, and their arrays.
    unknown: HashSet<Uuid>,
}

#[must_use]
pub fn read(told: &Told) -> Playable<'_> {
    let devices: Vec<Device> = told.devices.iter().map(device).collect();
    let mut queues: Vec<(String, Rules)> =
        told.queues.iter().map(|queue| (queue.name.clone(), rules(queue))).collect();
    // For what is of no queue that was told: nothing waits there.
    queues.push((String::new(), Rules::default()));
    let mut reader = Reader::new(told);
    let mut waiting = Vec::new();
    let mut left_out = LeftOut::default();
    for job in &told.jobs {
        if let Some(place) = reader.add(job, &mut left_out) {
            waiting.push((place, job));
        }
    }
    let unseen = if told.complete { Vec::new() } else { unseen::holders(&told.devices, &reader.jobs) };
    let unseen_gpus = unseen.iter().map(|(_, held)| held.gpus.count_ones()).sum();
    let nobodys = QueueKey(reader.queue(""));
    let mut jobs = reader.jobs;
    jobs.extend(unseen.into_iter().map(|(device, held)| unseen::job(device, held, nobodys)));
    let present = Present { now: ms(told.now), devices, queues, jobs };
    Playable { present, waiting, left_out, unseen_gpus }
}

impl<'a> Reader<'a> {
    fn new(told: &'a Told) -> Self {
        let gpus = told.devices.iter().flat_map(|device| gpu_places(device).map(|(place, gpu)| (gpu, place)));
        Self {
            told,
            now: ms(told.now),
            devices: (0..).zip(&told.devices).map(|(place, of)| (of.name.as_str(), place)).collect(),
            queues: (0..).zip(&told.queues).map(|(place, of)| (of.name.as_str(), place)).collect(),
            gpus: gpus.collect(),
            groups: HashMap::new(),
            jobs: Vec::new(),
            before: HashMap::new(),
            unknown: HashSet::new(),
        }
    }

    /// Its place, if it waits.
    fn add(&mut self, view: &JobView, left_out: &mut LeftOut) -> Option<usize> {
        let cannot_start = match view.status {
            Status::Exited => return None,
            Status::Unapproved => Some(&mut left_out.unapproved),
            Status::Pending if view.held => Some(&mut left_out.held),
            Status::Pending if view.spec.after.iter().any(|id| self.unknown.contains(id)) => {
                Some(&mut left_out.dependent)
            }
            Status::Pending | Status::Scheduled | Status::Running => None,
        };
        if let Some(count) = cannot_start {
            *count += 1;
            self.unknown.extend([Some(view.id), view.array].into_iter().flatten());
            return None;
        }
        let job = self.job(view);
        if view.status == Status::Pending {
            let after = view.spec.after.iter().flat_map(|id| self.before.get(id)).flatten().copied();
            let after: Vec<usize> = after.collect();
            return Some(
                self.push(view, Known { job, state: State::Waiting { from: self.from(view) }, after }),
            );
        }
        let state = State::Running { started: self.started(view), places: self.places(view) };
        // What is being stopped is gone in a moment; after some reasons it waits again.
        let job_now = match view.stopping {
            None => job.clone(),
            Some(_) => Job { limit: 0, ..job.clone() },
        };
        let place = self.push(view, Known { job: job_now, state, after: Vec::new() });
        match view.stopping {
            Some(StopReason::Preempt | StopReason::Drain) => {
                let state = State::Waiting { from: self.now };
                Some(self.push(view, Known { job, state, after: vec![place] }))
            }
            Some(StopReason::Sibling | StopReason::Hold | StopReason::Timeout | StopReason::Kill) | None => {
                None
            }
        }
    }

    fn push(&mut self, view: &JobView, known: Known) -> usize {
        let place = self.jobs.len();
        self.jobs.push(known);
        for id in [Some(view.id), view.array].into_iter().flatten() {
            self.before.entry(id).or_default().push(place);
        }
        place
    }

    fn job(&mut self, view: &JobView) -> Job {
        let spec = &view.spec;
        let queue = self.queue(&view.queue);
        let usual = self.told.queues.get(usize::from(queue)).and_then(Queue::limit_of_others_s);
        let limit = spec.timeout_s.or(usual).map_or(NEVER, from_seconds);
        let most = spec.array.as_ref().and_then(|array| array.max_running);
        let group = view.array.zip(most).map(|(array, most)| {
            let next = self.groups.len() as u64;
            (*self.groups.entry(array).or_insert(next), most)
        });
        Job {
            queue: QueueKey(queue),
            demand: Demand {
                parts: vec![(need(view), spec.replicas)],
                labels: spec.constraints.clone().into_iter().collect::<BTreeMap<_, _>>(),
            },
            priority: view.priority,
            submitted: ms(view.submitted_at),
            estimate: spec.expected_s.map_or(limit, from_seconds),
            limit,
            preemptible: spec.preemptible,
            group,
            avoid: None,
        }
    }

    /// Its place among the queues; of one that was not told, that of nobody.
    fn queue(&self, name: &str) -> u16 {
        let nobodys = u16::try_from(self.told.queues.len()).unwrap_or(u16::MAX);
        self.queues.get(name).copied().unwrap_or(nobodys)
    }

    /// The time before which it may not start.
    fn from(&self, view: &JobView) -> Time {
        let backoff = view.reason.as_ref().filter(|reason| reason.code == "BACKOFF");
        let until = backoff.and_then(|reason| reason.numbers.get("until")?.as_str()?.parse().ok());
        let times = [view.spec.not_before, until].into_iter().flatten().map(ms);
        times.fold(self.now, Time::max)
    }

    fn started(&self, view: &JobView) -> Time {
        let runs = view.status == Status::Running && view.stopping.is_none();
        view.started_at.filter(|_| runs).map_or(self.now, |at| ms(at).min(self.now))
    }

    /// What its containers have that have not ended.
    fn places(&self, view: &JobView) -> Vec<(usize, Held)> {
        let live = view
            .attempts
            .iter()
            .filter(|of| of.attempt == view.attempt && of.status != AttemptStatus::Exited);
        let need = need(view);
        let places = live.filter_map(|of| {
            let device = *self.devices.get(of.device.as_str())?;
            let places = of.gpus.iter().filter_map(|gpu| self.gpus.get(&gpu.id));
            let gpus = places.fold(0, |mask, place| mask | 1 << place);
            let Need { share, cpu_milli, memory_mb, .. } = need;
            let (ends, preemptible) = (NEVER, view.spec.preemptible);
            Some((device, Held { gpus, share, cpu_milli, memory_mb, ends, preemptible }))
        });
        places.collect()
    }
}

fn need(view: &JobView) -> Need {
    let wanted = &view.spec.resources;
    Need {
        gpus: u16::try_from(wanted.gpus).unwrap_or(u16::MAX),
        share: WHOLE,
        types: if wanted.gpus > 0 { wanted.gpu_type.clone() } else { Vec::new() },
        cpu_milli: wanted.cpus.milli,
        memory_mb: i64::try_from(wanted.memory_mb).unwrap_or(i64::MAX),
    }
}

/// The places of its GPUs, in their order on the device, and their numbers in the database.
pub fn gpu_places(device: &DeviceView) -> impl Iterator<Item = (usize, i64)> {
    let mut gpus: Vec<(u32, i64)> = device.gpus.iter().map(|gpu| (gpu.idx, gpu.id)).collect();
    gpus.sort_unstable();
    gpus.into_iter().map(|(_, id)| id).enumerate().take(MAX_GPUS)
}

fn device(view: &DeviceView) -> Device {
    let kinds: HashMap<i64, &str> = view.gpus.iter().map(|gpu| (gpu.id, gpu.kind.as_str())).collect();
    let inventory = Inventory {
        name: view.name.clone(),
        gpus: gpu_places(view).map(|(_, id)| kinds[&id].to_owned()).collect(),
        cpu_milli: milli(view.cpus),
        memory_mb: view.memory_mb,
        labels: view.labels.clone(),
    };
    let open = match view.state {
        DeviceState::Up => true,
        DeviceState::Draining | DeviceState::Degraded | DeviceState::Lost => false,
    };
    Device { inventory, open }
}

fn rules(queue: &Queue) -> Rules {
    Rules {
        order: match queue.policy {
            OrderWord::ExpansionFactor => Order::Expansion,
            OrderWord::Fifo => Order::Fifo,
            OrderWord::FifoBackfill => Order::FifoBackfill,
        },
        placement: match queue.placement {
            PlacementWord::Pack => Placement::Pack,
            PlacementWord::Spread => Placement::Spread,
            PlacementWord::Fgd => Placement::Fgd,
        },
        weight: queue.weight,
        quota: queue.quota.clone(),
    }
}

/// The policy's times: milliseconds since 1970.
#[must_use]
pub fn ms(time: Timestamp) -> Time {
    time.as_millisecond()
}

fn from_seconds(seconds: u64) -> Time {
    i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1_000)).unwrap_or(NEVER)
}

/// Thousandths of CPUs.
#[allow(clippy::cast_possible_truncation, reason = "far below 2^63 for any machine, and a float saturates")]
#[must_use]
pub fn milli(cpus: f64) -> i64 {
    (cpus * 1_000.0).round() as i64
}
