//! Commands that go further than a change of status: exec, time limits, retries that differ, drains.

use berth_common::command::CommandStatus;
use berth_common::device::DeviceState;
use berth_common::job::{Outcome, Status};
use berth_common::message::{AdminRequest, Target};
use serde_json::json;
use uuid::Uuid;

use super::world::World;

fn device(name: &str) -> Target {
    Target::Device(name.into())
}

#[test]
fn an_exec_is_run_once_and_its_end_is_told() {
    let mut world = World::with(&[("a", 1)]);
    let job = world.submit(1, 1);
    let exec = json!({"command": "exec", "argv": ["nvidia-smi", "-L"]});
    assert_eq!(world.give("ann", 9, Target::Job(job), exec.clone()).status, 409, "it does not run yet");
    world.settle();
    assert_eq!(world.give("bob", 10, Target::Job(job), exec.clone()).status, 404);
    let wrong = json!({"command": "exec", "argv": ["x"], "replica": 1});
    assert_eq!(world.give("ann", 11, Target::Job(job), wrong).status, 422);
    let reply = world.give("ann", 12, Target::Job(job), exec.clone());
    assert_eq!((reply.status, &reply.body["status"]), (202, &json!("pending")));
    world.reload();
    world.crash("a");
    world.settle();
    let view = &world.tables.commands[&Uuid::from_u128(12)];
    assert_eq!((view.status, view.exit_code), (CommandStatus::Done, Some(0)));
    assert_eq!(view.output.as_deref(), Some("nvidia-smi -L"));
    assert_eq!(world.workers["a"].executed.len(), 1);
    assert_eq!(
        world.give("ann", 12, Target::Job(job), exec).body["status"],
        json!("done"),
        "the stored answer"
    );
}

#[test]
fn an_exec_of_which_nothing_is_heard_is_unknown_until_it_is_heard_of() {
    let mut world = World::with(&[("a", 1)]);
    let job = world.submit(1, 1);
    world.settle();
    let exec = json!({"command": "exec", "argv": ["x"], "timeout_s": 5});
    world.give("ann", 10, Target::Job(job), exec);
    let order = world.workers["a"].queue.back().cloned().expect("it is on its way");
    world.lose("a");
    world.pass(66_000);
    let status = |world: &World| world.tables.commands[&Uuid::from_u128(10)].status;
    assert_eq!(status(&world), CommandStatus::Unknown);
    world.workers.get_mut("a").expect("a").queue.push_back(order);
    world.settle();
    assert_eq!(status(&world), CommandStatus::Done, "what is told late is knowledge all the same");
}

#[test]
fn a_new_time_limit_counts_for_what_runs() {
    let mut world = World::with(&[("a", 1)]);
    let job = world.submit_with(1, json!({"timeout_s": 1000}));
    world.settle();
    let reply = world.give("ann", 10, Target::Job(job), json!({"command": "timeout", "value": 30}));
    assert_eq!(reply.status, 202);
    world.settle();
    assert_eq!(world.workers["a"].limits[0].timeout_s, Some(30));
    assert_eq!(world.tables.jobs[&job].spec.timeout_s, Some(30));
    world.give("ann", 12, Target::Job(job), json!({"command": "timeout", "value": 20}));
    world.crash("a");
    world.settle();
    assert_eq!(
        world.workers["a"].limits.last().and_then(|l| l.timeout_s),
        Some(20),
        "also one that a crash lost"
    );
    world.reload();
    world.pass(31_000);
    world.settle();
    world.finish("a", 0);
    world.settle();
    assert_eq!(world.life(job).outcome, Some(Outcome::TimedOut));
    let late = world.give("ann", 11, Target::Job(job), json!({"command": "timeout", "value": 30}));
    assert_eq!(late.status, 409);
}

#[test]
fn a_retry_may_differ_and_is_admitted_like_a_new_job() {
    let mut world = World::with(&[("a", 2)]);
    let job = world.submit(1, 1);
    world.settle();
    let retry = |world: &mut World, id, set| {
        world.give("ann", id, Target::Job(job), json!({"command": "retry", "set": set}))
    };
    assert_eq!(retry(&mut world, 10, json!({"env": {"LR": "1"}})).status, 409, "it runs");
    world.finish("a", 1);
    world.settle();
    let reply = retry(&mut world, 11, json!({"resources": {"gpus": 3}}));
    assert_eq!((reply.status, &reply.body["errors"][0]["pointer"]), (422, &json!("/set/resources/gpus")));
    let reply = retry(&mut world, 12, json!({"priority": 900}));
    assert_eq!((reply.status, &reply.body["errors"][0]["pointer"]), (422, &json!("/set/priority")));
    assert_eq!(retry(&mut world, 13, json!({"env": {"LR": "1"}, "resources": {"gpus": 2}})).status, 202);
    world.settle();
    let start = world.workers["a"].orders.last().expect("started again");
    assert_eq!((start.replica.attempt, start.gpus.len(), start.spec.env["LR"].as_str()), (2, 2, "1"));
    assert_eq!(world.tables.jobs[&job].spec.resources.gpus, 2, "it is stored");
}

