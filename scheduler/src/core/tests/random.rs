//! Random worlds: submissions of every kind, commands, deaths and repetitions in any order. After each
//! step every invariant holds, no attempt ever starts twice, no job has two live attempts, and in the
//! end everything comes to rest.

use std::collections::BTreeSet;

use berth_common::command::CommandStatus;
use berth_common::id::{JobId, Replica};
use berth_common::job::{Outcome, Status};
use berth_common::message::{AdminRequest, HeldState, Target};
use berth_common::queue::Queue;
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::world::World;

#[derive(Debug, Clone)]
enum Act {
    Submit(Kind),
    Command {
        job: usize,
        verb: usize,
    },
    Drain {
        device: usize,
        verb: usize,
    },
    Read {
        again: bool,
    },
    Take {
        device: usize,
        again: bool,
    },
    Start {
        device: usize,
    },
    Finish {
        device: usize,
        code: i64,
    },
    Heartbeat {
        device: usize,
    },
    Crash {
        device: usize,
    },
    /// The oldest message comes so late that it might as well not come.
    Lose {
        device: usize,
    },
    /// The oldest message comes last.
    Delay {
        device: usize,
    },
    /// The broker is away for so long that the worker fences itself and the leader gives it up.
    Cut {
        device: usize,
    },
    Reload,
    Pass {
        ms: i64,
    },
}

#[derive(Debug, Clone)]
struct Kind {
    gpus: u32,
    retries: u32,
    /// 1: a single job; 2: a gang.
    replicas: u32,
    /// Elements of an array; 0: none.
    array: u32,
    /// One that was submitted before, counted from the first.
    after: Option<usize>,
    keep: bool,
    /// To the queue in which an admin approves every job.
    approval: bool,
}

fn kind() -> impl Strategy<Value = Kind> {
    let choices = (0..4u32, 0..2u32, 1..3u32, prop_oneof![4 => Just(0u32), 1 => 2..4u32]);
    let further = (prop_oneof![4 => Just(None), 1 => (0..6usize).prop_map(Some)], 0..6u32, 0..6u32);
    (choices, further).prop_map(|((gpus, retries, replicas, array), (after, keep, approval))| Kind {
        gpus,
        retries,
        replicas: if gpus < 3 { replicas } else { 1 },
        array,
        after,
        keep: keep == 0,
        approval: approval == 0,
    })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => kind().prop_map(Act::Submit),
        3 => (0..8usize, 0..COMMANDS.len()).prop_map(|(job, verb)| Act::Command { job, verb }),
        1 => (0..2usize, 0..3usize).prop_map(|(device, verb)| Act::Drain { device, verb }),
        8 => any::<bool>().prop_map(|again| Act::Read { again }),
        8 => (0..2usize, any::<bool>()).prop_map(|(device, again)| Act::Take { device, again }),
        5 => (0..2usize).prop_map(|device| Act::Start { device }),
        4 => (0..2usize, 0..2i64).prop_map(|(device, code)| Act::Finish { device, code }),
        3 => (0..2usize).prop_map(|device| Act::Heartbeat { device }),
        1 => (0..2usize).prop_map(|device| Act::Crash { device }),
        1 => (0..2usize).prop_map(|device| Act::Lose { device }),
        1 => (0..2usize).prop_map(|device| Act::Delay { device }),
        1 => (0..2usize).prop_map(|device| Act::Cut { device }),
        1 => Just(Act::Reload),
        3 => (1..20_000i64).prop_map(|ms| Act::Pass { ms }),
    ]
}

const DEVICES: [&str; 2] = ["a", "b"];
const COMMANDS: [&str; 8] = ["kill", "kill", "hold", "release", "retry", "approve", "exec", "timeout"];
const DRAINS: [&str; 3] = ["drain", "drain now", "resume"];

/// What must be true of it in the end.
#[derive(Default)]
struct Account {
    killed: BTreeSet<JobId>,
    /// Jobs that were killed once: with `disconnect: keep` that gives up a container that may run on.
    ever_killed: BTreeSet<JobId>,
}

