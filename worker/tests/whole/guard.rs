//! The guard: what happens to containers whose worker is dead or frozen, and to the guard itself.

use std::process::{Child, Command};
use std::time::Duration;

use crate::exchange::ended;
use crate::stage::{LIMIT, Stage, eventually};
use berth_common::message::{FaultKind, HeldState};
use berth_worker::docker::Stage::Running;
use berth_worker::lock;
use serde_json::json;

/// Seconds; heartbeats come three times as often.
const FENCE_AFTER_S: u64 = 3;

/// A process that goes with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status();
    assert!(sent.expect("kill runs").success(), "{name} to {pid}");
}

/// The guard of this stage's worker, as the system lists it.
fn guard_pid(stage: &Stage) -> Option<u32> {
    let listed = Command::new("pgrep").args(["-f", &stage.state_dir().display().to_string()]).output();
    let text = String::from_utf8_lossy(&listed.expect("pgrep runs").stdout).into_owned();
    let is_guard = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "berth-guard")
    };
    text.lines().filter_map(|line| line.parse().ok()).find(is_guard)
}

async fn guarded(stage: &Stage) -> u32 {
    eventually("a guard is there", async || guard_pid(stage).ok_or_else(|| stage.worker_log())).await
}

async fn unguarded(stage: &Stage) {
    eventually("the guard has left", async || match lock::is_free(&stage.state_dir().join(lock::GUARD)) {
        Ok(true) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn a_dead_workers_containers_are_killed_and_the_next_one_tells_why() {
    let (mut stage, mut leader) = Stage::new(&[]).await;
    leader.welcome_with(&[], FENCE_AFTER_S).await;
    let goes = leader.start(&stage.image, json!({"command": ["sleep", "600"]})).await;
    let stays = leader.start(&stage.image, json!({"command": ["sleep", "600"], "disconnect": "keep"})).await;
    leader.started(goes).await;
    let docker_id = leader.started(stays).await.docker_id;
    guarded(&stage).await;
    stage.kill_worker();
    ended(&stage, goes).await;
    let note = stage.state_dir().join("fenced").join(goes.container_name());
    assert!(note.exists(), "why it was killed is noted");
    unguarded(&stage).await;
    let container = stage.docker().inspect(&stays.container_name()).await.expect("answers").expect("there");
    assert!(matches!(container.stage, Running { .. }), "{container:?}");
    stage.start_worker();
    leader.hello().await;
    let ending = leader.exited(goes).await;
    assert_eq!(ending.exit_code, Some(137));
    assert_eq!(ending.fault.expect("a fault").kind, FaultKind::Transient);
    leader.welcome(&[stays]).await;
    assert_eq!(leader.started(stays).await.docker_id, docker_id, "the same container");
    eventually("the note goes with the container", async || {
        if note.exists() { Err("it is there") } else { Ok(()) }.map_err(str::to_owned)
    })
    .await;
}

#[tokio::test]
async fn a_frozen_workers_containers_are_killed_and_it_starts_nothing_when_it_wakes() {
    let (stage, mut leader) = Stage::new(&[]).await;
    leader.welcome_with(&[], FENCE_AFTER_S).await;
    let goes = leader.start(&stage.image, json!({"command": ["sleep", "600"]})).await;
    leader.started(goes).await;
    guarded(&stage).await;
    let before = leader.boot;
    signal(stage.worker_pid(), "STOP");
    let stopped = std::time::Instant::now();
    // In the session that the worker still believes in: it lies in its queue when it wakes.
    let late = leader.start(&stage.image, json!({"command": ["sh", "-c", "echo ran > /data/ran"]})).await;
    ended(&stage, goes).await;
    // The guard goes by the file. A confirm that reached the worker's socket just before it froze counts for
    // the worker when it wakes, and so does the session for as long: until then there is nothing to see.
    eventually("no confirm from before can count any more", async || {
        let frozen = stopped.elapsed();
        if frozen > Duration::from_secs(FENCE_AFTER_S + 1) { Ok(()) } else { Err(format!("{frozen:?}")) }
    })
    .await;
    signal(stage.worker_pid(), "CONT");
    leader.hello().await;
    assert_ne!(leader.boot, before, "a welcome from before would not be taken");
    assert_eq!(leader.exited(goes).await.fault.expect("a fault").kind, FaultKind::Transient);
    leader.welcome(&[]).await;
    leader.lists(&[]).await;
    assert_eq!(stage.docker().inspect(&late.container_name()).await.expect("answers"), None);
    assert!(!stage.state_dir().join("data/ann/ran").exists());
}

#[tokio::test]
async fn a_guard_is_always_there_and_leaves_after_its_worker() {
    let (mut stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    let first = guarded(&stage).await;
    signal(first, "KILL");
    eventually("another one is started", async || match guard_pid(&stage) {
        Some(pid) if pid != first => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let job = leader.start(&stage.image, json!({"command": ["sleep", "600"]})).await;
    leader.lists(&[(job, HeldState::Running)]).await;
    leader.stop(job, Duration::ZERO).await;
    leader.exited(job).await;
    leader.lists(&[]).await;
    assert!(stage.terminate_worker().await, "exit code 0");
    let asked = std::time::Instant::now();
    unguarded(&stage).await;
    assert!(asked.elapsed() < LIMIT / 6, "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_guard_of_its_own_unit_stays_and_a_second_one_waits_for_its_end() {
    let (mut stage, mut leader) = Stage::new(&["--guard", "external"]).await;
    leader.welcome_with(&[], FENCE_AFTER_S).await;
    eventually("its absence is told", async || {
        let log = stage.worker_log();
        if log.contains("no guard") { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(guard_pid(&stage), None);
    let guard = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth-worker"));
        command.arg("guard").arg("--state-dir").arg(stage.state_dir());
        Killed(command.spawn().expect("the worker's binary runs"))
    };
    let mut unit = guard();
    guarded(&stage).await;
    let mut second = guard();
    let job = leader.start(&stage.image, json!({"command": ["sleep", "600"]})).await;
    leader.started(job).await;
    stage.kill_worker();
    ended(&stage, job).await;
    assert_eq!(unit.0.try_wait().expect("looked"), None, "it stays");
    drop(unit);
    eventually("the second one guards", async || {
        let free = berth_worker::lock::is_free(&stage.state_dir().join(berth_worker::lock::GUARD));
        if free.expect("readable") { Err("nobody holds the lock".into()) } else { Ok(()) }
    })
    .await;
    assert_eq!(second.0.try_wait().expect("looked"), None);
}
