//! The cluster in the trace's time: what arrives, starts, is preempted and ends, told to the policy and to the audit.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use berth_policy::cluster::DeviceKey;
use berth_policy::demand::Need;
use berth_policy::fgd::Usual;
use berth_policy::queue::{Placement, Rules};
use berth_policy::{Policy, QueueKey, Settings, Start, Time};

use super::{DEFAULT_LIMIT, Limits, Options, Queues, Ran, Run, name};
use crate::audit::{Audit, Part};
use crate::cluster::Cluster;
use crate::shape::Shapes;
use crate::trace::{Job, Trace};

/// Where jobs wait whose trace names no queue.
const DEFAULT_QUEUE: &str = "default";

struct Running {
    end: Time,
    parts: Vec<Part>,
}

pub struct Game<'a> {
    trace: &'a Trace,
    options: Options,
    policy: Policy<u32>,
    /// By queue of the trace.
    queues: Vec<QueueKey>,
    devices: HashMap<DeviceKey, usize>,
    shapes: Shapes<'a>,
    audit: Audit<'a>,
    /// When what runs will have run; also what was stopped before that.
    ends: BinaryHeap<Reverse<(Time, u32)>>,
    running: HashMap<u32, Running>,
    /// How long preempted jobs still have to run.
    left: HashMap<u32, Time>,
    pub run: Run,
}

impl<'a> Game<'a> {
    pub fn new(trace: &'a Trace, cluster: &'a Cluster, options: Options) -> Self {
        let mut policy = Policy::new(Settings::default());
        let mut devices = HashMap::new();
        for (place, device) in cluster.devices.iter().enumerate() {
            devices.insert(policy.add_device(device.clone()), place);
        }
        let rules = Rules { order: options.order, placement: options.placement, ..Rules::default() };
        let names = match options.queues {
            Queues::Own => trace.queues.all(),
            Queues::One => &[],
        };
        let mut queue =
            |name: &str| policy.set_queue(if name.is_empty() { DEFAULT_QUEUE } else { name }, rules.clone());
        // A trace's first name is the empty one; it is no queue unless jobs are in it.
        let unnamed = names.len() < 2 || trace.jobs.iter().any(|job| job.queue == 0);
        let mut queues: Vec<QueueKey> = names.iter().skip(1).map(|name| queue(name)).collect();
        queues.insert(0, if unnamed { queue("") } else { queues[0] });
        let run = Run {
            policy: name(options.order, options.placement),
            jobs: vec![Ran::NOT; trace.jobs.len()],
            gpus: cluster.gpus(),
            ..Run::default()
        };
        let mut game = Self {
            trace,
            options,
            policy,
            queues,
            devices,
            shapes: Shapes::new(cluster, trace),
            audit: Audit::new(cluster),
            ends: BinaryHeap::new(),
            running: HashMap::new(),
            left: HashMap::new(),
            run,
        };
        if options.placement == Placement::Fgd {
            game.policy.cluster_mut().usual = game.usual();
        }
        game
    }

    /// What usually comes: the containers of this trace.
    fn usual(&mut self) -> Usual {
        let mut times: BTreeMap<Need, u64> = BTreeMap::new();
        for job in &self.trace.jobs {
            let demand = self.shapes.demand(job, &self.policy);
            for (need, count) in demand.into_iter().flat_map(|demand| demand.parts) {
                *times.entry(need).or_default() += u64::from(count);
            }
        }
        Usual::new(times)
    }

    /// The next end of a run, and whose.
    pub fn next_end(&mut self) -> Option<(Time, u32)> {
        loop {
            let Reverse((end, id)) = *self.ends.peek()?;
            if self.running.get(&id).is_some_and(|running| running.end == end) {
                return Some((end, id));
            }
            // It was preempted.
            self.ends.pop();
        }
    }

    pub fn end(&mut self, id: u32, now: Time) {
        let parts = self.running.remove(&id).map(|running| running.parts).unwrap_or_default();
        self.audit.ends(&self.trace.jobs[id as usize].id, &parts);
        self.policy.finish(&id, now);
        self.run.jobs[id as usize].end = now;
    }

