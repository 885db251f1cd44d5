//! Time limits, which the worker keeps by itself, and what else a heartbeat and its refusal tell.

use std::time::Duration;

use crate::stage::{Far, Leader, Stage, Wire, eventually};
use berth_common::broker::{Broker, Declare, LinkState, Message, Subscription, topology};
use berth_common::id::Replica;
use berth_common::message::{Event, Limit, Order, PROTOCOL, REPLY, Reply};
use berth_common::problem::Problem;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// Says goodbye when it is asked to end.
const POLITE: [&str; 3] =
    ["sh", "-c", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done"];

#[tokio::test]
async fn one_that_has_run_for_its_time_is_asked_to_end_and_told_as_timed_out() {
    let (stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    let polite = leader.start_limited(&stage.image, &POLITE, 2).await;
    let in_time = leader.start_limited(&stage.image, &["true"], 60).await;
    let ending = leader.exited(in_time).await;
    assert!(!ending.signalled && !ending.timed_out, "{ending:?}");
    let ending = leader.exited(polite).await;
    assert!(ending.timed_out && ending.signalled && ending.fault.is_none(), "{ending:?}");
    assert_eq!(ending.exit_code, Some(0));
    let ran = ending.exited_at.duration_since(ending.started_at.expect("it ran"));
    assert!((2..10).contains(&ran.as_secs()), "{ran:?}");
    assert_eq!(leader.log(polite).await, "ready\nbye\n");
}

#[tokio::test]
async fn a_limit_can_be_changed_while_it_runs_and_a_stop_of_the_leader_is_no_timeout() {
    let (stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    let shorter = leader.start_limited(&stage.image, &POLITE, 3600).await;
    let longer = leader.start_limited(&stage.image, &POLITE, 3).await;
    leader.order(Order::Limit(Limit { replica: longer, timeout_s: None })).await;
    leader.started(longer).await;
    leader.wrote(shorter, "ready").await;
    leader.order(Order::Limit(Limit { replica: shorter, timeout_s: Some(1) })).await;
    assert!(leader.exited(shorter).await.timed_out);
    leader.stop(longer, Duration::from_secs(60)).await;
    let ending = leader.exited(longer).await;
    assert!(ending.signalled && !ending.timed_out, "{ending:?}");
}

#[tokio::test]
async fn a_limit_is_kept_over_a_restart() {
    let (mut stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    let job = leader.start_limited(&stage.image, &POLITE, 3).await;
    leader.started(job).await;
    stage.kill_worker();
    stage.start_worker();
    leader.hello().await;
    // Nobody has welcomed it yet: what runs goes on, for as long as it may.
    let ending = leader.exited(job).await;
    assert!(ending.timed_out && ending.signalled, "{ending:?}");
}

#[tokio::test]
async fn a_worker_that_misses_docker_says_so_and_stops_saying_it() {
    let mut stage = Stage::without_worker(&[]).await;
    let mut leader = Leader::new(&stage.vhost.url(), &stage.device).await;
    let wire = Wire::to(Far::docker()).await;
    stage.docker_by(&wire);
    stage.start_worker();
    leader.hello().await;
    leader.welcome(&[]).await;
    let health = async |leader: &mut Leader, ill: bool| {
        leader
            .until("a heartbeat about its health", |told| match &told.event {
                Event::Heartbeat(beat) if beat.health.is_some() == ill => {
                    Some((beat.protocol, beat.health.clone()))
                }
                Event::Heartbeat(_)
                | Event::Started(_)
                | Event::Exited(_)
                | Event::Answer(_)
                | Event::Executed(_) => None,
            })
            .await
    };
    assert_eq!(health(&mut leader, false).await, (PROTOCOL, None));
    wire.cut();
    let (_, words) = health(&mut leader, true).await;
    assert!(words.as_deref().is_some_and(|words| words.contains("Docker does not answer")), "{words:?}");
    wire.mend();
    health(&mut leader, false).await;
}

#[tokio::test]
async fn a_refusal_of_a_heartbeat_is_told_once() {
    let (stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    let to = leader.refusals.clone().expect("a heartbeat says where to refuse it");
    let refusal = |status, detail: &str| {
        let body = serde_json::to_value(Problem::new(status, detail)).expect("json");
        let body = serde_json::to_vec(&Reply { status, body }).expect("json");
        Message::new(topology::BY_QUEUE, &to, REPLY, Uuid::new_v4().to_string(), body)
    };
    for detail in ["the name is in use", "the name is in use", "version 0 is too old"] {
        leader.publish(refusal(409, detail)).await;
    }
    eventually("the last one is in the log", async || {
        let log = stage.worker_log();
        if log.contains("version 0 is too old") { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(stage.worker_log().matches("the name is in use").count(), 1);
    let job = leader.start(&stage.image, json!({"command": ["true"]})).await;
    assert_eq!(leader.exited(job).await.exit_code, Some(0), "orders are taken all the same");
}

#[tokio::test]
async fn a_refused_worker_leaves_the_devices_queue_to_the_one_that_is_heard() {
    let (stage, mut leader) = Stage::new(&[]).await;
    let to = leader.refusals.clone().expect("a heartbeat says where to refuse it");
    let stop = CancellationToken::new();
    let broker =
        Broker::new(&stage.vhost.url(), "the other", stop.clone(), TaskTracker::new()).expect("a URL");
    let queue = topology::device_queue(&stage.device);
    // The second consumer: the broker gives it nothing while the first one is there.
    let mut other = broker.subscribe(vec![Subscription { queue, declare: Declare::Existing, prefetch: 1 }]);
    other.state.wait_for(|state| *state == LinkState::Up).await.expect("it subscribes");
    let body = serde_json::to_value(Problem::new(409, "the name is in use")).expect("json");
    let body = serde_json::to_vec(&Reply { status: 409, body }).expect("json");
    leader.publish(Message::new(topology::BY_QUEUE, &to, REPLY, Uuid::new_v4().to_string(), body)).await;
    eventually("an order reaches the other one", async || {
        let ask = Replica { job: Uuid::new_v4(), attempt: 1, replica: 0 };
        leader.order(Order::Ask(ask)).await;
        let came = tokio::time::timeout(Duration::from_millis(200), other.deliveries.recv()).await;
        came.map(drop).map_err(|_| stage.worker_log())
    })
    .await;
    drop(other);
    stop.cancel();
    // Nobody refuses it any more: it looks again.
    leader.welcome(&[]).await;
    let job = leader.start(&stage.image, json!({"command": ["true"]})).await;
    assert_eq!(leader.exited(job).await.exit_code, Some(0));
}
