//! Labels of devices, and the constraints of jobs: one without them is never given.

use berth_common::job::Status;
use berth_common::message::Reply;
use serde_json::{Value, json};

use super::world::World;

/// Two devices alike but for their rack; the second is the better fit.
fn racks() -> World {
    let mut world = World::with(&[("a", 2), ("b", 1)]);
    for (name, rack) in [("a", "a1"), ("b", "b2")] {
        label(&mut world, name, rack);
    }
    world
}

fn label(world: &mut World, name: &str, rack: &str) {
    let labels = [("rack".to_owned(), rack.to_owned()), ("kind".to_owned(), format!("of {name}"))];
    world.workers.get_mut(name).expect("a worker").labels = labels.into();
    world.crash(name);
    world.settle();
}

fn on(rack: &str, gpus: u32) -> Value {
    json!({"constraints": {"rack": rack}, "resources": {"gpus": gpus}})
}

fn pointer(reply: &Reply) -> &str {
    reply.body["errors"][0]["pointer"].as_str().unwrap_or_default()
}

#[test]
fn a_job_runs_where_the_labels_are_and_waits_for_them() {
    let mut world = racks();
    let first = world.submit_with(1, on("a1", 1));
    let second = world.submit_with(2, on("a1", 1));
    let third = world.submit_with(3, on("a1", 1));
    let free = world.submit(4, 1);
    world.settle();
    for job in [first, second, free] {
        assert_eq!(world.status(job), Status::Running);
    }
    assert_eq!(world.status(third), Status::Pending);
    assert_eq!(world.workers["a"].held.len(), 2);
    world.reload();
    world.finish("b", 0);
    world.settle();
    assert_eq!(world.status(third), Status::Pending, "the other rack is free, and not for it");
    assert_eq!(world.why(third), "CAPACITY");
    world.finish("a", 0);
    world.settle();
    assert_eq!(world.status(third), Status::Running);
}

#[test]
fn a_device_that_gets_a_label_takes_what_waits_for_it() {
    let mut world = racks();
    let blocker = world.submit_with(1, on("b2", 1));
    let waiting = world.submit_with(2, on("b2", 1));
    world.settle();
    assert_eq!((world.status(blocker), world.status(waiting)), (Status::Running, Status::Pending));
    label(&mut world, "a", "b2");
    assert_eq!(world.status(waiting), Status::Running);
}

#[test]
fn what_no_device_with_the_labels_can_run_is_refused() {
    let mut world = racks();
    let both = json!({"constraints": {"rack": "a1", "kind": "of b"}});
    let gang = json!({"constraints": {"rack": "b2"}, "resources": {"gpus": 1}, "replicas": 2});
    for (n, spec, place) in [
        (1, json!({"constraints": {"rack": "c3"}}), "/constraints/rack"),
        (2, json!({"constraints": {"row/~": "1"}}), "/constraints/row~1~0"),
        (3, both, "/constraints"),
        (4, on("b2", 2), "/resources/gpus"),
        (5, gang, "/replicas"),
    ] {
        let reply = world.submit_as("ann", n, spec);
        assert_eq!((reply.status, pointer(&reply)), (422, place), "{}", reply.body);
    }
    let reply = world.submit_as("ann", 6, json!({"constraints": {"rack": "c3"}}));
    assert!(reply.body["detail"].as_str().is_some_and(|text| text.contains("a1, b2")), "{}", reply.body);
    let mut nobody = World::new();
    assert_eq!(nobody.submit_as("ann", 1, json!({"constraints": {"rack": "c3"}})).status, 201);
}