fn perform(world: &mut World, act: Act, n: u128, account: &mut Account) {
    match act {
        Act::Submit(kind) => submit(world, n, &kind),
        Act::Command { job, verb } => {
            let ids: Vec<JobId> = world.tables.jobs.keys().copied().collect();
            let Some(&id) = ids.get(job) else { return };
            let who = if COMMANDS[verb] == "approve" { "root" } else { "ann" };
            let reply = world.give(who, 1_000_000 + n, Target::Job(id), body(COMMANDS[verb]));
            if reply.status == 202 && COMMANDS[verb] == "kill" {
                account.killed.insert(id);
                account.ever_killed.insert(id);
            } else if reply.status == 202 && COMMANDS[verb] == "retry" {
                account.killed.remove(&id);
            }
        }
        Act::Drain { device, verb } => {
            let target = Target::Device(DEVICES[device].into());
            world.give("root", 1_000_000 + n, target, body(DRAINS[verb]));
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
        Act::Reload => world.reload(),
        Act::Pass { ms } => world.pass(ms),
    }
}

fn submit(world: &mut World, n: u128, kind: &Kind) {
    let mut job = json!({
        "resources": {"gpus": kind.gpus}, "retries": kind.retries, "replicas": kind.replicas,
        "disconnect": if kind.keep { "keep" } else { "requeue" },
        "queue": if kind.approval { "careful" } else { "default" },
    });
    if kind.array > 0 {
        job["array"] = json!({"count": kind.array, "max_running": 1});
    }
    if let Some(id) = kind.after.and_then(|after| world.tables.jobs.keys().nth(after)) {
        job["after"] = json!([id]);
    }
    world.submit_as("ann", n, job);
}

fn body(verb: &str) -> Value {
    match verb {
        "exec" => json!({"command": "exec", "argv": ["true"]}),
        "timeout" => json!({"command": "timeout", "value": 3600}),
        "drain now" => json!({"command": "drain", "now": true}),
        verb => json!({ "command": verb }),
    }
}

/// No attempt started twice, and at most one attempt of a job alive on all devices together.
fn audit(world: &World, account: &Account) {
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

/// Everything arrives and is allowed; what runs ends, until nothing is left to do.
fn come_to_rest(world: &mut World, account: &Account) {
    for round in 0..200 {
        for name in DEVICES {
            let target = Target::Device(name.into());
            world.give("root", 9_000_000 + round, target, json!({"command": "resume"}));
            world.heartbeat(name);
        }
        world.settle();
        let unapproved: Vec<JobId> = world
            .tables
            .jobs
            .values()
            .filter(|j| j.life.status == Status::Unapproved)
            .map(|j| j.id)
            .collect();
        for (place, id) in (0..).zip(unapproved) {
            let number = 10_000_000 + round * 1000 + place;
            world.give("root", number, Target::Job(id), json!({"command": "approve"}));
        }
        for name in DEVICES {
            while world.workers[name].held.values().any(|s| *s == HeldState::Running) {
                world.finish(name, 0);
            }
        }
        world.settle();
        world.pass(30_000);
        audit(world, account);
        if world.tables.jobs.values().all(|job| is_at_rest(world, job.id)) {
            return;
        }
    }
    let left: Vec<_> = world.tables.jobs.values().filter(|j| j.life.status != Status::Exited).collect();
    panic!("these never ended: {left:#?}");
}

/// Exited, or held, or after one that is.
fn is_at_rest(world: &World, id: JobId) -> bool {
    let Some(job) = world.tables.jobs.get(&id) else { return true };
    let waits = job.spec.after.iter().any(|id| world.tables.jobs[id].life.status != Status::Exited);
    let after_held = waits && job.spec.after.iter().all(|id| is_at_rest(world, *id));
    job.life.status == Status::Exited || job.life.held || after_held
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_nothing_starts_twice(acts in prop::collection::vec(act(), 1..120)) {
        let mut world = World::with(&[("a", 2), ("b", 3)]);
        let careful = Queue { approval: true, ..Queue::new("careful") };
        world.administer(AdminRequest::CreateQueue { queue: Box::new(careful) });
        let mut account = Account::default();
        for (n, act) in (1..).zip(acts) {
            perform(&mut world, act, n, &mut account);
            audit(&world, &account);
        }
        come_to_rest(&mut world, &account);
        for id in account.killed {
            prop_assert_eq!(world.life(id).outcome, Some(Outcome::Killed), "a kill was forgotten");
        }
        prop_assert!(world.tables.reservations.is_empty(), "a GPU leaked");
        let open = world.tables.commands.values().filter(|c| c.status == CommandStatus::Pending).count();
        prop_assert_eq!(open, 0, "a command never ended");
    }
}
