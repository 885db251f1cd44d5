//! The exchange with the leader when things go wrong: crashes, repeated and late messages, other
//! installations, a broker that is cut off.

use std::time::Duration;

use crate::stage::{self, Far, Leader, Stage, Wire, eventually};
use berth_common::broker::{Message, topology};
use berth_common::id::Replica;
use berth_common::message::{
    DeviceRpc, Event, FaultKind, HeldState, LogQuery, Order, TO_DEVICE, ToDevice, Welcome, WhatBecame,
};
use berth_worker::docker::Stage::{Exited as Ended, Running};
use serde_json::json;
use uuid::Uuid;

fn somebody() -> Replica {
    Replica { job: Uuid::new_v4(), attempt: 1, replica: 0 }
}

/// Ends when the user's folder has a file `go`.
const WAIT: &str = "until [ -e /data/go ]; do sleep 0.1; done; echo done; exit 5";

pub const COUNT: &str = "i=0; while [ $i -lt 100000 ]; do echo line $i; i=$((i+1)); sleep 0.01; done";

#[tokio::test]
async fn a_killed_worker_adopts_its_containers_and_their_logs() {
    let (mut stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    let count = leader.start(&stage.image, json!({"command": ["sh", "-c", COUNT]})).await;
    let short = leader.start(&stage.image, json!({"command": ["sh", "-c", WAIT]})).await;
    leader.started(short).await;
    let docker_id = leader.started(count).await.docker_id;
    stage.kill_worker();
    // `short` ends while nobody looks.
    std::fs::write(stage.state_dir().join("data/ann/go"), "").expect("written");
    ended(&stage, short).await;
    stage.start_worker();
    leader.hello().await;
    let ending = leader.exited(short).await;
    assert_eq!((ending.exit_code, ending.signalled, ending.fault), (Some(5), false, None));
    leader.welcome(&[count]).await;
    assert_eq!(leader.started(count).await.docker_id, docker_id, "the same container");
    leader.lists(&[(count, HeldState::Running)]).await;
    leader.stop(count, Duration::ZERO).await;
    assert!(leader.exited(count).await.signalled);
    counted(&leader.log(count).await);
    assert_eq!(leader.log(short).await, "done\n");
}

/// Waits until Docker itself shows that it has ended.
pub async fn ended(stage: &Stage, replica: Replica) {
    let docker = stage.docker();
    eventually("it ends", async || match docker.inspect(&replica.container_name()).await {
        Ok(Some(c)) if matches!(c.stage, Ended(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// No line of [`COUNT`] is missing or doubled.
pub fn counted(log: &str) {
    let lines: Vec<_> = log.lines().collect();
    assert!(lines.len() > 10, "{}", lines.len());
    let wanted: Vec<_> = (0..lines.len()).map(|n| format!("line {n}")).collect();
    assert_eq!(lines, wanted);
}

#[tokio::test]
async fn a_repeated_start_runs_once() {
    let (stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    let spec = json!({"image": stage.image, "command": ["sh", "-c", "echo ran >> /data/ran"]});
    let job = somebody();
    let sent = leader.order(stage::start_order(job, spec.clone())).await;
    leader.send(&sent).await;
    leader.exited(job).await;
    leader.send(&sent).await;
    // Under a new number, as a leader would that has lost its memory: it hears how it ended.
    leader.order(stage::start_order(job, spec)).await;
    match leader.answered(job).await {
        WhatBecame::Ended { ending } => assert_eq!(ending.exit_code, Some(0)),
        other => panic!("{other:?}"),
    }
    leader.lists(&[]).await;
    assert_eq!(std::fs::read_to_string(stage.state_dir().join("data/ann/ran")).expect("written"), "ran\n");
    assert!(leader.unasked().iter().all(|told| !format!("{told:?}").contains("Exited")), "reported once");
}

#[tokio::test]
async fn what_was_never_taken_is_told_and_what_nobody_expects_is_stopped() {
    let (stage, mut leader) = Stage::new(&[]).await;
    let lost = somebody();
    leader.welcome(&[lost]).await;
    assert_eq!(leader.answered(lost).await, WhatBecame::NeverTaken);
    let job = leader.start(&stage.image, json!({"command": ["sleep", "600"]})).await;
    leader.started(job).await;
    let other = somebody();
    leader.order(Order::Ask(other)).await;
    assert_eq!(leader.answered(other).await, WhatBecame::NeverTaken);
    leader.order(Order::Ask(job)).await;
    assert_eq!(leader.answered(job).await, WhatBecame::Live { state: HeldState::Running });
    leader.stop(other, Duration::ZERO).await;
    assert_eq!(leader.answered(other).await, WhatBecame::NeverTaken);
    leader.welcome(&[]).await;
    let ending = leader.exited(job).await;
    assert!(ending.signalled, "{ending:?}");
}

#[tokio::test]
async fn orders_of_another_session_and_unreadable_ones_do_nothing() {
    let (stage, mut leader) = Stage::new(&[]).await;
    let (early, late) = (somebody(), somebody());
    let spec = json!({"image": stage.image});
    // Before any welcome there is no session.
    leader.send(&ToDevice { session: 0, id: 1, order: stage::start_order(early, spec.clone()) }).await;
    leader.welcome(&[]).await;
    let rubbish = Message::new(topology::DEVICES, &stage.device, TO_DEVICE, "rubbish", b"{hunter2".to_vec());
    leader.publish(rubbish).await;
    leader.send(&ToDevice { session: 99, id: 9999, order: stage::start_order(late, spec) }).await;
    let foreign =
        Welcome { boot: leader.boot, instance: Uuid::new_v4(), expected: Vec::new(), fence_after_s: 9 };
    leader.send(&ToDevice { session: 50, id: 500, order: Order::Welcome(foreign) }).await;
    for job in [early, late] {
        leader.order(Order::Ask(job)).await;
        assert_eq!(leader.answered(job).await, WhatBecame::NeverTaken);
    }
    let log = stage.worker_log();
    assert!(log.contains("berth-worker adopt"), "the log says what to do");
    assert!(log.contains("rubbish") && !log.contains("hunter2"), "a body can hold a password: {log}");
    let query = LogQuery { replica: late, stream: None, tail: None, since: None, cursor: None, wait_ms: 0 };
    assert_eq!(leader.ask(&DeviceRpc::Logs(query)).await.status, 404);
}

#[tokio::test]
async fn a_start_that_was_taken_goes_on_only_when_it_is_still_expected() {
    let mut stage = Stage::without_worker(&[]).await;
    let mut leader = Leader::new(&stage.vhost.url(), &stage.device).await;
    let docker = Wire::to(Far::docker()).await;
    stage.docker_by(&docker);
    stage.start_worker();
    leader.hello().await;
    leader.welcome(&[]).await;
    let spec = json!({"command": ["sleep", "600"]});
    // It dies with these taken, before it has asked Docker for anything.
    docker.cut();
    let wanted = leader.start(&stage.image, spec.clone()).await;
    let unwanted = leader.start(&stage.image, spec).await;
    eventually("both are taken", async || {
        let log = stage.worker_log();
        let taken =
            |job: Replica| log.lines().any(|l| l.contains("taken") && l.contains(&job.job.to_string()));
        if taken(wanted) && taken(unwanted) { Ok(()) } else { Err(log) }
    })
    .await;
    stage.kill_worker();
    docker.mend();
    stage.start_worker();
    leader.hello().await;
    leader.welcome(&[wanted]).await;
    assert!(leader.exited(unwanted).await.signalled);
    leader.lists(&[(wanted, HeldState::Running)]).await;
    leader.stop(wanted, Duration::ZERO).await;
    leader.exited(wanted).await;
}

#[tokio::test]
async fn a_terminated_worker_leaves_its_containers_running() {
    let (mut stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    let job = leader.start(&stage.image, json!({"command": ["sleep", "600"]})).await;
    let docker_id = leader.started(job).await.docker_id;
    assert!(stage.terminate_worker().await, "exit code 0");
    let container = stage.docker().inspect(&job.container_name()).await.expect("answers").expect("there");
    assert!(matches!(container.stage, Running { .. }), "{container:?}");
    let instance = std::fs::read_to_string(stage.state_dir().join("instance")).expect("written");
    assert_eq!(instance, leader.instance.to_string());
    stage.start_worker();
    leader.hello().await;
    leader.welcome(&[job]).await;
    assert_eq!(leader.started(job).await.docker_id, docker_id);
}

#[tokio::test]
async fn without_the_broker_the_session_ends_and_only_what_may_stay_stays() {
    let mut stage = Stage::without_worker(&[]).await;
    let mut leader = Leader::new(&stage.vhost.url(), &stage.device).await;
    let wire = Wire::to(Far::Tcp(stage.vhost.address())).await;
    stage.start_worker_at(&stage.vhost.url_at(Some(wire.port)));
    leader.hello().await;
    leader.welcome_with(&[], 7).await;
    let goes = leader.start(&stage.image, json!({"command": ["sleep", "600"]})).await;
    let stays = leader.start(&stage.image, json!({"command": ["sleep", "600"], "disconnect": "keep"})).await;
    leader.started(goes).await;
    leader.started(stays).await;
    let before = leader.boot;
    wire.cut();
    let docker = stage.docker();
    ended(&stage, goes).await; // it will run elsewhere
    let container = docker.inspect(&stays.container_name()).await.expect("answers").expect("there");
    assert!(matches!(container.stage, Running { .. }), "{container:?}");
    wire.mend();
    let ending = leader.exited(goes).await;
    assert_eq!(ending.fault.expect("a fault").kind, FaultKind::Transient);
    leader
        .until("a hello under a new boot: a welcome from before would not be taken", |told| {
            match &told.event {
                Event::Heartbeat(beat) => (beat.session.is_none() && told.boot != before).then_some(()),
                Event::Started(_) | Event::Exited(_) | Event::Answer(_) | Event::Executed(_) => None,
            }
        })
        .await;
    leader.welcome(&[stays]).await;
    leader.lists(&[(stays, HeldState::Running)]).await;
}

#[tokio::test]
async fn a_container_whose_memory_was_lost_is_removed_before_anything_is_said() {
    let (mut stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    let asked = leader.start(&stage.image, json!({"command": ["sleep", "600"]})).await;
    let forgotten = leader.start(&stage.image, json!({"command": ["sleep", "600"]})).await;
    leader.started(asked).await;
    leader.started(forgotten).await;
    stage.kill_worker();
    for file in ["inbox.sqlite", "inbox.sqlite-wal"] {
        let _ = std::fs::remove_file(stage.state_dir().join(file));
    }
    stage.start_worker();
    leader.hello().await;
    leader.welcome(&[asked]).await;
    assert_eq!(leader.answered(asked).await, WhatBecame::Unknown);
    let docker = stage.docker();
    assert_eq!(docker.inspect(&asked.container_name()).await.expect("answers"), None);
    eventually("the other one goes too", async || match docker.inspect(&forgotten.container_name()).await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn a_second_worker_is_refused_and_adopting_waits_for_the_first_to_end() {
    let (mut stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    let second = |stage: &Stage, arguments: &[&str]| {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_berth-worker"))
            .args(arguments)
            .args(["--device", &stage.device, "--amqp-url", &stage.vhost.url(), "--state-dir"])
            .arg(stage.state_dir())
            .output()
            .expect("the worker's binary runs");
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    for arguments in [&[][..], &["adopt"][..]] {
        let (fine, told) = second(&stage, arguments);
        assert!(!fine && told.contains("--state-dir"), "{told}");
    }
    assert!(stage.terminate_worker().await);
    let (fine, told) = second(&stage, &["adopt"]);
    assert!(fine, "{told}");
    leader.instance = Uuid::new_v4();
    stage.start_worker();
    leader.hello().await;
    leader.welcome(&[]).await;
}
