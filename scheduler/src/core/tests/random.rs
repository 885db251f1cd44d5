//! Random worlds: submissions of every kind, commands, queues that change, deaths and repetitions in any order.
//! After each step every invariant holds, no attempt ever starts twice, no job has two live attempts, no queue
//! has more than its quota, and nobody is charged with what we stopped. In the end everything comes to rest.

mod acts;
mod shares;

use std::collections::{BTreeMap, BTreeSet};

use berth_common::command::CommandStatus;
use berth_common::id::{JobId, Replica};
use berth_common::job::{Outcome, Status, StopReason};
use berth_common::message::{AdminRequest, HeldState, Reply, Target};
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::world::{self, World};
use crate::core::job::End;
use crate::core::rows::Life;
use acts::{Act, COMMANDS, DEVICES, DRAINS, act, command};
use shares::{QUEUES, Used};

/// What must be true of it in the end, and what was before the last step.
#[derive(Default)]
struct Account {
    killed: BTreeSet<JobId>,
    /// Jobs that were killed once: with `disconnect: keep` that gives up a container that may run on.
    ever_killed: BTreeSet<JobId>,
    ever_held: BTreeSet<JobId>,
    lives: BTreeMap<JobId, Life>,
    used: Used,
    /// Of the last command.
    number: u128,
}

fn perform(world: &mut World, act: Act, n: u128, account: &mut Account) {
    match act {
        Act::Submit(kind) => {
            let body = kind.body(world);
            world.submit_as("ann", n, body);
        }
        Act::Command { job, verb } => {
            let ids: Vec<JobId> = world.tables.jobs.keys().copied().collect();
            let Some(&id) = ids.get(job) else { return };
            let verb = COMMANDS[verb];
            let who = if verb == "approve" { "root" } else { "ann" };
            if give(world, account, who, Target::Job(id), verb).status == 202 {
                note(account, id, verb);
            }
        }
        Act::Drain { device, verb } => {
            give(world, account, "root", Target::Device(DEVICES[device].into()), DRAINS[verb]);
        }
        Act::Rule(queue) => shares::set(world, *queue),
        Act::Delete { queue } => {
            world.administer(AdminRequest::DeleteQueue { name: QUEUES[queue].into() });
        }
        Act::Read { again } => world.read_report(again),
        Act::Take { device, again } => world.take(DEVICES[device], again),
        Act::Start { device } => world.start(DEVICES[device]),
        Act::Finish { device, code } => world.finish(DEVICES[device], code),
        Act::Heartbeat { device } => world.heartbeat(DEVICES[device]),
        Act::Crash { device } => world.crash(DEVICES[device]),
        Act::Lose { device } => world.lose(DEVICES[device]),
        Act::Delay { device } => world.delay(DEVICES[device]),
        Act::Cut { device } => world.cut(DEVICES[device]),
        Act::Reload { away_ms } => world.take_over(away_ms),
        Act::Pass { ms } => world.pass(ms),
        Act::Settle => {
            DEVICES.iter().for_each(|name| world.heartbeat(name));
            world.settle();
        }
        Act::Wait { times } => (0..times).for_each(|_| world.wait(150_000)),
    }
}

fn give(world: &mut World, account: &mut Account, who: &str, target: Target, verb: &str) -> Reply {
    account.number += 1;
    world.give(who, 1_000_000 + account.number, target, command(verb))
}

fn note(account: &mut Account, id: JobId, accepted: &str) {
    match accepted {
        "kill" => {
            account.killed.insert(id);
            account.ever_killed.insert(id);
        }
        "retry" => drop(account.killed.remove(&id)),
        "hold" => drop(account.ever_held.insert(id)),
        _ => {}
    }
}

/// What must hold after every act, whatever it was.
fn audit(world: &World, account: &mut Account) {
    nothing_runs_twice(world, account);
    for job in world.tables.jobs.values() {
        let before = account.lives.insert(job.id, job.life.clone());
        assert!(before.is_none_or(|before| is_charged_rightly(world, job.id, &before)), "{job:#?}");
    }
    account.used = shares::audit(world, &account.used);
}

/// No attempt started twice, and at most one attempt of a job alive on all devices together.
fn nothing_runs_twice(world: &World, account: &Account) {
    let mut started = BTreeSet::new();
    for replica in world.workers.values().flat_map(|w| &w.started) {
        assert!(started.insert(*replica), "{replica} was started twice");
    }
    for worker in world.workers.values() {
        let ran: BTreeSet<&Uuid> = worker.executed.iter().collect();
        assert_eq!(ran.len(), worker.executed.len(), "an exec ran twice");
    }
    let alive: Vec<Replica> = world.workers.values().flat_map(|w| w.held.keys()).copied().collect();
    for one in &alive {
        let another = alive.iter().find(|other| other.job == one.job && other.attempt != one.attempt);
        let given_up = account.ever_killed.contains(&one.job);
        assert!(another.is_none() || given_up, "{one} and {another:?} are alive");
    }
}

