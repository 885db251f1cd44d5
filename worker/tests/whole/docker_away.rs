//! Docker is away for a while: nothing is claimed, nothing is lost, and what it took with it is no
//! job's own end.

use std::time::Duration;

use crate::exchange::{COUNT, counted, ended};
use crate::stage::{Far, Leader, Stage, Wire};
use berth_common::message::{Event, FaultKind, HeldState};
use serde_json::json;

/// Like `exchange::WAIT`, and then ends later than anything that Docker itself could have ended.
const WAIT_LONG: &str = "until [ -e /data/go ]; do sleep 0.1; done; sleep 20; echo done; exit 5";

#[tokio::test]
async fn while_docker_is_away_nothing_is_claimed_and_nothing_is_lost() {
    let mut stage = Stage::without_worker(&[]).await;
    let mut leader = Leader::new(&stage.vhost.url(), &stage.device).await;
    let wire = Wire::to(Far::docker()).await;
    stage.docker_by(&wire);
    stage.start_worker();
    leader.hello().await;
    leader.welcome(&[]).await;
    let count = leader.start(&stage.image, json!({"command": ["sh", "-c", COUNT]})).await;
    let short = leader.start(&stage.image, json!({"command": ["sh", "-c", WAIT_LONG]})).await;
    let docker_id = leader.started(count).await.docker_id;
    leader.started(short).await;
    wire.cut();
    leader
        .until("a heartbeat that claims nothing", |told| match &told.event {
            Event::Heartbeat(beat) => beat.attempts.is_none().then_some(()),
            Event::Started(_) | Event::Exited(_) | Event::Answer(_) | Event::Executed(_) => None,
        })
        .await;
    let later = leader.start(&stage.image, json!({"command": ["true"]})).await;
    std::fs::write(stage.state_dir().join("data/ann/go"), "").expect("written");
    ended(&stage, short).await;
    wire.mend();
    let ending = leader.exited(short).await;
    assert_eq!((ending.exit_code, ending.fault), (Some(5), None));
    assert_eq!(leader.exited(later).await.exit_code, Some(0));
    leader.lists(&[(count, HeldState::Running)]).await;
    leader.stop(count, Duration::ZERO).await;
    leader.exited(count).await;
    assert!(!docker_id.is_empty());
    counted(&leader.log(count).await);
}

#[tokio::test]
async fn what_ends_when_docker_goes_is_no_end_of_its_own() {
    let mut stage = Stage::without_worker(&[]).await;
    let mut leader = Leader::new(&stage.vhost.url(), &stage.device).await;
    let wire = Wire::to(Far::docker()).await;
    stage.docker_by(&wire);
    stage.start_worker();
    leader.hello().await;
    leader.welcome(&[]).await;
    let checkpoint = "until [ -e /data/go ]; do sleep 0.1; done; exit 0";
    let job = leader.start(&stage.image, json!({"command": ["sh", "-c", checkpoint]})).await;
    leader.started(job).await;
    wire.cut();
    std::fs::write(stage.state_dir().join("data/ann/go"), "").expect("written");
    ended(&stage, job).await;
    wire.mend();
    let fault = leader.exited(job).await.fault.map(|fault| fault.kind);
    let live_restore = stage.docker().engine().await.expect("answers").live_restore;
    assert_eq!(fault, (!live_restore).then_some(FaultKind::Transient));
}
