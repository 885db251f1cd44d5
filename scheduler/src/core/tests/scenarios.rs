//! Stories, each about one promise.

use berth_common::command::{CommandBody, Verb};
use berth_common::job::{Outcome, Status, StopReason};
use berth_common::message::Target;
use serde_json::json;
use uuid::Uuid;

use super::world::World;
use crate::core::input::{Command, Input};

#[test]
fn a_job_goes_from_submission_to_its_end_and_frees_its_gpu() {
    let mut world = World::with(&[("a", 1)]);
    let first = world.submit(1, 1);
    let second = world.submit(2, 1);
    assert_eq!((world.status(first), world.status(second)), (Status::Scheduled, Status::Pending));
    assert_eq!(world.tables.reservations.len(), 1);
    world.settle();
    assert_eq!(world.status(first), Status::Running);
    world.finish("a", 0);
    world.settle();
    assert_eq!(world.life(first).outcome, Some(Outcome::Succeeded));
    assert_eq!(world.status(second), Status::Running, "its GPU went to the next one");
    let path: Vec<_> = world.tables.events.iter().filter(|e| e.job == first).map(|e| e.to.as_str()).collect();
    assert_eq!(path, ["pending", "scheduled", "running", "exited"]);
}

#[test]
fn an_end_that_overtakes_its_start_tells_both() {
    let mut world = World::with(&[("a", 1)]);
    let job = world.submit(1, 1);
    world.take("a", false);
    world.start("a");
    world.finish("a", 0);
    world.reports.swap(0, 1);
    world.settle();
    let life = world.life(job);
    assert_eq!((life.outcome, life.started_at), (Some(Outcome::Succeeded), Some(world.now)));
    let path: Vec<_> = world.tables.events.iter().map(|e| e.to.as_str()).collect();
    assert_eq!(path, ["pending", "scheduled", "running", "exited"]);
}

#[test]
fn the_waiting_job_says_why() {
    let mut world = World::with(&[("a", 2), ("b", 2)]);
    world.submit(1, 1);
    world.submit(2, 2);
    let waiting = world.submit(3, 2);
    let behind = world.submit(4, 2);
    let why = world.core.explain(&[behind, waiting], world.now);
    assert_eq!((why[&waiting].reason.code.as_str(), why[&waiting].position), ("CAPACITY", Some(1)));
    assert_eq!((why[&behind].reason.code.as_str(), why[&behind].position), ("CAPACITY", Some(2)));
    assert_eq!(why[&behind].reason.numbers["free"], 1);
}

#[test]
fn best_fit_keeps_whole_devices_free() {
    let mut world = World::with(&[("a", 4), ("b", 2)]);
    world.submit(1, 1);
    world.submit(2, 1);
    let large = world.submit(3, 4);
    assert_eq!(world.status(large), Status::Scheduled, "the small ones went to the smaller device");
}

#[test]
fn larger_priority_goes_first_and_equal_ones_in_order() {
    let mut world = World::with(&[("a", 1)]);
    world.submit(1, 1);
    for (n, priority) in [(2, 100), (3, 150), (4, 150)] {
        let body = json!({"resources": {"gpus": 1}, "priority": priority});
        assert_eq!(world.submit_as("ann", n, body).status, 201);
        world.pass(1);
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        world.settle();
        order.push(world.workers["a"].started.last().expect("one runs").job.as_u128());
        world.finish("a", 0);
    }
    assert_eq!(order, [1, 3, 4, 2]);
}

#[test]
fn a_repeated_submission_is_the_same_job_also_after_its_end() {
    let mut world = World::with(&[("a", 1)]);
    let job = world.submit(1, 1);
    assert_eq!(world.submit_as("ann", 1, json!({"resources": {"gpus": 1}})).status, 200);
    assert_eq!(world.submit_as("ann", 1, json!({"resources": {"gpus": 0}})).status, 409);
    world.settle();
    world.finish("a", 0);
    world.settle();
    assert_eq!(world.status(job), Status::Exited);
    assert_eq!(world.submit_as("ann", 1, json!({"resources": {"gpus": 1}})).status, 200);
    assert_eq!(world.workers["a"].started.len(), 1);
}

