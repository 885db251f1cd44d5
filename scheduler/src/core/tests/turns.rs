//! Whose turn it is, who has to go, and what is promised: what the policy decides, in the core's terms.

use berth_common::id::JobId;
use berth_common::job::{Status, StopReason};
use berth_common::message::{AdminRequest, Target};
use berth_common::queue::{Policy, Queue};
use serde_json::json;

use super::world::World;

const MINUTE_MS: i64 = 60_000;

fn add_queue(world: &mut World, queue: Queue) {
    let reply = world.administer(AdminRequest::CreateQueue { queue: Box::new(queue) });
    assert_eq!(reply.status, 201, "{}", reply.body);
}

/// Passes time in steps in which everybody is heard.
fn wait(world: &mut World, minutes: i64) {
    for _ in 0..minutes * 6 {
        world.pass(MINUTE_MS / 6);
        let names: Vec<String> = world.workers.keys().cloned().collect();
        names.iter().for_each(|name| world.heartbeat(name));
        world.settle();
    }
}

fn in_queue(world: &mut World, n: u128, queue: &str, gpus: u32) -> JobId {
    world.submit_with(n, json!({"queue": queue, "resources": {"gpus": gpus}, "timeout_s": 3600}))
}

#[test]
fn a_preemptible_job_goes_for_one_within_its_quota_and_comes_back() {
    let mut world = World::with(&[("a", 2)]);
    add_queue(&mut world, Queue { quota: [("*".to_owned(), 0)].into(), ..Queue::new("spare") });
    let spare =
        world.submit_with(1, json!({"queue": "spare", "preemptible": true, "resources": {"gpus": 2}}));
    world.settle();
    assert_eq!(world.status(spare), Status::Running, "idle GPUs are beyond any quota");
    let job = in_queue(&mut world, 2, "default", 1);
    world.settle();
    assert_eq!(world.life(spare).stopping, None, "not before it has run for five minutes");
    wait(&mut world, 5);
    assert_eq!(world.life(spare).stopping, Some(StopReason::Preempt));
    world.finish("a", 0);
    world.settle();
    assert_eq!((world.status(job), world.status(spare)), (Status::Running, Status::Pending));
    assert_eq!(world.life(spare).failures, 0, "nobody charges it with that");
    world.finish("a", 0);
    world.settle();
    assert_eq!((world.status(spare), world.life(spare).attempt), (Status::Running, 2));
}

#[test]
fn a_quota_below_what_is_used_stops_nobody_and_lets_nobody_start() {
    let mut world = World::with(&[("a", 4)]);
    add_queue(&mut world, Queue::new("nlp"));
    let running = in_queue(&mut world, 1, "nlp", 2);
    world.settle();
    let queue = Queue { quota: [("*".to_owned(), 1)].into(), ..Queue::new("nlp") };
    assert_eq!(world.administer(AdminRequest::ReplaceQueue { queue: Box::new(queue) }).status, 200);
    let waiting = in_queue(&mut world, 2, "nlp", 1);
    world.settle();
    assert_eq!((world.status(running), world.status(waiting)), (Status::Running, Status::Pending));
    assert_eq!(world.why(waiting), "QUOTA");
    world.reload();
    wait(&mut world, 1);
    assert_eq!(world.why(waiting), "QUOTA");
    world.finish("a", 0);
    world.settle();
    assert_eq!(world.status(waiting), Status::Running);
}

#[test]
fn the_queue_that_has_had_less_is_next_also_for_another_leader() {
    let mut world = World::with(&[("a", 1)]);
    add_queue(&mut world, Queue::new("greedy"));
    add_queue(&mut world, Queue::new("modest"));
    let first = in_queue(&mut world, 1, "greedy", 1);
    world.settle();
    wait(&mut world, 30);
    let greedy = in_queue(&mut world, 2, "greedy", 1);
    let modest = in_queue(&mut world, 3, "modest", 1);
    world.settle();
    // What was promised, the new leader promises anew: in the order of the turns.
    world.reload();
    wait(&mut world, 1);
    assert_eq!((world.status(first), world.why(greedy).as_str()), (Status::Running, "QUEUE_TURN"));
    world.finish("a", 0);
    world.settle();
    assert_eq!((world.status(modest), world.status(greedy)), (Status::Running, Status::Pending));
}