    pub fn arrive(&mut self, id: u32, job: &Job) {
        let Some(demand) = self.shapes.demand(job, &self.policy) else {
            self.run.infeasible += 1;
            return;
        };
        let limit = job.limit.unwrap_or(DEFAULT_LIMIT);
        let queue = match self.options.queues {
            Queues::Own => self.queues[job.queue as usize],
            Queues::One => self.queues[0],
        };
        let job = berth_policy::Job {
            queue,
            demand,
            priority: job.priority,
            submitted: job.submit,
            estimate: job.expected.unwrap_or(limit),
            limit,
            preemptible: job.preemptible,
            group: None,
            avoid: None,
        };
        self.policy.submit(id, job);
    }

    /// One pass; and again as long as jobs are stopped for others.
    pub fn pass(&mut self, now: Time) {
        loop {
            let pass = self.policy.pass(now);
            for start in &pass.starts {
                self.start(start, now);
            }
            if pass.preempted.is_empty() {
                return;
            }
            for id in pass.preempted {
                self.preempt(id, now);
            }
        }
    }

    /// Back to its old place in the queue.
    fn preempt(&mut self, id: u32, now: Time) {
        let Some(job) = self.trace.jobs.get(id as usize).filter(|job| job.preemptible) else {
            return self.audit.wrong(format!("job number {id} is preempted, which is not preemptible"));
        };
        let Some(running) = self.running.get(&id) else {
            return self.audit.wrong(format!("{} is preempted, and does not run", job.id));
        };
        self.left.insert(id, running.end - now);
        self.end(id, now);
        self.run.jobs[id as usize].end = Time::MIN;
        self.arrive(id, job);
    }

    fn start(&mut self, start: &Start<u32>, now: Time) {
        let Some(job) = self.trace.jobs.get(start.id as usize) else {
            return self.audit.wrong(format!("job number {} starts, which there is not", start.id));
        };
        let parts: Vec<Part> = start
            .places
            .iter()
            .map(|(key, held)| Part {
                device: self.devices.get(key).copied().unwrap_or(usize::MAX),
                gpus: held.gpus,
                cpu_milli: held.cpu_milli,
                memory_mb: held.memory_mb,
            })
            .collect();
        self.audit.starts(job, &self.shapes.types(job), &parts, now);
        let ran = self.run.jobs[start.id as usize];
        let left = self.left.remove(&start.id);
        if ran.start != Time::MIN && left.is_none() {
            self.audit.wrong(format!("{} starts twice", job.id));
        }
        let run = match (self.options.limits, job.limit) {
            (Limits::Enforced, limit) => job.run.min(limit.unwrap_or(DEFAULT_LIMIT)),
            (Limits::Trusted, _) => job.run,
        };
        let end = now.saturating_add(left.unwrap_or(run));
        self.running.insert(start.id, Running { end, parts });
        self.ends.push(Reverse((end, start.id)));
        if left.is_none() {
            let promise = self.kept(start.id, now);
            self.run.jobs[start.id as usize] = Ran { start: now, end: Time::MIN, run, promise };
        }
    }

    /// What a job that starts now had been promised.
    fn kept(&mut self, id: u32, now: Time) -> Option<Time> {
        let promise = self.policy.promise(&id)?;
        self.run.promises += 1;
        self.run.promises_broken += usize::from(now > promise.first && !promise.void);
        Some(promise.first)
    }

    /// The policy's own check of its books.
    pub fn check(&mut self) {
        for found in berth_policy::check::violations(&self.policy) {
            self.audit.wrong(found);
        }
    }

    pub fn over(mut self) -> Run {
        let waiting = self.policy.waiting_count();
        if waiting > 0 {
            self.audit.wrong(format!("{waiting} jobs that fit never started"));
        }
        self.audit.over();
        self.check();
        Run { violations: self.audit.count, found: self.audit.found, ..self.run }
    }
}
