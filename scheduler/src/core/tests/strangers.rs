//! Workers that are not what they should be: of another version, of another installation, unwell; and
//! a database that was restored and does not know what they run.

use berth_common::device::DeviceState;
use berth_common::job::Status;
use berth_common::message::{OTHER_INSTALLATION, PROTOCOL, Target};
use serde_json::json;
use uuid::Uuid;

use super::world::World;
use crate::core::device::{UNTAKEN_MS, WELCOME_AGAIN_MS};

#[test]
fn a_worker_of_the_version_before_drains_and_its_jobs_end_well() {
    let mut world = World::with(&[("a", 2)]);
    let job = world.submit(1, 1);
    world.settle();
    world.workers.get_mut("a").expect("a").protocol = PROTOCOL - 1;
    world.crash("a");
    world.settle();
    let state = world.device_state("a");
    assert_eq!(state.state, DeviceState::Draining);
    assert!(state.note.as_ref().is_some_and(|note| note.contains("update it")), "{state:?}");
    let next = world.submit(2, 1);
    world.finish("a", 0);
    world.settle();
    assert_eq!((world.status(job), world.status(next)), (Status::Exited, Status::Pending));
    world.workers.get_mut("a").expect("a").protocol = PROTOCOL;
    world.crash("a");
    world.settle();
    assert_eq!(world.status(next), Status::Running, "it was updated");
}

#[test]
fn an_older_worker_is_refused_with_the_versions() {
    let mut world = World::new();
    for protocol in [PROTOCOL - 2, PROTOCOL + 1] {
        world.worker("a", 1);
        world.reports.clear();
        world.workers.get_mut("a").expect("a").protocol = protocol;
        world.heartbeat("a");
        let reply = world.read_reply().expect("a refusal");
        let detail = reply.body["detail"].as_str().unwrap_or_default();
        assert_eq!(reply.status, 409);
        for version in [protocol, PROTOCOL - 1, PROTOCOL] {
            assert!(detail.contains(&version.to_string()), "{version}: {detail}");
        }
        assert!(world.core.explain(&[], world.now).is_empty());
    }
}

#[test]
fn a_worker_of_another_installation_is_refused_and_nothing_is_sent_to_it() {
    let mut world = World::new();
    world.worker("a", 1);
    world.reports.clear();
    world.workers.get_mut("a").expect("a").instance = Some(Uuid::from_u128(99));
    world.heartbeat("a");
    let reply = world.read_reply().expect("a refusal");
    assert_eq!(reply.status, OTHER_INSTALLATION);
    assert!(
        reply.body["detail"].as_str().is_some_and(|d| d.contains("berth-worker adopt")),
        "{}",
        reply.body
    );
    assert!(world.workers["a"].queue.is_empty());
}

#[test]
fn a_device_that_says_it_is_unwell_gets_nothing_new_and_is_up_when_it_is_well() {
    let mut world = World::with(&[("a", 1)]);
    world.workers.get_mut("a").expect("a").health = Some("Docker does not answer".into());
    world.heartbeat("a");
    world.settle();
    let job = world.submit(1, 1);
    world.settle();
    let state = world.device_state("a");
    assert_eq!((state.state, state.note.as_deref()), (DeviceState::Degraded, Some("Docker does not answer")));
    assert_eq!(world.status(job), Status::Pending);
    world.workers.get_mut("a").expect("a").health = None;
    world.heartbeat("a");
    world.settle();
    assert_eq!((world.device_state("a").state, world.status(job)), (DeviceState::Up, Status::Running));
}

#[test]
fn a_worker_that_is_heard_and_takes_no_orders_gets_nothing_new_and_people_are_told() {
    let mut world = World::with(&[("a", 2)]);
    let sent = world.submit(1, 1);
    world.crash("a");
    world.read_report(false);
    world.heartbeat("a");
    world.read_report(false);
    assert_eq!(world.device_state("a").state, DeviceState::Up, "its welcome is on its way");
    world.pass(WELCOME_AGAIN_MS);
    world.heartbeat("a");
    world.read_report(false);
    let state = world.device_state("a");
    let note = state.note.as_deref().unwrap_or_default();
    assert_eq!((state.state, note.contains("berth.device.a")), (DeviceState::Degraded, true), "{note}");
    let next = world.submit(2, 1);
    assert_eq!((world.status(sent), world.why(sent)), (Status::Scheduled, "DEVICE_DOWN".into()));
    assert_eq!((world.status(next), world.why(next)), (Status::Pending, "DEVICE_DOWN".into()));
    // The next leader does not trust it either before it has answered.
    world.reload();
    world.heartbeat("a");
    world.read_report(false);
    assert_eq!(world.device_state("a").state, DeviceState::Degraded);
    world.settle();
    assert_eq!(world.device_state("a").state, DeviceState::Up);
    assert_eq!((world.status(sent), world.status(next)), (Status::Running, Status::Running));
}

