//! Plain FIFO and plain EASY, written from their definitions and without a line of the policy: the service's policy, asked for
//! the same orders, must start every job at the same time.
//!
//! FIFO (strict): the first job that does not fit blocks all others. EASY (Lifka 1995; Mu'alem and Feitelson 2001): the first
//! that does not fit (the head) will start at its shadow time, when enough running jobs have reached their limits; a later
//! job may start now where the head still fits at that time, on the devices and not by counts.

use std::io::Cursor;

use berth_policy::queue::{Order, Placement};
use berth_simulate::cluster;
use berth_simulate::generate::{self, Work};
use berth_simulate::run::{Limits, Options, Queues, run};
use berth_simulate::source::Lines;
use berth_simulate::trace::{self, Job, Trace};

/// Takes `gpus` from what is `free` by device: from the device with the fewest free that suffices, or for more than
/// a device has, from whole devices and then as before. None: it does not fit.
fn place(free: &mut [u32], per_device: u32, gpus: u32) -> Option<Vec<(usize, u32)>> {
    let whole = if gpus > per_device { gpus / per_device } else { 0 };
    let rest = gpus - whole * per_device;
    let mut taken = Vec::new();
    for wanted in (0..whole).map(|_| per_device).chain((rest > 0).then_some(rest)) {
        let fits = (0..free.len()).filter(|device| free[*device] >= wanted);
        let Some(best) = fits.min_by_key(|device| (free[*device], *device)) else {
            taken.iter().for_each(|(device, gpus)| free[*device] += gpus);
            return None;
        };
        free[best] -= wanted;
        taken.push((best, wanted));
    }
    Some(taken)
}

/// What runs: when it ends, when its limit is reached, and where it is.
struct Running {
    end: i64,
    limit: i64,
    places: Vec<(usize, u32)>,
}

struct Cluster {
    per_device: u32,
    free: Vec<u32>,
    running: Vec<Running>,
}

impl Cluster {
    fn start(&mut self, job: &Job, now: i64) -> bool {
        let Some(places) = place(&mut self.free, self.per_device, job.gpus) else { return false };
        let limit = now + job.limit.expect("the generator gives one");
        self.running.push(Running { end: now + job.run, limit, places });
        true
    }

    fn end(&mut self, now: i64) {
        for over in self.running.extract_if(.., |running| running.end <= now) {
            over.places.iter().for_each(|(device, gpus)| self.free[*device] += gpus);
        }
    }

    /// What is free by device at `time`, if all ends at its limit; what has outrun it ends at once.
    fn free_at(&self, time: i64) -> Vec<u32> {
        let mut free = self.free.clone();
        for over in self.running.iter().filter(|running| running.limit <= time) {
            over.places.iter().for_each(|(device, gpus)| free[*device] += gpus);
        }
        free
    }

    fn shadow(&self, head: &Job, now: i64) -> i64 {
        let mut times: Vec<i64> = self.running.iter().map(|running| running.limit.max(now)).collect();
        times.push(now);
        times.sort_unstable();
        let fits = |time: &i64| place(&mut self.free_at(*time), self.per_device, head.gpus).is_some();
        times.into_iter().find(fits).expect("it fits on an empty cluster")
    }

    /// Starts `job` where it fits best of all places where `head` still fits at `shadow`.
    fn start_beside(&mut self, job: &Job, head: &Job, shadow: i64, now: i64) -> bool {
        let limit = now + job.limit.expect("the generator gives one");
        let mut choices = vec![place(&mut self.free.clone(), self.per_device, job.gpus).unwrap_or_default()];
        if job.gpus <= self.per_device {
            let mut devices: Vec<usize> = (0..self.free.len()).collect();
            devices.sort_by_key(|device| (self.free[*device], *device));
            devices.retain(|device| self.free[*device] >= job.gpus);
            choices = devices.into_iter().map(|device| vec![(device, job.gpus)]).collect();
        }
        let harmless = |places: &Vec<(usize, u32)>| {
            let mut then = self.free_at(shadow);
            let stays = limit > shadow;
            places.iter().filter(|_| stays).for_each(|(device, gpus)| then[*device] -= gpus);
            !places.is_empty() && place(&mut then, self.per_device, head.gpus).is_some()
        };
        let Some(places) = choices.into_iter().find(harmless) else { return false };
        places.iter().for_each(|(device, gpus)| self.free[*device] -= gpus);
        self.running.push(Running { end: now + job.run, limit, places });
        true
    }
}