#[test]
fn what_no_device_can_run_is_refused_with_the_field() {
    let mut world = World::with(&[("a", 2)]);
    for (body, pointer) in [
        (json!({"resources": {"gpus": 3}}), "/resources/gpus"),
        (json!({"resources": {"gpus": 1, "gpu_type": "H200"}}), "/resources/gpus"),
        (json!({"resources": {"cpus": 65}}), "/resources/cpus"),
        (json!({"resources": {"memory_mb": 64_001}}), "/resources/memory_mb"),
        (json!({"queue": "nowhere"}), "/queue"),
        (json!({"priority": 201}), "/priority"),
    ] {
        let reply = world.submit_as("ann", 1, body);
        assert_eq!((reply.status, reply.body["errors"][0]["pointer"].as_str()), (422, Some(pointer)));
    }
    assert_eq!(world.submit_as("root", 2, json!({"priority": 1000})).status, 201);
    assert_eq!(world.submit_as("nobody", 3, json!({})).status, 403);
    assert_eq!(world.tables.jobs.len(), 1, "nothing of it was stored");
}

#[test]
fn a_kill_reaches_a_job_wherever_it_is() {
    let mut world = World::with(&[("a", 1)]);
    let running = world.submit(1, 1);
    let waiting = world.submit(2, 1);
    world.settle();
    assert_eq!(world.command_as("ann", 10, waiting, Verb::Kill).body["status"], "done");
    assert_eq!(world.life(waiting).outcome, Some(Outcome::Killed));
    assert_eq!(world.command_as("ann", 11, running, Verb::Kill).body["status"], "pending");
    assert_eq!(world.command_as("ann", 12, running, Verb::Kill).body["status"], "done");
    assert_eq!(world.life(running).stopping, Some(StopReason::Kill));
    world.settle();
    world.finish("a", 0);
    world.settle();
    assert_eq!(world.life(running).outcome, Some(Outcome::Killed));
    assert_eq!(world.tables.commands[&Uuid::from_u128(11)].status.as_str(), "done");
}

#[test]
fn a_kill_that_overtakes_the_start_starts_nothing() {
    let mut world = World::with(&[("a", 1)]);
    let job = world.submit(1, 1);
    world.command_as("ann", 10, job, Verb::Kill);
    world.take("a", false);
    world.take("a", false);
    world.settle();
    assert_eq!(world.life(job).outcome, Some(Outcome::Killed));
    assert!(world.workers["a"].started.is_empty());
}

#[test]
fn commands_are_for_owners_and_admins_and_come_once() {
    let mut world = World::with(&[("a", 1)]);
    let job = world.submit(1, 1);
    assert_eq!(world.command_as("bob", 10, job, Verb::Kill).status, 404);
    assert_eq!(world.command_as("ann", 11, job, Verb::Release).status, 409);
    assert_eq!(world.command_as("ann", 12, job, Verb::Retry).status, 409);
    assert_eq!(world.command_as("root", 13, job, Verb::Hold).status, 202);
    world.settle();
    world.finish("a", 0);
    world.settle();
    assert!(world.life(job).held);
    assert_eq!(world.command_as("ann", 14, job, Verb::Release).status, 202);
    world.settle();
    assert_eq!(world.status(job), Status::Running);
    let again = world.command_as("root", 13, job, Verb::Hold);
    assert_eq!((again.status, world.life(job).stopping), (202, None), "an id that is known changes nothing");
}

#[test]
fn a_finished_job_can_be_retried() {
    let mut world = World::with(&[("a", 1)]);
    let job = world.submit(1, 1);
    world.settle();
    world.finish("a", 5);
    world.settle();
    assert_eq!((world.life(job).outcome, world.life(job).exit_code), (Some(Outcome::Failed), Some(5)));
    assert_eq!(world.command_as("ann", 10, job, Verb::Retry).status, 202);
    world.settle();
    world.finish("a", 0);
    world.settle();
    assert_eq!((world.life(job).outcome, world.life(job).attempt), (Some(Outcome::Succeeded), 2));
}

