//! What a worker finds after one that died at a bad moment: no container is started twice, and why
//! one was killed is known. The inbox says how far the worker before was, and Docker has what it made.

use std::time::Duration;

use crate::stage::{self, Leader, Stage, eventually};
use berth_common::id::Replica;
use berth_common::message::{FaultKind, Order};
use berth_worker::docker::Stage as Is;
use berth_worker::inbox::Inbox;
use bollard::models::ContainerCreateBody;
use serde_json::json;
use uuid::Uuid;

/// How far a worker was that died with a container made and not seen to run.
#[derive(PartialEq)]
enum Died {
    BeforeTheStart,
    AfterTheStartWasNoted,
    AfterTheFencesKill,
}

/// A leader and a worker that begins where another one died.
async fn after_a_death(died: Died, command: &[&str]) -> (Stage, Leader, Replica) {
    let mut stage = Stage::without_worker(&[]).await;
    let mut leader = Leader::new(&stage.vhost.url(), &stage.device).await;
    let job = Replica { job: Uuid::new_v4(), attempt: 1, replica: 0 };
    let Order::Start(start) = stage::start_order(job, json!({"image": stage.image})) else {
        panic!("a start")
    };
    std::fs::create_dir_all(stage.state_dir()).expect("made");
    let inbox = Inbox::open(&stage.state_dir()).expect("opens");
    inbox.take_welcome(0, 0, leader.instance, Duration::from_secs(240)).await.expect("taken");
    inbox.take_start(0, 0, &start).await.expect("taken");
    if died != Died::BeforeTheStart {
        inbox.launching(job).await.expect("noted");
    }
    if died == Died::AfterTheFencesKill {
        inbox.fencing(job).await.expect("noted");
    }
    drop(inbox);
    let label = ("berth.device".to_owned(), stage.device.clone()); // the stage removes what has it
    let body = ContainerCreateBody {
        image: Some(stage.image.clone()),
        cmd: Some(command.iter().map(ToString::to_string).collect()),
        labels: Some([label].into()),
        ..Default::default()
    };
    let (docker, name) = (stage.docker(), job.container_name());
    docker.create(&name, body).await.expect("made");
    if died == Died::AfterTheFencesKill {
        docker.start(&name).await.expect("starts");
        docker.signal(&name, "SIGKILL").await.expect("killed");
    }
    stage.start_worker();
    leader.hello().await;
    (stage, leader, job)
}

#[tokio::test]
async fn one_that_docker_was_asked_to_start_is_removed_and_told_as_a_fault() {
    let (stage, mut leader, job) = after_a_death(Died::AfterTheStartWasNoted, &["true"]).await;
    let ending = leader.exited(job).await;
    assert_eq!(ending.fault.expect("a fault").kind, FaultKind::Transient);
    assert_eq!(stage.docker().inspect(&job.container_name()).await.expect("answers"), None);
}

#[tokio::test]
async fn one_that_ran_while_its_welcome_was_awaited_is_not_started_again() {
    let (stage, mut leader, job) = after_a_death(Died::BeforeTheStart, &["echo", "ran"]).await;
    let docker = stage.docker();
    docker.start(&job.container_name()).await.expect("starts");
    eventually("it ends", async || match docker.inspect(&job.container_name()).await {
        Ok(Some(container)) if matches!(container.stage, Is::Exited(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    leader.welcome(&[job]).await;
    let ending = leader.exited(job).await;
    assert_eq!((ending.exit_code, ending.fault), (Some(0), None));
    assert_eq!(leader.log(job).await, "ran\n");
}

#[tokio::test]
async fn one_that_the_fence_killed_is_a_fault_after_a_restart_too() {
    let (_stage, mut leader, job) = after_a_death(Died::AfterTheFencesKill, &["sleep", "600"]).await;
    let ending = leader.exited(job).await;
    assert_eq!(ending.exit_code, Some(137));
    assert_eq!(ending.fault.expect("a fault").kind, FaultKind::Transient);
}
