//! Plays a trace on a cluster by the service's own policy, in the trace's time.
//!
//! At equal times: completions, then arrivals, then one pass. Jobs at one time come in the order of their ids, so the
//! order of the file changes nothing, and nothing here is random. Run times are not cut at limits unless asked for;
//! starting and stopping cost nothing: a preempted job goes on later where it stopped.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use berth_policy::cluster::DeviceKey;
use berth_policy::queue::{Order, Placement, Rules};
use berth_policy::{Policy, QueueKey, Settings, Start, Time};

use crate::SECOND;
use crate::audit::{Audit, Part};
use crate::cluster::Cluster;
use crate::shape::Shapes;
use crate::trace::{Job, Trace};

/// A job without a limit has this one: that of the queue `default`.
pub const DEFAULT_LIMIT: Time = 7 * 24 * 3600 * SECOND;
/// Where jobs wait whose trace names no queue.
const DEFAULT_QUEUE: &str = "default";
/// After so many passes the policy's books are checked, and somebody may look at the progress.
const LOOK_EVERY: u64 = 1 << 14;

/// How to play.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    pub order: Order,
    pub placement: Placement,
    pub queues: Queues,
    pub limits: Limits,
    /// Jobs that come later than this after the first are left out.
    pub until: Option<Time>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Queues {
    /// The trace's.
    #[default]
    Own,
    /// All jobs in one.
    One,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Limits {
    /// Jobs run for as long as the trace says.
    #[default]
    Trusted,
    /// Jobs end at their limits.
    Enforced,
}

/// What became of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ran {
    pub start: Time,
    pub end: Time,
    /// How long it ran.
    pub run: Time,
    /// The time that it was first told it would start by.
    pub promise: Option<Time>,
}

impl Ran {
    /// It never started.
    pub const NOT: Self = Self { start: Time::MIN, end: Time::MIN, run: 0, promise: None };

    /// None: it never started, or never ended.
    #[must_use]
    pub fn times(&self) -> Option<&Self> {
        (self.end != Time::MIN).then_some(self)
    }
}

/// What became of all of them.
#[derive(Debug, Clone, Default)]
pub struct Run {
    pub policy: String,
    /// In the order of the trace.
    pub jobs: Vec<Ran>,
    /// GPUs of the cluster.
    pub gpus: u64,
    pub infeasible: usize,
    /// Jobs that came after the time that was asked for.
    pub left_out: usize,
    pub violations: usize,
    /// The first violations in words.
    pub found: Vec<String>,
    pub promises: usize,
    pub promises_broken: usize,
}

struct Running {
    end: Time,
    parts: Vec<Part>,
}

struct Game<'a> {
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
    run: Run,
}

/// Plays `trace` on `cluster`; `look` is told now and then how many jobs have ended.
pub fn run(trace: &Trace, cluster: &Cluster, options: Options, look: &mut dyn FnMut(u64)) -> Run {
    let mut game = Game::new(trace, cluster, options);
    let latest = match (options.until, trace.jobs.first()) {
        (Some(until), Some(first)) => first.submit.saturating_add(until),
        (Some(_) | None, _) => Time::MAX,
    };
    let count = trace.jobs.partition_point(|job| job.submit <= latest);
    let mut arrivals = (0..).zip(&trace.jobs[..count]).peekable();
    let (mut passes, mut ended) = (0, 0);
    loop {
        let arrival = arrivals.peek().map(|(_, job)| job.submit);
        let Some(now) = arrival.into_iter().chain(game.next_end().map(|(end, _)| end)).min() else { break };
        while let Some((_, id)) = game.next_end().filter(|(end, _)| *end == now) {
            game.end(id, now);
            ended += 1;
        }
        while let Some((id, job)) = arrivals.next_if(|(_, job)| job.submit == now) {
            game.arrive(id, job);
        }
        game.pass(now);
        passes += 1;
        if passes % LOOK_EVERY == 0 {
            game.check();
            look(ended);
        }
    }
    game.run.left_out = trace.jobs.len() - count;
    game.over()
}

impl<'a> Game<'a> {
    fn new(trace: &'a Trace, cluster: &'a Cluster, options: Options) -> Self {
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
        Self {
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
        }
    }

    /// The next end of a run, and whose.
    fn next_end(&mut self) -> Option<(Time, u32)> {
        loop {
            let Reverse((end, id)) = *self.ends.peek()?;
            if self.running.get(&id).is_some_and(|running| running.end == end) {
                return Some((end, id));
            }
            // It was preempted.
            self.ends.pop();
        }
    }

    fn end(&mut self, id: u32, now: Time) {
        let parts = self.running.remove(&id).map(|running| running.parts).unwrap_or_default();
        self.audit.ends(&self.trace.jobs[id as usize].id, &parts);
        self.policy.finish(&id, now);
        self.run.jobs[id as usize].end = now;
    }

    fn arrive(&mut self, id: u32, job: &Job) {
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
    fn pass(&mut self, now: Time) {
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
    fn check(&mut self) {
        for found in berth_policy::check::violations(&self.policy) {
            self.audit.wrong(found);
        }
    }

    fn over(mut self) -> Run {
        let waiting = self.policy.waiting_count();
        if waiting > 0 {
            self.audit.wrong(format!("{waiting} jobs that fit never started"));
        }
        self.audit.over();
        self.check();
        Run { violations: self.audit.count, found: self.audit.found, ..self.run }
    }
}

/// What a policy is called: `xf`, `fifo`, `fifo-backfill`; with `/spread` or `/fgd` where it does not pack.
#[must_use]
pub fn name(order: Order, placement: Placement) -> String {
    let order = match order {
        Order::Expansion => "xf",
        Order::Fifo => "fifo",
        Order::FifoBackfill => "fifo-backfill",
    };
    match placement {
        Placement::Pack => order.to_owned(),
        Placement::Spread => format!("{order}/spread"),
        Placement::Fgd => format!("{order}/fgd"),
    }
}
