//! When those start that wait, told by hand.

use std::collections::BTreeMap;

use berth_policy::demand::{Demand, Need, WHOLE};
use berth_policy::device::{Held, Inventory};
use berth_policy::queue::Rules;
use berth_policy::{Job, NEVER, QueueKey, Time};

use super::*;

const NOW: Time = 1_000_000;

fn host(name: &str, gpus: usize) -> Inventory {
    let gpus = vec!["T4".to_owned(); gpus];
    Inventory { name: name.to_owned(), gpus, cpu_milli: 8_000, memory_mb: 8_000, labels: BTreeMap::new() }
}

fn job(gpus: u16, submitted: Time, limit: Time) -> Job {
    Job {
        queue: QueueKey(0),
        demand: Demand::one(Need::of_gpus(gpus)),
        priority: 100,
        submitted,
        estimate: limit,
        limit,
        preemptible: false,
        group: None,
        avoid: None,
    }
}

fn runs(gpus: u64, started: Time, limit: Time) -> Known {
    let count = u16::try_from(gpus.count_ones()).unwrap();
    let held = Held { gpus, share: WHOLE, cpu_milli: 0, memory_mb: 0, ends: 0, preemptible: false };
    let state = State::Running { started, places: vec![(0, held)] };
    Known { job: job(count, started, limit), state, after: Vec::new() }
}

fn waits(gpus: u16, submitted: Time, limit: Time) -> Known {
    Known { job: job(gpus, submitted, limit), state: State::Waiting { from: submitted }, after: Vec::new() }
}

fn present(jobs: Vec<Known>) -> Present {
    let devices = vec![Device { inventory: host("a", 4), open: true }];
    Present { now: NOW, devices, queues: vec![("default".to_owned(), Rules::default())], jobs }
}

fn starts(present: &Present, added: &[Inventory]) -> Vec<Option<Time>> {
    let played = play(present, added);
    assert_eq!(played.violations, [] as [String; 0]);
    played.starts.into_iter().map(|start| start.map(|start| start - NOW)).collect()
}

#[test]
fn what_runs_ends_at_its_limit_and_more_devices_help() {
    let present =
        present(vec![runs(0b1111, NOW - 400, 1_000), waits(4, NOW - 300, 500), waits(4, NOW - 200, 500)]);
    assert_eq!(starts(&present, &[]), [Some(-400), Some(600), Some(1_100)]);
    assert_eq!(starts(&present, &[host("b", 4)]), [Some(-400), Some(0), Some(500)]);
    assert_eq!(starts(&present, &[host("b", 4), host("c", 8)]), [Some(-400), Some(0), Some(0)]);
}

#[test]
fn a_job_that_has_outrun_its_limit_ends_now_and_one_without_a_limit_never() {
    let over = present(vec![runs(0b1111, NOW - 400, 100), waits(4, NOW, 500)]);
    assert_eq!(starts(&over, &[]), [Some(-400), Some(0)]);
    let for_ever = present(vec![runs(0b1, NOW - 400, NEVER), waits(4, NOW, 500), waits(3, NOW, 500)]);
    assert_eq!(starts(&for_ever, &[]), [Some(-400), None, Some(0)]);
}

#[test]
fn dependencies_times_and_closed_devices_are_waited_for() {
    let mut jobs = vec![runs(0b1, NOW, 700), waits(1, NOW, 100), waits(1, NOW, 100)];
    jobs[1].after = vec![0];
    jobs[2].state = State::Waiting { from: NOW + 50 };
    jobs.push(Known { after: vec![1, 2], ..waits(1, NOW, 100) });
    let mut present = present(jobs);
    assert_eq!(starts(&present, &[]), [Some(0), Some(700), Some(50), Some(800)]);
    present.devices[0].open = false;
    assert_eq!(starts(&present, &[]), [Some(0), None, None, None]);
    assert_eq!(starts(&present, &[host("b", 1)]), [Some(0), Some(700), Some(50), Some(800)]);
}
