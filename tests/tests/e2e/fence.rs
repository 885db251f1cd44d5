//! A device whose worker is dead or frozen: its containers are gone before their jobs run elsewhere.

use std::process::Command;
use std::time::{Duration, Instant};

use berth_tests::berth::{Berth, SHORT};
use berth_tests::until::until;
use serde_json::{Value, json};

const FENCE_AFTER: Duration = Duration::from_secs(3);
/// The least that the scheduler takes with it.
const LOST_AFTER: Duration = Duration::from_secs(13);
/// Between two looks of the guard, with what Docker needs for a kill on a busy machine.
const GUARD: Duration = Duration::from_secs(5);

/// A Berth that gives up devices soon, with one worker.
async fn with_worker(gpus: &str) -> Berth {
    let mut berth = Berth::impatient(FENCE_AFTER, LOST_AFTER).await;
    berth.add_worker(gpus, &[]).await;
    berth
}

/// Sleeps until the end of the test, deaf to SIGTERM: only a kill ends it.
async fn stubborn(berth: &Berth, disconnect: &str) -> String {
    let command = json!(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]);
    let resources = json!({"gpus": 1, "cpus": 0.25, "memory_mb": 64});
    berth.submit(json!({"command": command, "resources": resources, "disconnect": disconnect})).await
}

/// The containers of a job, or of a device, that are alive.
fn alive(label: &str, value: &str) -> Vec<String> {
    let output = Command::new("docker")
        .args(["ps", "-q", "--no-trunc", "--filter", &format!("label=berth.{label}={value}")])
        .output()
        .expect("docker answers");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Waits until this container is gone, and says how long that took.
async fn gone(container: &str, limit: Duration) -> Duration {
    let began = Instant::now();
    until(limit, "the fence kills it", async || {
        let output =
            Command::new("docker").args(["ps", "-q", "--no-trunc"]).output().expect("docker answers");
        let all = String::from_utf8_lossy(&output.stdout).into_owned();
        if all.lines().any(|id| id == container) { Err("it runs") } else { Ok(()) }
    })
    .await;
    began.elapsed()
}

/// Waits until the second attempt runs. At no look are two containers of the job alive.
async fn runs_again(berth: &Berth, id: &str) -> Value {
    until(LOST_AFTER + SHORT, "it runs again", async || {
        let containers = alive("job", id);
        assert!(containers.len() <= 1, "{containers:?}\n{}", berth.logs());
        let job = berth.job(id).await;
        if job["status"] == "running" && job["attempt"] == 2 { Ok(job) } else { Err((job, berth.logs())) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_workers_job_runs_elsewhere_after_its_container_is_gone() {
    let mut berth = with_worker("1xT4").await;
    let id = stubborn(&berth, "requeue").await;
    berth.job_is(&id, "running", SHORT).await;
    let first = alive("job", &id).pop().expect("it runs");
    let second = berth.add_worker("1xT4", &[]).await;
    berth.workers[0].process.kill();
    gone(&first, FENCE_AFTER + GUARD).await;
    assert_eq!(berth.job(&id).await["attempt"], 1, "before it is placed again");
    let job = runs_again(&berth, &id).await;
    assert_eq!(job["device"], second.as_str(), "{job:#}");
    berth.restart_worker(0);
    berth.device_up(&berth.workers[0].device).await;
    assert_eq!(alive("job", &id).len(), 1, "the second attempt goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_worker_that_wakes_after_its_device_was_lost_starts_nothing() {
    let mut berth = with_worker("2xT4").await;
    let running = stubborn(&berth, "requeue").await;
    berth.job_is(&running, "running", SHORT).await;
    let first = alive("job", &running).pop().expect("it runs");
    berth.workers[0].process.signal("STOP");
    // Placed there, since nobody has missed it yet: the order lies in its queue when it wakes.
    let waiting = stubborn(&berth, "requeue").await;
    berth.job_is(&waiting, "scheduled", SHORT).await;
    gone(&first, FENCE_AFTER + GUARD).await;
    berth.add_worker("2xT4", &[]).await;
    runs_again(&berth, &running).await;
    runs_again(&berth, &waiting).await;
    berth.workers[0].process.signal("CONT");
    let device = berth.workers[0].device.clone();
    until(SHORT, "it is welcomed anew, and starts nothing meanwhile", async || {
        let containers = alive("device", &device);
        assert!(containers.is_empty(), "{containers:?}\n{}", berth.logs());
        let (_, body) = berth.get(&format!("/v1/devices/{device}")).await;
        if body["state"] == "up" { Ok(()) } else { Err((body, berth.logs())) }
    })
    .await;
    assert!(berth.workers[0].process.output().contains("the session is over"), "{}", berth.logs());
    // What is placed there now runs: the worker has obeyed whatever came before.
    let next = stubborn(&berth, "requeue").await;
    let job = berth.job_is(&next, "running", SHORT).await;
    assert_eq!(job["device"], device.as_str(), "{job:#}");
    assert_eq!(alive("device", &device).len(), 1);
    for id in [&running, &waiting] {
        let job = berth.job(id).await;
        assert_eq!((&job["status"], &job["attempt"]), (&json!("running"), &json!(2)), "{job:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_keeps_its_device_outlives_the_fence() {
    let mut berth = with_worker("2xT4").await;
    let keeps = stubborn(&berth, "keep").await;
    let goes = stubborn(&berth, "requeue").await;
    berth.job_is(&keeps, "running", SHORT).await;
    berth.job_is(&goes, "running", SHORT).await;
    let kept = alive("job", &keeps);
    let killed = alive("job", &goes).pop().expect("it runs");
    berth.workers[0].process.kill();
    gone(&killed, FENCE_AFTER + GUARD).await;
    until(LOST_AFTER + SHORT, "the device is lost", async || {
        let (_, body) = berth.get(&format!("/v1/devices/{}", berth.workers[0].device)).await;
        if body["state"] == "lost" { Ok(()) } else { Err((body, berth.logs())) }
    })
    .await;
    berth.restart_worker(0);
    berth.device_up(&berth.workers[0].device).await;
    assert_eq!(alive("job", &keeps), kept, "the same container");
    let job = berth.job(&keeps).await;
    assert_eq!((&job["status"], &job["attempt"]), (&json!("running"), &json!(1)), "{job:#}");
    runs_again(&berth, &goes).await;
    assert_eq!(alive("job", &keeps), kept);
}