#[test]
fn a_job_that_outruns_its_limit_is_stopped() {
    let mut world = World::with(&[("a", 1)]);
    world.submit_as("ann", 1, json!({"timeout_s": 60, "resources": {"gpus": 1}}));
    let job = Uuid::from_u128(1);
    world.settle();
    world.pass(59_000);
    assert_eq!(world.life(job).stopping, None);
    world.pass(1_000);
    assert_eq!(world.life(job).stopping, Some(StopReason::Timeout));
    world.settle();
    world.finish("a", 0);
    world.settle();
    assert_eq!(world.life(job).outcome, Some(Outcome::TimedOut));
}

#[test]
fn a_leader_without_memory_goes_on_where_the_other_was() {
    let mut world = World::with(&[("a", 2)]);
    let (running, other) = (world.submit(1, 1), world.submit(2, 1));
    let waiting = world.submit(3, 1);
    world.settle();
    world.command_as("ann", 10, running, Verb::Kill);
    world.reload();
    world.settle();
    world.finish("a", 0);
    world.settle();
    assert_eq!(world.life(running).outcome, Some(Outcome::Killed));
    assert_eq!(world.tables.commands[&Uuid::from_u128(10)].status.as_str(), "done");
    assert_eq!((world.status(other), world.status(waiting)), (Status::Running, Status::Running));
}

#[test]
fn a_worker_that_comes_back_keeps_its_containers() {
    let mut world = World::with(&[("a", 1)]);
    let job = world.submit(1, 1);
    world.settle();
    world.crash("a");
    world.settle();
    assert_eq!((world.status(job), world.life(job).attempt), (Status::Running, 1));
    world.finish("a", 0);
    world.settle();
    assert_eq!(world.life(job).outcome, Some(Outcome::Succeeded));
    assert_eq!(world.workers["a"].started.len(), 1);
}

#[test]
fn a_start_that_overtook_its_welcome_is_asked_for_and_placed_again() {
    let mut world = World::with(&[("a", 1)]);
    world.crash("a");
    world.pass(20_000);
    world.read_report(false);
    let job = world.submit(1, 1);
    world.delay("a");
    world.settle();
    assert_eq!(world.status(job), Status::Scheduled, "the start was dropped");
    world.pass(20_000);
    world.heartbeat("a");
    world.settle();
    assert_eq!((world.status(job), world.life(job).attempt), (Status::Running, 2));
    assert_eq!(world.workers["a"].started.len(), 1);
}

#[test]
fn a_start_that_a_crash_swallowed_is_placed_again() {
    let mut world = World::with(&[("a", 1)]);
    let job = world.submit(1, 1);
    world.workers.get_mut("a").expect("there").queue.clear();
    world.crash("a");
    world.pass(20_000);
    world.settle();
    let life = world.life(job);
    assert_eq!((life.status, life.attempt, life.faults), (Status::Running, 2, 0));
}

#[test]
fn a_lost_device_gives_its_jobs_back_and_stops_them_when_it_returns() {
    let mut world = World::with(&[("a", 1), ("b", 1)]);
    let job = world.submit(1, 1);
    world.settle();
    let first = if world.workers["a"].started.is_empty() { "b" } else { "a" };
    let second = if first == "a" { "b" } else { "a" };
    for _ in 0..60 {
        world.pass(5_000);
        world.heartbeat(second);
        world.settle_one(second);
    }
    assert_eq!((world.status(job), world.life(job).faults), (Status::Pending, 1));
    world.pass(1_000);
    world.settle_one(second);
    assert_eq!((world.status(job), world.life(job).attempt), (Status::Running, 2));
    world.crash(first);
    world.settle();
    world.finish(first, 0);
    world.settle();
    assert_eq!(
        (world.status(job), world.life(job).attempt),
        (Status::Running, 2),
        "the old end changes nothing"
    );
}

