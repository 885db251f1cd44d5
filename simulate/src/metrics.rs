//! What came out of a run, in the numbers that the literature compares.
//!
//! Wait = start − submission; JCT (job completion time) = end − submission; bounded slowdown = max(1, JCT / max(run
//! time, τ)) with τ = 10 s (Feitelson); makespan = last end − first submission; utilization = GPU-seconds used /
//! (GPUs × makespan). The p-th percentile of n
//! values in order is the one nearest to the place (n − 1) · p / 100, counted from 0: a value that occurred.

use berth_policy::Time;
use serde::Serialize;

use crate::run::Run;
use crate::trace::Trace;
use crate::{SECOND, seconds};

/// Jobs shorter than this do not count for more in the slowdown: Feitelson's bound.
const TAU: Time = 10 * SECOND;

/// One policy's results; times are seconds. The fields and their names are a promise to scripts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    pub policy: String,
    /// Jobs that ran.
    pub jobs: usize,
    /// Jobs that this cluster could never run.
    pub infeasible: usize,
    /// Things that must not happen.
    pub violations: usize,
    /// Jobs that were told when they would start at the latest.
    pub promises: usize,
    /// Of those, how many started later.
    pub promises_broken: usize,
    pub wait_avg: f64,
    pub wait_p50: f64,
    pub wait_p99: f64,
    pub wait_max: f64,
    pub jct_avg: f64,
    pub jct_p99: f64,
    pub bsld_avg: f64,
    /// From 0 to 1.
    pub utilization: f64,
    pub makespan: f64,
}

#[must_use]
pub fn summary(trace: &Trace, run: &Run) -> Summary {
    let mut waits = Vec::new();
    let mut jcts = Vec::new();
    let (mut slowdowns, mut gpu_ms, mut first, mut last) = (0.0, 0.0, Time::MAX, Time::MIN);
    for (job, ran) in trace.jobs.iter().zip(&run.jobs) {
        let Some(ran) = ran.times() else { continue };
        let (wait, jct) = (ran.start - job.submit, ran.end - job.submit);
        slowdowns += (jct as f64 / ran.run.max(TAU) as f64).max(1.0);
        gpu_ms += f64::from(job.gpus) * ran.run as f64;
        first = first.min(job.submit);
        last = last.max(ran.end);
        waits.push(wait);
        jcts.push(jct);
    }
    waits.sort_unstable();
    jcts.sort_unstable();
    let makespan = last.saturating_sub(first).max(0);
    let whole = run.gpus as f64 * makespan as f64;
    Summary {
        policy: run.policy.clone(),
        jobs: waits.len(),
        infeasible: run.infeasible,
        violations: run.violations,
        promises: run.promises,
        promises_broken: run.promises_broken,
        wait_avg: mean(&waits),
        wait_p50: percentile(&waits, 50),
        wait_p99: percentile(&waits, 99),
        wait_max: percentile(&waits, 100),
        jct_avg: mean(&jcts),
        jct_p99: percentile(&jcts, 99),
        bsld_avg: if waits.is_empty() { 0.0 } else { slowdowns / waits.len() as f64 },
        utilization: if whole > 0.0 { gpu_ms / whole } else { 0.0 },
        makespan: seconds(makespan),
    }
}

/// Seconds.
fn mean(times: &[Time]) -> f64 {
    let sum: i128 = times.iter().map(|time| i128::from(*time)).sum();
    if times.is_empty() { 0.0 } else { sum as f64 / times.len() as f64 / SECOND as f64 }
}

/// Seconds; `times` are sorted.
fn percentile(times: &[Time], part: usize) -> f64 {
    let place = times.len().saturating_sub(1) * part;
    times.get((place + 50) / 100).map_or(0.0, |time| seconds(*time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Ran;

    #[test]
    fn numbers_that_were_worked_out_by_hand() {
        let text =
            &b"id,submit,dur,limit,gpus\n1,10,100,100,2\n2,10,4,100,1\n3,20,50,100,4\n4,20,1,1,64\n"[..];
        let lines = crate::source::Lines::of("t".as_ref(), Box::new(text));
        let trace = crate::trace::read_lines(lines, false).unwrap();
        let ran = |start: Time, run: Time| Ran {
            start: start * SECOND,
            end: (start + run) * SECOND,
            run: run * SECOND,
            ..Ran::NOT
        };
        let run = Run {
            policy: "fifo".to_owned(),
            jobs: vec![ran(10, 100), ran(10, 4), ran(110, 50), Ran::NOT],
            infeasible: 1,
            gpus: 4,
            ..Run::default()
        };
        let summary = summary(&trace, &run);
        assert_eq!((summary.jobs, summary.infeasible), (3, 1));
        assert_eq!(
            (summary.wait_avg, summary.wait_p50, summary.wait_p99, summary.wait_max),
            (30.0, 0.0, 90.0, 90.0)
        );
        assert_eq!((summary.jct_avg, summary.jct_p99), ((100.0 + 4.0 + 140.0) / 3.0, 140.0));
        // 1, 4 s of 10 s at least (so 1), 140/50.
        assert!((summary.bsld_avg - (1.0 + 1.0 + 2.8) / 3.0).abs() < 1e-9);
        assert_eq!(summary.makespan, 150.0);
        assert!((summary.utilization - (200.0 + 4.0 + 200.0) / 600.0).abs() < 1e-9);
    }

    #[test]
    fn a_percentile_is_a_value_that_occurred() {
        let times: Vec<Time> = (1..=200).map(|second| second * SECOND).collect();
        // At 99.5 and 197.01, counted from 0.
        assert_eq!([percentile(&times, 50), percentile(&times, 99)], [101.0, 198.0]);
        assert_eq!(percentile(&times, 100), 200.0);
        assert_eq!(percentile(&times[..1], 99), 1.0);
        assert_eq!(percentile(&[], 99), 0.0);
    }
}
