//! Arrays, jobs that come after others, approvals and quotas: who waits for whom.

use berth_common::id::JobId;
use berth_common::job::{Outcome, Status};
use berth_common::message::{AdminRequest, Target};
use berth_common::queue::Queue;
use berth_common::spec::from_value;
use serde_json::{Value, json};
use uuid::Uuid;

use super::world::World;
use crate::core::rows::Life;

fn elements(n: u128, array: Value) -> Vec<JobId> {
    let spec = from_value(json!({"image": "x", "array": array})).expect("valid");
    spec.job_ids(Uuid::from_u128(n))
}

fn with_queue(queue: Queue) -> World {
    let mut world = World::with(&[("a", 4)]);
    let reply = world.administer(AdminRequest::CreateQueue { queue: Box::new(queue) });
    assert_eq!(reply.status, 201, "{}", reply.body);
    world
}

/// Ends whatever runs on a device, until nothing does.
fn finish_all(world: &mut World, code: i64) {
    for _ in 0..20 {
        world.finish("a", code);
        world.settle();
    }
}

#[test]
fn an_array_is_one_submission_and_many_jobs_in_their_order() {
    let mut world = World::with(&[("a", 1)]);
    let array = json!({"count": 3});
    let submission = json!({"array": array, "resources": {"gpus": 1}});
    assert_eq!(world.submit_as("ann", 1, submission.clone()).status, 201);
    assert_eq!(world.submit_as("ann", 1, submission).status, 200, "the same again");
    assert_eq!(world.submit_as("ann", 1, json!({"array": {"count": 4}})).status, 409);
    let ids = elements(1, array);
    for (index, id) in (0..).zip(&ids) {
        world.settle();
        assert_eq!(world.status(*id), Status::Running, "one after the other");
        assert_eq!(world.workers["a"].orders.last().and_then(|s| s.array_index), Some(index));
        world.finish("a", 0);
    }
    world.settle();
    assert!(ids.iter().all(|id| world.life(*id).outcome == Some(Outcome::Succeeded)));
}

#[test]
fn a_key_is_for_a_job_or_for_an_array_and_not_for_both() {
    let mut world = World::with(&[("a", 1)]);
    world.submit_with(1, json!({"array": {"count": 2}}));
    assert_eq!(world.submit_as("ann", 1, json!({})).status, 409);
    world.submit_with(2, json!({}));
    assert_eq!(world.submit_as("ann", 2, json!({"array": {"count": 2}})).status, 409);
}

#[test]
fn a_retry_of_a_matrix_element_keeps_its_values() {
    let mut world = World::with(&[("a", 1)]);
    let matrix = json!({"LR": ["1", "2"]});
    world.submit_with(1, json!({"matrix": matrix, "env": {"A": "0"}}));
    let second = Uuid::from_u128(1);
    let second = from_value(json!({"image": "x", "matrix": matrix})).expect("valid").job_ids(second)[1];
    world.settle();
    finish_all(&mut world, 1);
    world.give("ann", 10, Target::Job(second), json!({"command": "retry", "set": {"env": {"DEBUG": "1"}}}));
    let spec = &world.tables.jobs[&second].spec;
    assert_eq!((spec.env["LR"].as_str(), spec.env["DEBUG"].as_str(), spec.env.get("A")), ("2", "1", None));
}

#[test]
fn an_array_runs_no_more_at_once_than_it_asks_for() {
    let mut world = World::with(&[("a", 4)]);
    let array = json!({"count": 5, "max_running": 2});
    world.submit_with(1, json!({"array": array, "resources": {"gpus": 1}}));
    let ids = elements(1, array);
    world.settle();
    let running = |world: &World| ids.iter().filter(|id| world.status(**id) == Status::Running).count();
    assert_eq!((running(&world), world.why(ids[2])), (2, "QUOTA".to_owned()));
    world.reload();
    world.settle();
    world.finish("a", 0);
    world.settle();
    assert_eq!(running(&world), 2);
    finish_all(&mut world, 0);
    assert!(ids.iter().all(|id| world.life(*id).outcome == Some(Outcome::Succeeded)));
}

