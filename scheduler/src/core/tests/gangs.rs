//! Jobs of several containers: all or nothing, and one ending for all.

use berth_common::id::{JobId, Replica};
use berth_common::job::{Outcome, Status, StopReason};
use serde_json::json;
use uuid::Uuid;

use super::world::World;

fn gang(world: &mut World, n: u128, replicas: u32, gpus: u32) -> JobId {
    world.submit_with(n, json!({"replicas": replicas, "resources": {"gpus": gpus}}))
}

#[test]
fn a_gang_is_placed_whole_with_everything_to_meet_or_not_at_all() {
    let mut world = World::with(&[("a", 2), ("b", 2)]);
    let first = world.submit(1, 1);
    world.settle();
    let job = gang(&mut world, 2, 2, 2);
    world.settle();
    assert_eq!((world.status(job), world.tables.reservations.len()), (Status::Pending, 1), "not half of it");
    assert_eq!(world.why(job), "CAPACITY");
    world.finish("a", 0);
    world.settle();
    assert_eq!((world.status(first), world.status(job)), (Status::Exited, Status::Running));
    assert_eq!(world.tables.reservations.len(), 4);
    let starts: Vec<_> = world.workers.values().filter_map(|w| w.orders.last()).collect();
    let gangs: Vec<_> = starts.iter().filter_map(|start| start.gang.clone()).collect();
    assert_eq!((gangs.len(), gangs[0].replicas), (2, 2));
    assert_eq!(gangs[0], gangs[1], "they meet at one place");
    assert_eq!(starts.iter().map(|s| s.replica.replica).collect::<Vec<_>>().len(), 2);
}

#[test]
fn a_gang_takes_whole_devices_first_and_several_replicas_share_one() {
    let mut world = World::with(&[("a", 2), ("b", 4)]);
    let job = gang(&mut world, 1, 5, 1);
    world.settle();
    assert_eq!(world.status(job), Status::Running);
    assert_eq!((world.workers["a"].held.len(), world.workers["b"].held.len()), (1, 4));
    let two = gang(&mut world, 2, 2, 0);
    world.settle();
    assert_eq!(world.status(two), Status::Running);
    let port = |n: u128| {
        let orders = world.workers.values().flat_map(|w| &w.orders);
        let mut gangs =
            orders.filter(|s| s.replica.job == Uuid::from_u128(n)).filter_map(|s| s.gang.as_ref());
        gangs.next().map(|gang| gang.master_port)
    };
    assert_ne!(port(1), port(2), "both hosts have one address, so they meet at two ports");
}

#[test]
fn a_replica_that_fails_stops_the_others_and_one_that_ends_well_stops_nobody() {
    let mut world = World::with(&[("a", 1), ("b", 1)]);
    let job = gang(&mut world, 1, 2, 1);
    world.settle();
    world.finish("a", 0);
    world.settle();
    assert_eq!((world.status(job), world.life(job).stopping), (Status::Running, None));
    assert_eq!(world.tables.reservations.len(), 1, "its GPU is free at once");
    world.finish("b", 0);
    world.settle();
    assert_eq!(world.life(job).outcome, Some(Outcome::Succeeded));

    let job = gang(&mut world, 2, 2, 1);
    world.settle();
    world.finish("b", 3);
    world.settle();
    assert_eq!(world.life(job).stopping, Some(StopReason::Sibling));
    world.finish("a", 0);
    world.settle();
    assert_eq!((world.life(job).outcome, world.life(job).exit_code), (Some(Outcome::Failed), Some(3)));
    assert_eq!(world.life(job).error.as_deref(), Some("exit code 3"));
    assert_eq!(world.life(job).failures, 1, "once for the whole attempt");
}

#[test]
fn a_gang_that_loses_a_device_is_a_fault_and_placed_again_as_a_whole() {
    let mut world = World::with(&[("a", 1), ("b", 1), ("c", 1)]);
    let job = gang(&mut world, 1, 2, 1);
    world.settle();
    world.cut("a");
    for _ in 0..4 {
        for name in ["a", "b", "c"] {
            world.heartbeat(name);
        }
        world.settle();
        if world.life(job).stopping.is_some() {
            world.finish("b", 0);
        }
        world.settle();
        world.pass(5_000);
    }
    let life = world.life(job);
    assert_eq!((life.status, life.attempt, life.faults, life.failures), (Status::Running, 2, 1, 0));
    assert_eq!(world.tables.reservations.len(), 2);
}

#[test]
fn a_leader_that_comes_in_between_knows_how_the_first_replicas_ended() {
    let mut world = World::with(&[("a", 1), ("b", 1)]);
    let job = gang(&mut world, 1, 2, 1);
    world.settle();
    world.finish("a", 7);
    while !world.reports.is_empty() {
        world.read_report(false);
    }
    world.reload();
    world.settle();
    world.finish("b", 0);
    world.settle();
    let life = world.life(job);
    assert_eq!((life.outcome, life.error.as_deref()), (Some(Outcome::Failed), Some("exit code 7")));
}

#[test]
fn a_replica_that_was_never_taken_charges_nothing() {
    let mut world = World::with(&[("a", 1), ("b", 1)]);
    let job = gang(&mut world, 1, 2, 1);
    world.lose("a");
    world.settle_one("b");
    for _ in 0..8 {
        world.heartbeat("a");
        world.heartbeat("b");
        world.settle();
        world.finish("b", 0);
        world.settle();
        world.pass(5_000);
    }
    let life = world.life(job);
    assert_eq!((life.faults, life.failures), (0, 0));
    assert!(life.attempt >= 2, "placed again: {life:?}");
    let twice = |r: &Replica| world.workers.values().flat_map(|w| &w.started).filter(|s| *s == r).count();
    assert!(world.workers["b"].started.iter().all(|r| twice(r) == 1));
}

#[test]
fn a_gang_larger_than_the_cluster_is_refused() {
    let mut world = World::with(&[("a", 2), ("b", 2)]);
    let reply = world.submit_as("ann", 1, json!({"replicas": 3, "resources": {"gpus": 2}}));
    assert_eq!(
        (reply.status, &reply.body["errors"][0]["pointer"]),
        (422, &json!("/replicas")),
        "{}",
        reply.body
    );
    assert!(reply.body["errors"][0]["message"].as_str().is_some_and(|m| m.contains("room for 2")));
}