#[test]
fn a_device_that_was_given_up_begins_a_new_session_when_it_is_heard_again() {
    let mut world = World::with(&[("a", 1)]);
    let job = world.submit(1, 1);
    world.settle();
    world.pass(300_000);
    assert_eq!((world.status(job), world.life(job).faults), (Status::Pending, 1));
    world.heartbeat("a");
    world.settle();
    world.pass(10_000);
    world.settle();
    assert_eq!(world.status(job), Status::Pending, "the old container is still there");
    world.finish("a", 0);
    world.heartbeat("a");
    world.settle();
    assert_eq!((world.status(job), world.life(job).attempt), (Status::Running, 2));
}

#[test]
fn a_stop_that_was_passed_by_is_sent_again_after_its_grace() {
    let mut world = World::with(&[("a", 2)]);
    let job = world.submit(1, 1);
    world.settle();
    world.command_as("ann", 10, job, Verb::Kill);
    world.lose("a");
    world.submit(2, 1);
    world.settle();
    world.heartbeat("a");
    world.settle();
    assert!(world.workers["a"].queue.is_empty(), "not before the grace has passed");
    world.pass(20_000);
    world.heartbeat("a");
    world.settle();
    world.finish("a", 0);
    world.settle();
    assert_eq!(world.life(job).outcome, Some(Outcome::Killed));
}

#[test]
fn a_stop_that_got_lost_is_sent_again_however_long_its_grace_and_whatever_was_taken() {
    let mut world = World::with(&[("a", 1)]);
    let job = world.submit(1, 1);
    world.settle();
    let kill = json!({"command": "kill", "grace_s": 3600});
    world.give("ann", 10, Target::Job(job), kill);
    world.lose("a");
    world.pass(5_000);
    world.heartbeat("a");
    world.settle();
    assert!(world.workers["a"].stopping.is_empty(), "it may only be late");
    world.pass(10_000);
    world.heartbeat("a");
    world.settle();
    assert_eq!(world.workers["a"].stopping.len(), 1, "nothing with a larger number was on its way");
}

#[test]
fn silence_says_nothing_while_nobody_can_be_heard() {
    let mut world = World::with(&[("a", 1)]);
    let job = world.submit(1, 1);
    world.settle();
    world.core.set_hearing(false, world.now);
    world.pass(1_000_000);
    assert_eq!(world.status(job), Status::Running);
    world.core.set_hearing(true, world.now);
    world.pass(299_000);
    assert_eq!(world.status(job), Status::Running, "a full lost_after was granted");
    world.pass(1_000);
    assert_eq!(world.status(job), Status::Pending);
}

#[test]
fn what_began_to_wait_while_nobody_could_be_heard_is_placed_afterwards() {
    let mut world = World::with(&[("a", 1)]);
    world.core.set_hearing(false, world.now);
    world.pass(100_000);
    let job = world.submit(1, 1);
    assert_eq!(world.status(job), Status::Pending, "the device is silent");
    world.core.set_hearing(true, world.now);
    world.heartbeat("a");
    world.settle();
    assert_eq!(world.status(job), Status::Running);
}

#[test]
fn what_waits_for_its_lost_device_is_not_started_elsewhere_because_somebody_drains_it() {
    let mut world = World::with(&[("a", 1), ("b", 1)]);
    let job = world.submit_with(1, json!({"resources": {"gpus": 1}, "disconnect": "keep"}));
    world.settle();
    world.give("root", 10, Target::Device("a".into()), json!({"command": "drain", "now": true}));
    world.silence("a");
    assert_eq!((world.status(job), world.life(job).attempt), (Status::Running, 1));
    world.crash("a");
    world.settle();
    world.heartbeat("a");
    world.settle();
    world.finish("a", 0);
    world.settle();
    assert_eq!((world.status(job), world.life(job).attempt, world.life(job).faults), (Status::Running, 2, 0));
}

