//! The worlds. Each is explored as a whole within the bounds that it prints (`--nocapture`); a law that
//! does not hold is told with the way there, step by step.
//!
//! The first ones are explored with every run of the tests; the ones that are ignored go further, take
//! minutes each, and are explored by `make model`.

use std::time::Duration;

use berth_common::spec::Disconnect;
use berth_model::explore::explore;
use berth_model::world::{Bounds, DevicePlan, JobPlan, World};

/// Of two that are equally good a job goes to the one that comes first by its name.
const A: DevicePlan = DevicePlan { name: "a", gpus: 1, may_be_cut: true };
const B: DevicePlan = DevicePlan { name: "b", gpus: 1, may_be_cut: false };
const JOB: JobPlan =
    JobPlan { gpus: 1, replicas: 1, retries: 0, disconnect: Disconnect::Requeue, may_be_killed: false };
const KILLED: JobPlan = JobPlan { may_be_killed: true, ..JOB };

/// On two idle cores each takes less than a minute; others may be at work beside it.
const IN_TESTS: Duration = Duration::from_secs(280);
const BY_HAND: Duration = Duration::from_secs(1800);

fn check(longest: Duration, name: &'static str, devices: &[DevicePlan], jobs: &[JobPlan], bounds: Bounds) {
    let world = World { name, devices: devices.to_vec(), jobs: jobs.to_vec(), bounds };
    match explore(world, longest) {
        Ok(said) => println!("{said}"),
        Err(said) => panic!("{said}"),
    }
}

#[test]
fn one_job_on_one_device_killed_at_any_time() {
    let bounds =
        Bounds { leader_crashes: 1, worker_crashes: 1, losses: 1, repeats: 1, ticks: 6, ..Bounds::NONE };
    check(IN_TESTS, "one job, one device", &[A], &[JobPlan { retries: 1, ..KILLED }], bounds);
}

#[test]
fn one_job_on_one_device_with_late_messages() {
    let late = Bounds { late_beats: 1, slow_ticks: 1, ticks: 6, ..Bounds::NONE };
    let bounds = Bounds { leader_crashes: 1, losses: 2, repeats: 1, ..late };
    check(IN_TESTS, "one job, one device, late messages", &[A], &[KILLED], bounds);
}

#[test]
fn two_jobs_that_want_the_same_gpu() {
    let bounds = Bounds { leader_crashes: 1, losses: 2, repeats: 1, ticks: 6, ..Bounds::NONE };
    check(IN_TESTS, "two jobs, one GPU, the leader crashes", &[A], &[KILLED, JOB], bounds);
    let bounds = Bounds { worker_crashes: 1, losses: 1, ticks: 4, ..Bounds::NONE };
    check(IN_TESTS, "two jobs, one GPU, the worker crashes", &[A], &[KILLED, JOB], bounds);
}

#[test]
fn two_jobs_on_two_devices() {
    let bounds = Bounds { leader_crashes: 1, ticks: 2, ..Bounds::NONE };
    check(IN_TESTS, "two jobs, two devices", &[A, B], &[KILLED, JOB], bounds);
}

#[test]
fn a_gang_of_two_over_two_devices() {
    let gang = JobPlan { replicas: 2, ..KILLED };
    let bounds = Bounds { leader_crashes: 1, losses: 1, ..Bounds::NONE };
    check(IN_TESTS, "a gang of two, the leader crashes", &[A, B], &[gang], bounds);
}

#[test]
fn a_gang_of_two_of_which_one_device_is_lost() {
    let gang = JobPlan { replicas: 2, ..JOB };
    let bounds = Bounds { attempts: 1, cuts: 1, ..Bounds::NONE };
    check(IN_TESTS, "a gang of two, one device is lost", &[A, B], &[gang], bounds);
}

#[test]
fn a_device_is_lost_and_its_job_runs_elsewhere() {
    let bounds = Bounds { cuts: 1, ticks: 2, ..Bounds::NONE };
    check(IN_TESTS, "a device is lost, requeue", &[A, B], &[KILLED], bounds);
    let bounds = Bounds { cuts: 1, leader_crashes: 1, ticks: 1, ..Bounds::NONE };
    check(IN_TESTS, "a device is lost, requeue, the leader crashes", &[A, B], &[JOB], bounds);
}

#[test]
fn a_device_is_lost_and_its_job_waits_for_it() {
    let keep = JobPlan { disconnect: Disconnect::Keep, ..KILLED };
    let bounds = Bounds { cuts: 1, leader_crashes: 1, ticks: 2, ..Bounds::NONE };
    check(IN_TESTS, "a device is lost, keep, another job wants its GPU", &[A], &[keep, JOB], bounds);
    let bounds = Bounds { cuts: 1, ticks: 2, ..Bounds::NONE };
    check(IN_TESTS, "a device is lost, keep, another device is free", &[A, B], &[keep], bounds);
}

/// As the tests' worlds, with all that can go wrong at once.
const ALL: Bounds = Bounds {
    attempts: 2,
    leader_crashes: 1,
    worker_crashes: 1,
    losses: 2,
    repeats: 1,
    ticks: 6,
    slow_ticks: 1,
    late_beats: 1,
    cuts: 0,
};

#[test]
#[ignore = "minutes: make model"]
fn far_one_job_on_one_device() {
    check(BY_HAND, "one job, one device", &[A], &[KILLED], ALL);
}

#[test]
#[ignore = "minutes: make model"]
fn far_two_jobs_that_want_the_same_gpu() {
    let bounds = Bounds { slow_ticks: 0, late_beats: 0, ..ALL };
    check(BY_HAND, "two jobs, one GPU", &[A], &[KILLED, JOB], bounds);
}

#[test]
#[ignore = "minutes: make model"]
fn far_two_jobs_on_two_devices() {
    let bounds = Bounds { leader_crashes: 1, losses: 1, ticks: 3, ..Bounds::NONE };
    check(BY_HAND, "two jobs, two devices", &[A, B], &[KILLED, JOB], bounds);
}

#[test]
#[ignore = "minutes: make model"]
fn far_a_gang_of_two() {
    let gang = JobPlan { replicas: 2, ..JOB };
    let bounds = Bounds { worker_crashes: 1, ..Bounds::NONE };
    check(BY_HAND, "a gang of two, a worker crashes", &[A, B], &[gang], bounds);
    let bounds = Bounds { leader_crashes: 1, ticks: 3, ..Bounds::NONE };
    let killed = JobPlan { replicas: 2, ..KILLED };
    check(BY_HAND, "a gang of two, the leader crashes", &[A, B], &[killed], bounds);
}

#[test]
#[ignore = "minutes: make model"]
fn far_a_device_is_lost() {
    let bounds = Bounds { cuts: 1, leader_crashes: 1, losses: 1, ticks: 2, ..Bounds::NONE };
    let keep = JobPlan { disconnect: Disconnect::Keep, ..KILLED };
    check(BY_HAND, "a device is lost, keep, another job wants its GPU", &[A], &[keep, JOB], bounds);
    let bounds = Bounds { cuts: 2, losses: 1, ..Bounds::NONE };
    check(BY_HAND, "a device is lost twice, requeue", &[A], &[KILLED], bounds);
}
