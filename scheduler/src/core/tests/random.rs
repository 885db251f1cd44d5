//! Random worlds: submissions, commands, deaths and repetitions in any order. After each step every
//! invariant holds, no attempt ever starts twice, no job has two live attempts, and in the end
//! everything comes to rest.

use std::collections::BTreeSet;

use berth_common::command::Verb;
use berth_common::job::{Outcome, Status};
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::world::World;

#[derive(Debug, Clone)]
enum Act {
    Submit {
        gpus: u32,
        retries: u32,
    },
    Command {
        job: usize,
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

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..4u32, 0..2u32).prop_map(|(gpus, retries)| Act::Submit { gpus, retries }),
        2 => (0..8usize, 0..4usize).prop_map(|(job, verb)| Act::Command { job, verb }),
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
const VERBS: [Verb; 4] = [Verb::Kill, Verb::Hold, Verb::Release, Verb::Retry];

fn perform(world: &mut World, act: Act, n: u128, killed: &mut BTreeSet<Uuid>) {
    match act {
        Act::Submit { gpus, retries } => {
            world.submit_as("ann", n, json!({"resources": {"gpus": gpus}, "retries": retries}));
        }
        Act::Command { job, verb } => {
            let ids: Vec<Uuid> = world.tables.jobs.keys().copied().collect();
            if let Some(id) = ids.get(job) {
                let reply = world.command_as("ann", 1_000_000 + n, *id, VERBS[verb]);
                match (VERBS[verb], reply.status) {
                    (Verb::Kill, 202) => drop(killed.insert(*id)),
                    (Verb::Retry, 202) => drop(killed.remove(id)),
                    _ => {}
                }
            }
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

/// No attempt started twice, and at most one attempt of a job alive on all devices together.
fn audit(world: &World) {
    let mut started = BTreeSet::new();
    for replica in world.workers.values().flat_map(|w| &w.started) {
        assert!(started.insert(*replica), "{replica} was started twice");
    }
    let mut alive = BTreeSet::new();
    for replica in world.workers.values().flat_map(|w| w.held.keys()) {
        assert!(alive.insert(replica.job), "{} has two live attempts", replica.job);
    }
}

/// Everything arrives; what runs ends, until nothing is left to do.
fn come_to_rest(world: &mut World) {
    for _ in 0..200 {
        for name in DEVICES {
            world.heartbeat(name);
        }
        world.settle();
        for name in DEVICES {
            while world.workers[name].held.values().any(|s| *s == berth_common::message::HeldState::Running) {
                world.finish(name, 0);
            }
        }
        world.settle();
        world.pass(30_000);
        audit(world);
        if world.tables.jobs.values().all(|j| j.life.status == Status::Exited || j.life.held) {
            return;
        }
    }
    let left: Vec<_> = world.tables.jobs.values().filter(|j| j.life.status != Status::Exited).collect();
    panic!("these never ended: {left:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_nothing_starts_twice(acts in prop::collection::vec(act(), 1..120)) {
        let mut world = World::with(&[("a", 2), ("b", 3)]);
        let mut killed = BTreeSet::new();
        for (n, act) in (1..).zip(acts) {
            perform(&mut world, act, n, &mut killed);
            audit(&world);
        }
        come_to_rest(&mut world);
        for id in killed {
            prop_assert_eq!(world.life(id).outcome, Some(Outcome::Killed), "a kill was forgotten");
        }
        prop_assert!(world.tables.reservations.is_empty(), "a GPU leaked");
    }
}
