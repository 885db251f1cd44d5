//! `berth-sim`: runs seeds of the fault simulator on all cores, or replays one with its trace.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use berth_sim::{Counts, Report, Tally, Trace, run};
use clap::Parser;

/// Failures that are shown; more of them say nothing new.
const SHOWN: usize = 10;
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Breaks a simulated Berth in every way and checks what it promises.
#[derive(Parser)]
struct Arguments {
    /// Number of seeds.
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Replays this one and writes down every step.
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Threads; all cores where absent.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic in a simulated process is a finding like any other.
    std::panic::set_hook(Box::new(|_| {}));
    let failed = match arguments.seed {
        Some(seed) => replay(seed),
        None => many(&arguments),
    };
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Whether something was found.
fn replay(seed: u64) -> bool {
    let report = run(seed, Trace::On);
    report.trace.iter().for_each(|line| println!("{line}"));
    println!(
        "seed {seed}: {} jobs, {} events, {} faults, {} s",
        report.jobs,
        report.events,
        report.faults,
        report.ms / 1000
    );
    report.findings.iter().for_each(|finding| println!("WRONG: {finding}"));
    !report.findings.is_empty()
}

/// What all seeds together came to.
#[derive(Default)]
struct Sum {
    counts: Counts,
    tally: Tally,
    failed: Vec<Report>,
    done: u64,
    events: u64,
    least_events: Option<u64>,
    faults: u64,
    jobs: u64,
    ms: u64,
}

impl Sum {
    fn add(&mut self, report: Report) {
        self.counts += report.counts;
        self.tally += report.tally;
        self.done += 1;
        self.events += report.events;
        self.least_events = Some(self.least_events.map_or(report.events, |least| least.min(report.events)));
        self.faults += report.faults;
        self.jobs += report.jobs;
        self.ms += report.ms;
        if !report.findings.is_empty() {
            self.failed.push(report);
        }
    }
}

fn many(arguments: &Arguments) -> bool {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = arguments.threads.unwrap_or(cores).max(1);
    let next = AtomicU64::new(arguments.first);
    let end = arguments.first.saturating_add(arguments.seeds);
    let sum = Mutex::new(Sum::default());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut shown = Instant::now();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let report = run(seed, Trace::Off);
                    let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    sum.add(report);
                    if shown.elapsed() > PROGRESS_EVERY {
                        shown = Instant::now();
                        let (done, failed) = (sum.done, sum.failed.len());
                        println!("{done} of {} seeds, {failed} failed", arguments.seeds);
                    }
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    tell(&sum, began.elapsed());
    !sum.failed.is_empty()
}

fn tell(sum: &Sum, took: Duration) {
    let mut failed: Vec<&Report> = sum.failed.iter().collect();
    failed.sort_by_key(|report| report.seed);
    for report in failed.iter().take(SHOWN) {
        println!("seed {} failed; replay it: make sim SEED={}", report.seed, report.seed);
        report.findings.iter().take(3).for_each(|finding| println!("  {finding}"));
    }
    let Sum { counts, tally, done, events, faults, jobs, ms, .. } = sum;
    println!(
        "{done} seeds in {:.1} s: {jobs} jobs, {faults} faults, {events} events (at least {} in each), {} simulated hours",
        took.as_secs_f64(),
        sum.least_events.unwrap_or(0),
        ms / 3_600_000
    );
    println!(
        "preempted {}, of which {} went back to wait and {} ran again",
        tally.preempted, tally.went_back, tally.ran_again
    );
    println!("placed within a quota {}, of which {} used it up", tally.within_quota, tally.quota_full);
    println!("preemptible containers beyond a quota {}", tally.beyond_quota);
    println!("settings of queues changed {}", tally.settings);
    println!(
        "lost {} · doubled {} · leaked {} · forgotten {} · otherwise wrong {} · seeds that failed {}",
        counts.lost,
        counts.doubled,
        counts.leaked,
        counts.forgotten,
        counts.other,
        failed.len()
    );
}
