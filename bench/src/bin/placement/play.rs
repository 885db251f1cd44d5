//! The closed loop: the next job ends, what it had is free, a full pass places others, and as many are submitted.
//!
//! What is timed of a decision is all of it: the end of a job, the pass, the submission of whoever follows, and
//! the question why some job waits, now and then; by the processor's time, for other programs may be running. A pass
//! is timed by the clock. Time on the cluster is counted, not waited for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use anyhow::Context;
use berth_bench::series::Series;
use berth_policy::{Pass, Policy, Time};
use berth_simulate::chance::Chance;
use uuid::Uuid;

use crate::memory;
use crate::work::{GPUS_PER_DEVICE, Size, Source, place_of};

/// Somebody asks why a job waits, once in so many passes.
const ASK_EVERY: u64 = 100;
/// Of the decisions that are measured, so many more before: then the cluster is full and everything is warm.
const WARM_UP: f64 = 0.1;

/// What came out.
pub struct Played {
    pub decisions: u64,
    /// Of the processor.
    pub took: Duration,
    /// The end of a job and the pass after it, µs.
    pub passes: Series,
    /// µs.
    pub questions: Series,
    /// Of the GPUs, over the time on the cluster.
    pub busy: f64,
    pub bytes_per_job: f64,
}

struct Table {
    policy: Policy<Uuid>,
    source: Source,
    /// Who waits at each place of the backlog, and how long it will run.
    backlog: Vec<(Uuid, Time)>,
    /// When what runs ends, and its GPUs.
    ends: BinaryHeap<Reverse<(Time, Uuid, u32)>>,
    busy_gpus: u32,
    now: Time,
}

/// Plays until so many jobs have started beyond those of the beginning.
pub fn play(size: Size, seed: u64, decisions: u64) -> anyhow::Result<Played> {
    let (policy, source) = Source::new(size, seed);
    let backlog = vec![(Uuid::max(), 1); size.waiting];
    let mut table = Table { policy, source, backlog, ends: BinaryHeap::new(), busy_gpus: 0, now: 0 };
    let before = memory::resident()?;
    for place in 0..size.waiting {
        let submitted = table.source.of_last_day(0);
        table.submit(place, submitted);
    }
    let bytes_per_job = memory::resident()?.saturating_sub(before) as f64 / size.waiting as f64;
    table.begin()?;
    // It asks on its own: the work is the same however often.
    let mut asking = Chance::new(!seed);
    let warm_up = (decisions as f64 * WARM_UP) as u64;
    table.measure(warm_up, &mut asking)?;
    let played = table.measure(decisions, &mut asking)?;
    let (passed, gpus) = (played.passed, f64::from(size.devices) * f64::from(GPUS_PER_DEVICE));
    Ok(Played {
        decisions: played.decisions,
        took: played.took,
        passes: played.passes,
        questions: played.questions,
        busy: played.gpu_time / (passed.max(1) as f64 * gpus),
        bytes_per_job,
    })
}

#[derive(Default)]
struct Measured {
    decisions: u64,
    took: Duration,
    passes: Series,
    questions: Series,
    gpu_time: f64,
    passed: Time,
}

impl Table {
    fn submit(&mut self, place: usize, submitted: Time) {
        let made = self.source.job(place, submitted);
        self.backlog[place] = (made.id, made.run);
        self.policy.submit(made.id, made.job);
    }

    /// The first pass fills the cluster.
    fn begin(&mut self) -> anyhow::Result<()> {
        let pass = self.policy.pass(self.now);
        self.started(&pass);
        anyhow::ensure!(!self.ends.is_empty(), "nothing starts on a cluster without jobs");
        Ok(())
    }

    fn started(&mut self, pass: &Pass<Uuid>) {
        for start in &pass.starts {
            let place = place_of(start.id);
            let gpus = start.places.iter().map(|(_, held)| held.gpus.count_ones()).sum();
            let run = self.backlog[place].1;
            self.ends.push(Reverse((self.now + run, start.id, gpus)));
            self.busy_gpus += gpus;
            self.submit(place, self.now);
        }
    }

    fn measure(&mut self, decisions: u64, asking: &mut Chance) -> anyhow::Result<Measured> {
        let mut measured = Measured::default();
        let (since, mut passes) = (self.now, 0_u64);
        let began = processor_time();
        while measured.decisions < decisions {
            let Reverse((end, id, gpus)) = self.ends.pop().context("something always runs")?;
            measured.gpu_time += f64::from(self.busy_gpus) * (end - self.now) as f64;
            self.now = end;
            self.busy_gpus -= gpus;
            let asked = Instant::now();
            self.policy.finish(&id, end);
            let pass = self.policy.pass(end);
            measured.passes.add(micros(asked));
            self.started(&pass);
            measured.decisions += pass.starts.len() as u64;
            passes += 1;
            if passes.is_multiple_of(ASK_EVERY) {
                let (waits, _) = self.backlog[asking.below(self.backlog.len())];
                let asked = Instant::now();
                self.policy.why(&waits, self.now).context("whoever waits has a reason")?;
                measured.questions.add(micros(asked));
            }
        }
        measured.took = processor_time().saturating_sub(began);
        measured.passed = self.now - since;
        Ok(measured)
    }
}

/// What this thread has had.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}