#[test]
fn what_was_kept_free_on_a_lost_device_is_kept_elsewhere() {
    let mut world = World::with(&[("a", 2), ("b", 2)]);
    let short = world.submit_with(1, json!({"resources": {"gpus": 2}, "timeout_s": 600}));
    world.submit_with(2, json!({"resources": {"gpus": 2}, "timeout_s": 7200}));
    let job = in_queue(&mut world, 3, "default", 2);
    world.settle();
    let promised = world.core.explain(&[job], world.now)[&job].start_by.expect("it is promised");
    let (there, other) = if world.workers["a"].held.keys().any(|replica| replica.job == short) {
        ("a", "b")
    } else {
        ("b", "a")
    };
    world.silence(there);
    let again = world.core.explain(&[job], world.now)[&job].start_by;
    assert!(again.is_none_or(|again| again > promised), "{again:?} {promised}");
    world.finish(other, 0);
    world.settle();
    assert!([job, short].iter().any(|job| world.status(*job) == Status::Running));
}

#[test]
fn what_waits_beside_an_old_container_starts_when_that_is_lost() {
    let mut world = World::with(&[("a", 1), ("b", 1)]);
    let job = world.submit_with(1, json!({"resources": {"gpus": 1}, "disconnect": "keep"}));
    world.settle();
    let on = if world.workers["a"].held.is_empty() { "b" } else { "a" };
    world.silence(on);
    world.give("ann", 10, Target::Job(job), json!({"command": "kill"}));
    // It comes back with what was given up there.
    world.crash(on);
    world.settle();
    world.give("ann", 11, Target::Job(job), json!({"command": "retry"}));
    assert_eq!((world.status(job), world.why(job).as_str()), (Status::Pending, "DEVICE_DOWN"));
    world.silence(on);
    world.settle_one(if on == "a" { "b" } else { "a" });
    assert!(world.status(job).is_placed(), "{}", world.why(job));
}

#[test]
fn nothing_is_said_to_help_where_the_order_holds_a_job_up() {
    let mut world = World::with(&[("a", 4)]);
    add_queue(&mut world, Queue { policy: Policy::Fifo, ..Queue::new("strict") });
    in_queue(&mut world, 1, "strict", 3);
    let first = in_queue(&mut world, 2, "strict", 2);
    let behind = in_queue(&mut world, 3, "strict", 1);
    let gang = json!({"queue": "strict", "replicas": 4, "resources": {"gpus": 1}});
    let gang = world.submit_with(4, gang);
    world.settle();
    let help = |job| world.core.changes_that_help(job, world.now);
    assert_eq!(help(first).first().map(|change| change.field.as_str()), Some("/resources/gpus"));
    assert_eq!((help(behind), help(gang)), (Vec::new(), Vec::new()));
}

#[test]
fn nobody_waits_for_one_that_a_lower_quota_does_not_let_start_any_more() {
    let mut world = World::with(&[("a", 4)]);
    let queue = |gpus| Queue { quota: [("*".to_owned(), gpus)].into(), ..Queue::new("nlp") };
    add_queue(&mut world, queue(3));
    let first = in_queue(&mut world, 1, "nlp", 1);
    let large = in_queue(&mut world, 2, "nlp", 3);
    world.settle();
    world.take_over(25 * 60 * MINUTE_MS);
    wait(&mut world, 1);
    let small = in_queue(&mut world, 3, "nlp", 1);
    wait(&mut world, 1);
    assert!(world.status(first).is_placed() && world.status(small) == Status::Pending);
    assert_eq!(world.why(small), "QUOTA", "the quota fills up for the large one");
    let lower = AdminRequest::ReplaceQueue { queue: Box::new(queue(2)) };
    assert_eq!(world.administer(lower).status, 200);
    wait(&mut world, 1);
    assert_eq!((world.status(small), world.why(large).as_str()), (Status::Running, "QUOTA"));
}