#[test]
fn a_job_waits_until_all_that_it_comes_after_have_succeeded() {
    let mut world = World::with(&[("a", 4)]);
    let first = world.submit(1, 1);
    world.submit_with(2, json!({"array": {"count": 2}}));
    world.settle();
    let last = world.submit_with(3, json!({"after": [first, Uuid::from_u128(2)]}));
    world.settle();
    assert_eq!((world.status(last), world.why(last)), (Status::Pending, "DEPENDENCY".into()));
    world.finish("a", 0);
    world.settle();
    world.reload();
    world.settle();
    assert_eq!(world.status(last), Status::Pending);
    world.finish("a", 0);
    world.settle();
    assert_eq!(world.status(last), Status::Pending, "one of the three still runs");
    world.finish("a", 0);
    world.settle();
    assert_eq!(world.status(last), Status::Running);
    let later = world.submit_with(4, json!({"after": [first, Uuid::from_u128(2)]}));
    world.settle();
    assert_eq!(world.status(later), Status::Running, "also after what has finished long ago");
}

#[test]
fn a_job_whose_predecessor_fails_ends_with_the_reason_and_so_do_those_after_it() {
    let mut world = World::with(&[("a", 4)]);
    let first = world.submit(1, 1);
    let second = world.submit_with(2, json!({"after": [first]}));
    let third = world.submit_with(3, json!({"after": [second], "hold": true}));
    world.settle();
    world.finish("a", 9);
    world.settle();
    for job in [second, third] {
        let Life { outcome, error, attempt, .. } = world.life(job).clone();
        assert_eq!((outcome, attempt), (Some(Outcome::Error), 0));
        assert!(error.is_some_and(|e| e.contains("comes after")), "it says why");
    }
    let late = world.submit_with(4, json!({"after": [first]}));
    assert_eq!(world.life(late).outcome, Some(Outcome::Error), "it never can any more");
    let retry = |world: &mut World, id: u128, job| {
        world.give("ann", id, Target::Job(job), json!({"command": "retry"}))
    };
    assert_eq!(retry(&mut world, 50, second).status, 409, "not before the first");
    assert_eq!(retry(&mut world, 51, first).status, 202);
    assert_eq!(retry(&mut world, 52, second).status, 202);
    world.settle();
    assert_eq!((world.status(first), world.status(second)), (Status::Running, Status::Pending));
    world.finish("a", 0);
    world.settle();
    assert_eq!(world.status(second), Status::Running);
}

#[test]
fn a_job_comes_after_what_exists_and_its_owner_may_see() {
    let mut world = World::with(&[("a", 1)]);
    let others = world.submit_as("bob", 1, json!({}));
    assert_eq!(others.status, 201);
    for after in [1, 2, 77] {
        let reply = world.submit_as("ann", 2, json!({"after": [Uuid::from_u128(after)]}));
        let pointer = reply.body["errors"][0]["pointer"].clone();
        assert_eq!((reply.status, pointer), (422, json!("/after/0")), "{after}: {}", reply.body);
    }
    let reply = world.submit_as("ann", 3, json!({"array": {"count": 2}, "after": [Uuid::from_u128(3)]}));
    assert_eq!(reply.status, 422, "an array after itself");
}

#[test]
fn a_queue_with_approval_waits_for_an_admin_and_not_for_the_owner() {
    let mut world = with_queue(Queue { approval: true, ..Queue::new("careful") });
    let job = world.submit_with(1, json!({"queue": "careful"}));
    world.settle();
    assert_eq!((world.status(job), world.why(job)), (Status::Unapproved, "APPROVAL".into()));
    let approve = |world: &mut World, who: &str, id| {
        world.give(who, id, Target::Job(job), json!({"command": "approve"}))
    };
    assert_eq!(approve(&mut world, "ann", 10).status, 403);
    world.reload();
    assert_eq!(approve(&mut world, "root", 11).status, 202);
    world.settle();
    assert_eq!(world.status(job), Status::Running);
    assert_eq!(approve(&mut world, "root", 12).status, 409);
    let held = world.submit_with(2, json!({"queue": "careful", "hold": true}));
    world.give("root", 13, Target::Job(held), json!({"command": "approve"}));
    assert_eq!((world.status(held), world.life(held).held), (Status::Pending, true));
    let killed = world.submit_with(3, json!({"queue": "careful"}));
    world.give("ann", 14, Target::Job(killed), json!({"command": "kill"}));
    world.give("ann", 15, Target::Job(killed), json!({"command": "retry"}));
    assert_eq!(world.status(killed), Status::Unapproved, "a retry is no way around the approval");
}