/// When each job starts.
fn reference(trace: &Trace, hosts: usize, per_device: u32, backfill: bool) -> Vec<i64> {
    let mut cluster = Cluster { per_device, free: vec![per_device; hosts], running: Vec::new() };
    let mut starts = vec![i64::MIN; trace.jobs.len()];
    let (mut waiting, mut come): (Vec<usize>, usize) = (Vec::new(), 0);
    loop {
        let arrival = trace.jobs.get(come).map(|job| job.submit);
        let end = cluster.running.iter().map(|running| running.end).min();
        let Some(now) = arrival.into_iter().chain(end).min() else { return starts };
        cluster.end(now);
        while trace.jobs.get(come).is_some_and(|job| job.submit == now) {
            waiting.push(come);
            come += 1;
        }
        let mut head: Option<(&Job, i64)> = None;
        waiting.retain(|&index| {
            let job = &trace.jobs[index];
            let started = match head {
                None => cluster.start(job, now),
                Some((head, shadow)) => backfill && cluster.start_beside(job, head, shadow, now),
            };
            if started {
                starts[index] = now;
                return false;
            }
            if head.is_none() {
                head = Some((job, cluster.shadow(job, now)));
            }
            true
        });
    }
}

fn made_up(jobs: u32, seed: u64, gpus: u64, load: f64) -> Trace {
    let mut text = Vec::new();
    generate::write(&Work { jobs, seed, gpus, load }, &mut text).expect("memory takes it");
    trace::read_lines(Lines::of("made".as_ref(), Box::new(Cursor::new(text))), false).expect("a trace")
}

fn compare(order: Order, hosts: usize, per_device: u32, seeds: std::ops::Range<u64>) {
    let cluster = cluster::of_hosts(hosts, per_device as usize).expect("a cluster");
    let mut waited = 0;
    for seed in seeds {
        let trace = made_up(400, seed, cluster.gpus(), 0.9 + 0.1 * (seed % 4) as f64);
        let expected = reference(&trace, hosts, per_device, order == Order::FifoBackfill);
        let options = Options {
            order,
            placement: Placement::Pack,
            queues: Queues::One,
            limits: Limits::Trusted,
            until: None,
        };
        let got = run(&trace, &cluster, options, &mut |_| ());
        assert_eq!(got.violations, 0, "{:?}", got.found);
        for ((job, ran), expected) in trace.jobs.iter().zip(&got.jobs).zip(expected) {
            let place = format!("{order:?} on {hosts}x{per_device}, seed {seed}, job {}", job.id);
            assert_eq!(
                ran.start,
                expected,
                "{place}: starts {} ms after the reference",
                ran.start - expected
            );
            waited += usize::from(expected > job.submit);
        }
    }
    assert!(waited > 500, "only {waited} jobs had to wait: this shows nothing");
}

#[test]
fn fifo_on_single_gpus() {
    compare(Order::Fifo, 100, 1, 0..8);
}

#[test]
fn fifo_on_hosts_of_eight() {
    compare(Order::Fifo, 8, 8, 0..8);
}

#[test]
fn easy_on_single_gpus() {
    compare(Order::FifoBackfill, 100, 1, 0..8);
}

#[test]
fn easy_on_hosts_of_eight() {
    compare(Order::FifoBackfill, 8, 8, 0..8);
}