#[test]
fn a_worker_that_stops_taking_orders_in_its_session_gets_nothing_new_before_it_takes_them() {
    let mut world = World::with(&[("a", 2)]);
    let sent = world.submit(1, 1);
    for _ in 0..UNTAKEN_MS / 15_000 {
        assert_eq!(world.device_state("a").state, DeviceState::Up);
        world.pass(15_000);
        world.heartbeat("a");
        world.read_report(false);
    }
    let next = world.submit(2, 1);
    assert_eq!(world.device_state("a").state, DeviceState::Degraded);
    assert_eq!((world.status(sent), world.why(sent)), (Status::Scheduled, "DEVICE_DOWN".into()));
    assert_eq!(world.status(next), Status::Pending);
    world.take("a", false);
    world.heartbeat("a");
    world.settle();
    assert_eq!(world.device_state("a").state, DeviceState::Up);
    assert_eq!((world.status(sent), world.status(next)), (Status::Running, Status::Running));
}

#[test]
fn a_leader_without_memory_starts_nothing_beside_an_old_container_that_it_has_not_seen_yet() {
    let mut world = World::with(&[("a", 1), ("b", 1)]);
    let job = world.submit_with(1, json!({"resources": {"gpus": 1}, "disconnect": "keep"}));
    world.settle();
    world.silence("a");
    world.give("ann", 10, Target::Job(job), json!({"command": "kill"}));
    world.crash("a");
    world.settle();
    assert_eq!(world.device_state("a").state, DeviceState::Degraded, "it still runs it");
    world.give("ann", 11, Target::Job(job), json!({"command": "retry"}));
    world.reload();
    world.pass(1_000);
    assert_eq!(world.status(job), Status::Pending, "who knows what runs there");
    world.heartbeat("a");
    world.heartbeat("b");
    world.settle();
    assert_eq!((world.status(job), world.why(job)), (Status::Pending, "DEVICE_DOWN".into()));
    world.finish("a", 0);
    world.heartbeat("a");
    world.settle();
    assert_eq!(world.status(job), Status::Running);
}

#[test]
fn after_a_restore_strangers_are_named_first_and_stopped_later_and_numbers_go_on() {
    let mut world = World::with(&[("a", 2), ("b", 2)]);
    let backup = world.tables.clone();
    let job = world.submit(1, 1);
    world.settle();
    // The backup is restored, and `berth-scheduler recover` was run: a smaller raise than usual here,
    // so that the worker's numbers are beyond ours.
    world.tables = backup;
    world.tables.recovering = true;
    world.tables.attempt_floor = 1 << 20;
    world.tables.next_id = 3;
    world.reload();
    world.crash("a");
    world.crash("b");
    world.settle();
    world.heartbeat("a");
    world.settle();
    assert!(world.workers["a"].stopping.is_empty(), "not yet");
    let note = world.device_state("a").note.clone().unwrap_or_default();
    assert!(note.contains(&job.to_string()), "{note}");
    assert!(world.tables.next_id > world.workers["a"].taken.1, "our numbers are above the worker's");
    let same = world.submit(1, 1);
    world.settle();
    assert_eq!(
        (world.status(same), world.why(same)),
        (Status::Pending, "BACKOFF".into()),
        "it may run somewhere"
    );
    world.pass(299_000);
    world.heartbeat("a");
    world.heartbeat("b");
    world.settle();
    world.pass(2_000);
    let other = world.submit(2, 1);
    world.settle();
    assert_eq!((world.status(same), world.why(same)), (Status::Pending, "DEVICE_DOWN".into()), "it does run");
    assert_eq!(world.status(other), Status::Running, "others go on");
    world.heartbeat("a");
    world.settle();
    world.heartbeat("a");
    world.settle();
    assert_eq!(world.workers["a"].stopping.len(), 1, "now it is");
    assert!(!world.tables.recovering);
    world.finish("a", 0);
    world.heartbeat("a");
    world.settle();
    assert_eq!(world.life(same).attempt, (1 << 20) + 1, "no number is used twice");
}
