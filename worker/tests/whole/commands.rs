//! Commands in running containers: at most once each, whatever happens to their messages or the worker.

use crate::stage::{Leader, Stage, eventually};
use berth_common::command::{CommandStatus, MAX_OUTPUT};
use berth_common::id::Replica;
use serde_json::json;
use uuid::Uuid;

const LONG: u64 = 60;

async fn running() -> (Stage, Leader, Replica) {
    let (stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    let spec = json!({"command": ["sleep", "600"], "env": {"LR": "0.1"}, "workdir": "/tmp"});
    let job = leader.start(&stage.image, spec).await;
    leader.started(job).await;
    (stage, leader, job)
}

/// What the commands of a test have written into the user's folder.
fn written(stage: &Stage, file: &str) -> String {
    std::fs::read_to_string(stage.state_dir().join("data/ann").join(file)).unwrap_or_default()
}

#[tokio::test]
async fn an_argument_list_runs_in_the_container_and_its_end_is_told() {
    let (_stage, mut leader, job) = running().await;
    let script = "echo out $LR $PWD; echo \"$1\" >&2; exit 3";
    let told = leader.exec(job, &["sh", "-c", script, "x", "a; b"], LONG).await;
    let told = leader.executed(told).await;
    assert_eq!((told.status, told.exit_code, told.truncated), (CommandStatus::Done, Some(3), false));
    let mut lines: Vec<_> = told.output.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["a; b", "out 0.1 /tmp"]);
    // No shell reads it.
    let plain = leader.exec(job, &["echo", "$LR; ls > /x"], LONG).await;
    assert_eq!(leader.executed(plain).await.output, "$LR; ls > /x\n");
}

#[tokio::test]
async fn what_cannot_run_says_why() {
    let (stage, mut leader, job) = running().await;
    let missing = leader.exec(job, &["/no/such/program"], LONG).await;
    let missing = leader.executed(missing).await;
    assert!(missing.output.contains("no such file") || missing.output.contains("not found"), "{missing:?}");
    assert!(missing.status == CommandStatus::Failed || missing.exit_code > Some(125), "{missing:?}");
    let nowhere = Replica { job: Uuid::new_v4(), attempt: 1, replica: 0 };
    let nowhere = leader.exec(nowhere, &["true"], LONG).await;
    let nowhere = leader.executed(nowhere).await;
    assert_eq!((nowhere.status, nowhere.exit_code), (CommandStatus::Failed, None));
    assert!(nowhere.output.contains("No such container"), "{nowhere:?}");
    let quick = leader.start(&stage.image, json!({"command": ["true"]})).await;
    leader.exited(quick).await;
    let over = leader.exec(quick, &["true"], LONG).await;
    assert_eq!(leader.executed(over).await.status, CommandStatus::Failed);
}

#[tokio::test]
async fn a_command_that_comes_again_is_told_again_and_not_run_again() {
    let (stage, mut leader, job) = running().await;
    let command = leader.exec(job, &["sh", "-c", "echo ran >> /data/ran; echo done"], LONG).await;
    let first = leader.executed(command).await;
    leader.exec_as(command, job, &["sh", "-c", "echo ran >> /data/ran"], LONG).await;
    assert_eq!(leader.executed(command).await, first);
    assert_eq!(written(&stage, "ran"), "ran\n");
}

#[tokio::test]
async fn one_that_takes_too_long_is_told_with_what_it_wrote_and_the_next_one_follows() {
    let (_stage, mut leader, job) = running().await;
    let slow = leader.exec(job, &["sh", "-c", "echo begun; exec sleep 543"], 2).await;
    let quick = leader.exec(job, &["true"], LONG).await;
    let slow = leader.executed(slow).await;
    assert_eq!(leader.executed(quick).await.exit_code, Some(0), "after the slow one, in their order");
    assert_eq!((slow.status, slow.exit_code), (CommandStatus::Failed, None));
    assert!(slow.output.starts_with("begun\n") && slow.output.contains("2 s"), "{slow:?}");
    if slow.output.contains("killed") {
        let left = leader.exec(job, &["ps"], LONG).await;
        let left = leader.executed(left).await.output;
        assert!(left.contains("sleep 600") && !left.contains("sleep 543"), "{left}");
    }
}

#[tokio::test]
async fn a_flood_of_output_is_cut() {
    let (_stage, mut leader, job) = running().await;
    let flood = leader.exec(job, &["sh", "-c", "yes | head -c 10000000; echo last"], LONG).await;
    let flood = leader.executed(flood).await;
    assert_eq!((flood.status, flood.exit_code, flood.truncated), (CommandStatus::Done, Some(0), true));
    assert_eq!(flood.output.len(), MAX_OUTPUT);
}

#[tokio::test]
async fn one_that_ran_when_the_worker_died_is_unknown_and_is_not_run_again() {
    let (mut stage, mut leader, job) = running().await;
    let script = ["sh", "-c", "echo ran >> /data/ran; sleep 1000"];
    let command = leader.exec(job, &script, LONG).await;
    eventually(
        "it runs",
        async || {
            if written(&stage, "ran").is_empty() { Err("not yet".to_owned()) } else { Ok(()) }
        },
    )
    .await;
    stage.kill_worker();
    stage.start_worker();
    leader.hello().await;
    assert_eq!(leader.executed(command).await.status, CommandStatus::Unknown);
    leader.welcome(&[job]).await;
    leader.exec_as(command, job, &script, LONG).await;
    assert_eq!(leader.executed(command).await.status, CommandStatus::Unknown);
    assert_eq!(written(&stage, "ran"), "ran\n");
}