#[test]
fn what_is_over_the_users_quota_goes_on_when_some_of_it_is_free() {
    let user_quota = [("*".to_owned(), 2)].into();
    let mut world = with_queue(Queue { user_quota, ..Queue::new("small") });
    let submit = |world: &mut World, who: &str, n: u128, gpus: u32| {
        let reply = world.submit_as(who, n, json!({"queue": "small", "resources": {"gpus": gpus}}));
        assert_eq!(reply.status, 201, "{}", reply.body);
        Uuid::from_u128(n)
    };
    let one = submit(&mut world, "ann", 1, 2);
    let two = submit(&mut world, "ann", 2, 1);
    let others = submit(&mut world, "bob", 3, 1);
    world.settle();
    assert_eq!(world.status(one), Status::Running);
    assert_eq!((world.status(two), world.why(two)), (Status::Unapproved, "APPROVAL".into()));
    assert_eq!(world.status(others), Status::Running, "everybody has a quota of his own");
    world.reload();
    world.settle();
    assert_eq!(world.status(two), Status::Unapproved);
    world.finish("a", 0);
    world.settle();
    assert_eq!((world.status(one), world.status(two)), (Status::Exited, Status::Running));
    let three = submit(&mut world, "ann", 4, 2);
    assert_eq!(world.status(three), Status::Unapproved);
    let wider = Queue { user_quota: [("*".to_owned(), 3)].into(), ..Queue::new("small") };
    assert_eq!(world.administer(AdminRequest::ReplaceQueue { queue: Box::new(wider) }).status, 200);
    world.settle();
    assert_eq!(world.status(three), Status::Running, "approved");
    finish_all(&mut world, 0);
    assert_eq!(world.status(three), Status::Exited);
}

#[test]
fn a_queue_is_made_changed_and_deleted_by_admins_while_no_job_is_its() {
    let mut world = with_queue(Queue::new("q"));
    let boxed = |queue: Queue| Box::new(queue);
    assert_eq!(world.administer(AdminRequest::CreateQueue { queue: boxed(Queue::new("q")) }).status, 409);
    assert_eq!(world.administer(AdminRequest::ReplaceQueue { queue: boxed(Queue::new("r")) }).status, 404);
    let job = world.submit_with(1, json!({"queue": "q"}));
    world.settle();
    let limited = Queue { default_timeout_s: Some(60), ..Queue::new("q") };
    assert_eq!(world.administer(AdminRequest::ReplaceQueue { queue: boxed(limited) }).status, 200);
    world.settle();
    assert_eq!(world.workers["a"].limits.last().and_then(|l| l.timeout_s), Some(60), "its jobs are told");
    world.pass(61_000);
    assert!(world.life(job).stopping.is_some(), "and held to it");
    world.settle();
    let delete =
        |world: &mut World, name: &str| world.administer(AdminRequest::DeleteQueue { name: name.into() });
    assert_eq!(delete(&mut world, "q").status, 409);
    finish_all(&mut world, 0);
    assert_eq!(delete(&mut world, "q").status, 409, "its history keeps the name");
    assert_eq!(delete(&mut world, "default").status, 409);
    assert_eq!(delete(&mut world, "none").status, 404);
    assert_eq!(world.administer(AdminRequest::CreateQueue { queue: boxed(Queue::new("e")) }).status, 201);
    assert_eq!(delete(&mut world, "e").status, 204);
}