#[test]
fn a_retry_may_wait_for_a_time() {
    let mut world = World::with(&[("a", 1)]);
    let job = world.submit(1, 1);
    world.settle();
    world.finish("a", 1);
    world.settle();
    let set = json!({"not_before": "1970-01-01T01:00:00Z"});
    world.give("ann", 10, Target::Job(job), json!({"command": "retry", "set": set}));
    assert_eq!((world.status(job), world.why(job)), (Status::Pending, "BACKOFF".into()));
    world.pass(3_600_000);
    world.heartbeat("a");
    world.settle();
    assert_eq!(world.status(job), Status::Running);
}

#[test]
fn a_drained_device_gets_nothing_new_until_it_is_resumed_wherever_it_was_meanwhile() {
    let mut world = World::with(&[("a", 2)]);
    let first = world.submit(1, 1);
    world.settle();
    let drain = json!({"command": "drain", "note": "a fan is broken"});
    assert_eq!(world.give("ann", 10, device("a"), drain.clone()).status, 403);
    assert_eq!(world.give("root", 11, device("x"), drain.clone()).status, 404);
    assert_eq!(world.give("root", 12, device("a"), drain).body["status"], json!("done"));
    let second = world.submit(2, 1);
    world.settle();
    assert_eq!((world.status(first), world.status(second)), (Status::Running, Status::Pending));
    assert_eq!(world.why(second), "DEVICE_DOWN");
    world.crash("a");
    world.settle();
    world.reload();
    world.cut("a");
    world.settle();
    let state = world.device_state("a");
    assert_eq!((state.state, state.note.as_deref()), (DeviceState::Draining, Some("a fan is broken")));
    assert_eq!(world.give("root", 13, device("a"), json!({"command": "resume"})).status, 202);
    world.settle();
    assert_eq!(world.status(second), Status::Running);
    assert_eq!(world.give("root", 14, device("a"), json!({"command": "resume"})).status, 409);
}

#[test]
fn a_drain_now_puts_the_jobs_back_without_charging_them() {
    let mut world = World::with(&[("a", 1)]);
    let job = world.submit(1, 1);
    world.settle();
    world.worker("b", 1);
    world.settle();
    world.give("root", 10, device("a"), json!({"command": "drain", "now": true}));
    world.settle();
    world.finish("a", 0);
    world.settle();
    let life = world.life(job);
    assert_eq!((life.status, life.attempt, life.faults, life.failures), (Status::Running, 2, 0, 0));
    assert_eq!(world.workers["b"].held.len(), 1);
}

#[test]
fn a_drained_device_can_be_deleted_once_nothing_runs_there() {
    let mut world = World::with(&[("a", 1)]);
    world.submit(1, 1);
    world.settle();
    world.give("root", 10, device("a"), json!({"command": "drain"}));
    let delete = || AdminRequest::DeleteDevice { name: "a".into() };
    assert_eq!(world.administer(delete()).status, 409, "something runs there");
    world.finish("a", 0);
    world.settle();
    assert_eq!(world.administer(delete()).status, 204);
    world.crash("a");
    world.settle();
    assert_eq!(world.device_state("a").state, DeviceState::Up, "its worker lives: it is a new device");
}

#[test]
fn a_device_is_deleted_when_it_is_lost_and_may_come_back() {
    let mut world = World::with(&[("a", 1), ("b", 1)]);
    let job = world.submit_with(1, json!({"disconnect": "keep", "resources": {"gpus": 1}}));
    world.settle();
    let delete = || AdminRequest::DeleteDevice { name: "a".into() };
    assert_eq!(world.administer(delete()).status, 409);
    assert_eq!(world.administer(AdminRequest::DeleteDevice { name: "x".into() }).status, 404);
    world.silence("a");
    assert_eq!(world.status(job), Status::Running, "it waits for its device");
    assert_eq!(world.administer(delete()).status, 204);
    assert_eq!((world.status(job), world.life(job).faults), (Status::Pending, 1));
    world.heartbeat("b");
    world.settle_one("b");
    world.pass(2_000);
    world.settle_one("b");
    assert_eq!(world.workers["b"].held.len(), 1, "placed elsewhere");
    world.reload();
    world.crash("a");
    world.settle();
    let state = world.device_state("a");
    assert_eq!(state.state, DeviceState::Degraded, "it is back, with what was given up: {state:?}");
    world.heartbeat("a");
    world.settle();
    let stopping = world.workers["a"].stopping.len();
    assert_eq!(stopping, 1, "what it still runs is stopped");
    let next = world.submit(2, 1);
    world.settle();
    assert_eq!(world.status(next), Status::Pending, "its GPU is still in use there");
    world.finish("a", 0);
    world.heartbeat("a");
    world.settle();
    assert_eq!(world.status(next), Status::Running);
}