#[test]
fn what_waits_for_its_lost_device_can_still_be_killed() {
    let mut world = World::with(&[("a", 1)]);
    let keep = json!({"resources": {"gpus": 1}, "disconnect": "keep"});
    assert_eq!(world.submit_as("ann", 1, keep).status, 201);
    let job = Uuid::from_u128(1);
    world.settle();
    world.pass(300_000);
    assert_eq!(world.status(job), Status::Running, "it waits for its device");
    assert_eq!(world.command_as("ann", 10, job, Verb::Kill).status, 202);
    assert_eq!(world.life(job).outcome, Some(Outcome::Killed));
    assert!(world.tables.reservations.is_empty());
}

#[test]
fn a_gpu_that_comes_back_is_the_same_one() {
    let mut world = World::with(&[("a", 1)]);
    let job = world.submit(1, 1);
    world.settle();
    let set_gpus = |world: &mut World, gpus| {
        world.workers.get_mut("a").expect("there").gpus = gpus;
        world.crash("a");
        world.pass(20_000);
        world.settle();
    };
    set_gpus(&mut world, 0);
    set_gpus(&mut world, 1);
    let second = world.submit(2, 1);
    assert_eq!((world.status(job), world.status(second)), (Status::Running, Status::Pending));
}

#[test]
fn nothing_new_goes_to_a_silent_device() {
    let mut world = World::with(&[("a", 1)]);
    world.pass(20_000);
    let job = world.submit(1, 1);
    assert_eq!(world.status(job), Status::Pending);
    assert_eq!(world.core.explain(&[job], world.now)[&job].reason.code, "DEVICE_DOWN");
    world.heartbeat("a");
    world.settle();
    assert_eq!(world.status(job), Status::Running);
}

#[test]
fn a_second_kill_can_shorten_the_grace() {
    let mut world = World::with(&[("a", 1)]);
    let job = world.submit(1, 1);
    world.settle();
    let kill = |world: &mut World, id, grace_s| {
        let body = CommandBody { grace_s: Some(grace_s), ..CommandBody::new(Verb::Kill) };
        let command =
            Command { id: Uuid::from_u128(id), target: Target::Job(job), actor: "ann".into(), body };
        world.step(vec![Input::Command(command)]).remove(0).body["status"].clone()
    };
    assert_eq!(kill(&mut world, 10, 3600), "pending");
    assert_eq!(kill(&mut world, 11, 3600), "done");
    assert_eq!(kill(&mut world, 12, 1), "pending");
    assert_eq!((world.life(job).grace_ms, world.workers["a"].queue.len()), (Some(1000), 2));
}

#[test]
fn an_id_of_a_command_is_for_one_command() {
    let mut world = World::with(&[("a", 1)]);
    let (job, other) = (world.submit(1, 0), world.submit(2, 0));
    assert_eq!(world.command_as("ann", 10, job, Verb::Hold).status, 202);
    assert_eq!(world.command_as("ann", 10, job, Verb::Hold).status, 202);
    for reply in [
        world.command_as("ann", 10, job, Verb::Kill),
        world.command_as("ann", 10, other, Verb::Hold),
        world.command_as("bob", 10, job, Verb::Hold),
    ] {
        assert_eq!(reply.status, 409, "{}", reply.body);
    }
}

#[test]
fn a_second_worker_under_the_same_name_is_refused_while_the_first_lives() {
    let mut world = World::with(&[("a", 1)]);
    let told = world.stranger("a", "10.0.0.2");
    let reply = world.step(vec![Input::Device(Box::new(told))]).remove(0);
    let detail = reply.body["detail"].as_str().unwrap_or_default().to_owned();
    assert_eq!(reply.status, 409);
    assert!(
        detail.contains("in use") && detail.contains("127.0.0.1") && detail.contains("10.0.0.2"),
        "both addresses: {detail}"
    );
}
