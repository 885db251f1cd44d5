//! Makes up work like that of Microsoft's Philly cluster (Jeon et al., USENIX ATC 2019): most jobs have one GPU and are
//! short, a few are large or long, and people submit by day.
//!
//! The same seed gives the same trace on every machine. Limits are what people write: a round time above the run time.

use std::io::{self, Write};

use crate::chance::Chance;

/// GPUs of a job, and how many of a thousand jobs have so many.
const SIZES: [(u32, f64); 7] =
    [(1, 700.0), (2, 70.0), (4, 80.0), (8, 120.0), (16, 20.0), (32, 7.0), (64, 3.0)];
/// Half of the jobs with one GPU run no longer than this, in seconds.
const MEDIAN_S: f64 = 900.0;
/// Each doubling of the GPUs makes the median so much longer.
const LONGER: f64 = 1.25;
/// Of the logarithm of the run time.
const DEVIATION: f64 = 2.0;
/// Run times in seconds.
const SHORTEST_S: f64 = 10.0;
const LONGEST_S: f64 = 30.0 * DAY_S;
const DAY_S: f64 = 86_400.0;
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// What people ask for, in seconds.
const LIMITS: [u64; 12] =
    [600, 1_800, HOUR, 4 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 90 * DAY, 365 * DAY];
/// By how much the rate of submissions rises at noon and falls at midnight.
const RHYTHM: f64 = 0.6;
const USERS: usize = 40;
const QUEUES: [&str; 3] = ["research", "product", "students"];

/// What to make up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    pub jobs: u32,
    pub seed: u64,
    /// For a cluster of so many GPUs; no job has more.
    pub gpus: u64,
    /// Of the cluster's GPU time, while jobs are being submitted; 1: exactly all of it.
    pub load: f64,
}

struct Draft {
    submit: u64,
    run: u64,
    gpus: u32,
    user: usize,
}

/// Writes a trace as CSV.
///
/// # Errors
/// When it cannot be written.
pub fn write(work: &Work, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "id,submit,dur,limit,gpus,queue,user")?;
    for (id, Draft { submit, run, gpus, user }) in (1..).zip(drafts(work)) {
        let limit = LIMITS.into_iter().find(|limit| *limit >= run).unwrap_or(run);
        let queue = QUEUES[user % QUEUES.len()];
        writeln!(out, "{id},{submit},{run},{limit},{gpus},{queue},user{user:02}")?;
    }
    Ok(())
}

fn drafts(work: &Work) -> Vec<Draft> {
    let mut chance = Chance::new(work.seed);
    // A few people submit most of the jobs: the n-th has a weight of 1/n (Zipf).
    let users: Vec<f64> = (1..=USERS).map(|place| 1.0 / place as f64).collect();
    let sizes: Vec<f64> = SIZES.iter().map(|(_, weight)| *weight).collect();
    let mut drafts: Vec<Draft> = Vec::new();
    for _ in 0..work.jobs {
        let size = SIZES[chance.weighted(&sizes)].0;
        let gpus = size.min(u32::try_from(work.gpus).unwrap_or(u32::MAX)).max(1);
        let median = MEDIAN_S * LONGER.powf(f64::from(gpus).log2());
        let run = median * (DEVIATION * chance.normal()).exp();
        let run = run.clamp(SHORTEST_S, LONGEST_S) as u64;
        drafts.push(Draft { submit: 0, run, gpus, user: chance.weighted(&users) });
    }
    let gpu_s: f64 = drafts.iter().map(|draft| f64::from(draft.gpus) * draft.run as f64).sum();
    let span = gpu_s / (work.gpus.max(1) as f64 * work.load.max(1e-3));
    let mut submits: Vec<u64> = drafts.iter().map(|_| submission(&mut chance, span)).collect();
    submits.sort_unstable();
    for (draft, submit) in drafts.iter_mut().zip(submits) {
        draft.submit = submit;
    }
    drafts
}

/// A time in `span` seconds, more often by day than by night.
fn submission(chance: &mut Chance, span: f64) -> u64 {
    loop {
        let time = chance.part() * span;
        let rate = 1.0 - RHYTHM * (std::f64::consts::TAU * time / DAY_S).cos();
        if chance.part() * (1.0 + RHYTHM) < rate {
            return time as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Lines;
    use crate::trace;

    fn text(work: &Work) -> Vec<u8> {
        let mut out = Vec::new();
        write(work, &mut out).unwrap();
        out
    }

    #[test]
    fn it_is_a_trace_of_the_sizes_and_the_load_that_were_asked_for() {
        let work = Work { jobs: 20_000, seed: 3, gpus: 512, load: 0.9 };
        assert_eq!(text(&work), text(&work), "a seed is a trace");
        let lines = Lines::of("made".as_ref(), Box::new(io::Cursor::new(text(&work))));
        let trace = trace::read_lines(lines, false).unwrap();
        let share = |gpus| trace.jobs.iter().filter(|job| job.gpus == gpus).count() as f64 / 200.0;
        assert!((share(1) - 70.0).abs() < 2.0 && (share(8) - 12.0).abs() < 1.0 && share(64) > 0.1);
        assert!(trace.jobs.iter().all(|job| job.limit.is_some_and(|limit| limit >= job.run)));
        let work: f64 = trace.jobs.iter().map(|job| f64::from(job.gpus) * job.run as f64).sum();
        let load = work / 512.0 / trace.jobs.last().unwrap().submit as f64;
        assert!((load - 0.9).abs() < 0.02, "the load is {load}");
        let noon = |submit: i64| (21_600..64_800).contains(&(submit / 1000 % 86_400));
        let by_day = trace.jobs.iter().filter(|job| noon(job.submit)).count();
        assert!(by_day > 12_000, "{by_day} of 20,000 between 6 and 18 o'clock");
    }

    #[test]
    fn nothing_is_larger_than_the_cluster() {
        let made = String::from_utf8(text(&Work { jobs: 2_000, seed: 1, gpus: 16, load: 1.0 })).unwrap();
        let gpus = |line: &str| line.split(',').nth(4).unwrap().parse::<u32>().unwrap();
        assert!(made.lines().skip(1).all(|line| gpus(line) <= 16));
    }
}
