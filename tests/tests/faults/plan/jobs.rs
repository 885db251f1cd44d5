//! The jobs of a schedule, and what is wished for each.

use std::time::Duration;

use serde_json::{Value, json};

use super::{LENGTH, Span, ms, s, within};
use crate::chance::Chance;

/// Submitted at once; more than the devices can run, so that jobs always wait.
const JOBS_AT_ONCE: usize = 100;
/// Submitted one by one, until the end.
const JOBS_LATER: usize = 60;
const JOB: Span = (s(0), s(2));
/// Some last longer than `LOST_AFTER`: a fence that fails leaves them alive when their next attempt begins.
/// They go first, so that they run when a device goes away.
const LONG_JOBS: usize = 10;
const LONG_JOB: Span = (s(25), s(35));
const LONG_JOBS_UNTIL: Duration = s(25);
const LONG_JOB_PRIORITY: u32 = 200;
/// Of two replicas, before the short ones: two places at once are rarely free by themselves.
const GANGS: usize = 10;
const GANG: Span = (s(1), s(4));
const GANG_PRIORITY: u32 = 150;

/// What is wished for a job after its submission was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Nothing,
    Kill { after: Duration },
    Hold { after: Duration, lasts: Duration },
}

#[derive(Debug, Clone, PartialEq)]
pub struct PlannedJob {
    pub at: Duration,
    pub key: String,
    /// All but the image.
    pub spec: Value,
    pub exit_code: i64,
    pub wish: Wish,
}

pub fn draw(chance: &mut Chance) -> Vec<PlannedJob> {
    let long: Vec<_> = (0..LONG_JOBS).map(|_| chance.between(s(0), LONG_JOBS_UNTIL)).collect();
    let at_once = (0..JOBS_AT_ONCE).map(|_| s(0));
    let later: Vec<_> = (0..JOBS_LATER).map(|_| chance.between(s(2), LENGTH)).collect();
    let mut jobs: Vec<_> = long.into_iter().enumerate().map(|(n, at)| long_job(chance, n, at)).collect();
    jobs.extend(at_once.chain(later).enumerate().map(|(n, at)| short_job(chance, n, at)));
    jobs.extend((0..GANGS).map(|n| gang(chance, n)));
    jobs
}

fn short_job(chance: &mut Chance, n: usize, at: Duration) -> PlannedJob {
    let exit_code = i64::from(chance.percent(25));
    let retries = if chance.percent(50) { chance.below(3) } else { 0 };
    let spec = json!({"command": script(chance, JOB, exit_code), "retries": retries, "backoff_s": 1});
    PlannedJob { wish: wish(chance), ..job(chance, format!("short-{n}"), at, exit_code, spec) }
}

/// One that failed again and again would only make the schedule longer.
fn long_job(chance: &mut Chance, n: usize, at: Duration) -> PlannedJob {
    let spec = json!({"command": script(chance, LONG_JOB, 0), "priority": LONG_JOB_PRIORITY});
    job(chance, format!("long-{n}"), at, 0, spec)
}

/// When one of its devices goes away, the other replica is stopped, and both begin again.
fn gang(chance: &mut Chance, n: usize) -> PlannedJob {
    let at = chance.between(s(0), LENGTH);
    let spec = json!({"command": script(chance, GANG, 0), "replicas": 2, "priority": GANG_PRIORITY});
    PlannedJob { wish: wish(chance), ..job(chance, format!("gang-{n}"), at, 0, spec) }
}

/// Some do not hear SIGTERM, and are killed after their grace.
fn script(chance: &mut Chance, span: Span, exit_code: i64) -> Value {
    let deaf = if chance.percent(10) { "trap '' TERM; " } else { "" };
    let seconds = within(chance, span).as_secs_f64();
    json!(["sh", "-c", format!("{deaf}sleep {seconds:.3}; exit {exit_code}")])
}

fn job(chance: &mut Chance, key: String, at: Duration, exit_code: i64, mut spec: Value) -> PlannedJob {
    spec["name"] = json!(key);
    spec["resources"] = json!({"gpus": chance.one_of(&[0, 0, 1, 1, 2]), "cpus": 0.25, "memory_mb": 64});
    PlannedJob { at, key, spec, exit_code, wish: Wish::Nothing }
}

fn wish(chance: &mut Chance) -> Wish {
    let after = chance.between(ms(100), s(15));
    match chance.below(100) {
        0..20 => Wish::Kill { after },
        20..30 => Wish::Hold { after, lasts: chance.between(ms(100), s(4)) },
        _ => Wish::Nothing,
    }
}