/// A job that had to go is charged with nothing, unless some container of it had ended before our signal.
fn is_charged_rightly(world: &World, id: JobId, before: &Life) -> bool {
    let life = world.life(id);
    let of_it = |replica: &Replica| replica.job == id && replica.attempt == life.attempt;
    let containers = world.tables.containers.values().filter(|container| of_it(&container.replica));
    let mut ends = containers.filter_map(|container| container.ending.as_ref());
    let had_to_go =
        matches!(before.stopping, Some(StopReason::Preempt | StopReason::Drain | StopReason::Hold))
            && before.attempt == life.attempt
            && !life.status.is_placed();
    let is_charged = life.failures + life.faults > before.failures + before.faults;
    !had_to_go || !is_charged || ends.any(|end| matches!(end, End::Ended(ending) if !ending.signalled))
}

/// Everything arrives and is allowed; what runs ends, until nothing is left to do.
fn come_to_rest(world: &mut World, account: &mut Account) {
    for _ in 0..200 {
        for name in DEVICES {
            give(world, account, "root", Target::Device(name.into()), "resume");
            world.heartbeat(name);
        }
        world.settle();
        for id in with(world, |life| life.status == Status::Unapproved) {
            give(world, account, "root", Target::Job(id), "approve");
        }
        for name in DEVICES {
            while world.workers[name].held.values().any(|s| *s == HeldState::Running) {
                world.finish(name, 0);
            }
        }
        world.settle();
        world.pass(30_000);
        audit(world, account);
        if world.tables.jobs.values().all(|job| is_at_rest(world, account, job.id)) {
            return;
        }
    }
    let left = with(world, |life| life.status != Status::Exited);
    let left: Vec<_> = left.iter().map(|id| (world.why(*id), &world.tables.jobs[id])).collect();
    panic!("these never ended: {left:#?}");
}

fn with(world: &World, is: impl Fn(&Life) -> bool) -> Vec<JobId> {
    world.tables.jobs.values().filter(|job| is(&job.life)).map(|job| job.id).collect()
}

/// Exited, or held by somebody, or beyond what its queue may have, or after one that is.
fn is_at_rest(world: &World, account: &Account, id: JobId) -> bool {
    let Some(job) = world.tables.jobs.get(&id) else { return true };
    let waits = job.spec.after.iter().any(|id| world.tables.jobs[id].life.status != Status::Exited);
    match job.life.status {
        Status::Exited => true,
        Status::Pending if job.life.held => account.ever_held.contains(&id),
        Status::Pending if waits => job.spec.after.iter().all(|id| is_at_rest(world, account, *id)),
        Status::Pending => shares::is_left_out(world, job),
        Status::Unapproved | Status::Scheduled | Status::Running => false,
    }
}

/// Nobody holds anything back any more: all end.
fn let_everything_go(world: &mut World, account: &mut Account) {
    shares::lift_all(world);
    for id in with(world, |life| life.held) {
        give(world, account, "root", Target::Job(id), "release");
    }
    come_to_rest(world, account);
    assert!(with(world, |life| life.status != Status::Exited).is_empty(), "left out without any quota");
}

/// T4s and P4s of the two devices: of one type, of two, mixed.
const CLUSTERS: [[(u32, u32); 2]; 3] = [[(2, 0), (3, 0)], [(0, 2), (3, 0)], [(1, 1), (2, 1)]];

fn begin(cluster: [(u32, u32); 2], preemptible: u128) -> World {
    let mut world = World::new();
    for (name, (t4s, p4s)) in DEVICES.into_iter().zip(cluster) {
        world.worker_of(name, t4s, vec![(p4s, "P4".into())]);
        world.settle();
    }
    shares::first().into_iter().for_each(|queue| shares::set(&mut world, queue));
    for n in 0..preemptible {
        world.submit_with(1_000 + n, json!({"preemptible": true, "resources": {"gpus": 1}}));
        world.settle();
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_nothing_starts_twice(
        cluster in prop::sample::select(CLUSTERS.to_vec()),
        preemptible in prop_oneof![2 => Just(0), 1 => Just(5u128)],
        acts in prop::collection::vec(act(), 1..120),
    ) {
        let mut world = begin(cluster, preemptible);
        let mut account = Account::default();
        for (n, act) in (1..).zip(acts) {
            perform(&mut world, act, n, &mut account);
            audit(&world, &mut account);
        }
        come_to_rest(&mut world, &mut account);
        let_everything_go(&mut world, &mut account);
        for id in account.killed {
            prop_assert_eq!(world.life(id).outcome, Some(Outcome::Killed), "a kill was forgotten");
        }
        prop_assert!(world.tables.reservations.is_empty(), "a GPU leaked");
        let open = world.tables.commands.values().filter(|c| c.status == CommandStatus::Pending).count();
        prop_assert_eq!(open, 0, "a command never ended");
    }
}
