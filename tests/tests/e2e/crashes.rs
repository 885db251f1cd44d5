//! `kill -9` in the middle of a job: the job goes on.

use berth_tests::berth::{Berth, SHORT};
use berth_tests::until::until;

/// Runs until the file is there that the test makes.
const UNTIL_TOLD: &str = "echo begun; while [ ! -e /data/go ]; do sleep 0.1; done; echo over";

fn tell(berth: &Berth) {
    let data = berth.folder.join(&berth.workers[0].device).join("data/admin");
    std::fs::write(data.join("go"), "").expect("the job's data folder");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_comes_back_finds_its_container_and_goes_on() {
    let mut berth = Berth::with_worker("1xT4").await;
    let id = berth.submit_script(UNTIL_TOLD, 1).await;
    berth.job_is(&id, "running", SHORT).await;
    let before = container_ids(&id);
    berth.workers[0].process.kill();
    berth.restart_worker(0);
    berth.device_up(&berth.workers[0].device).await;
    assert_eq!(container_ids(&id), before, "the same container");
    tell(&berth);
    let job = berth.job_ends(&id, "succeeded", SHORT).await;
    assert_eq!(job["attempt"], 1, "{job:#}");
    let (_, log) = berth.get(&format!("/v1/jobs/{id}/logs")).await;
    assert_eq!(log.as_str(), Some("begun\nover\n"), "nothing lost, nothing doubled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_ends_while_its_worker_is_dead_is_told_afterwards() {
    let mut berth = Berth::with_worker("1xT4").await;
    let id = berth.submit_script(UNTIL_TOLD, 1).await;
    berth.job_is(&id, "running", SHORT).await;
    berth.workers[0].process.kill();
    tell(&berth);
    until(SHORT, "the container has ended", async || {
        let output = std::process::Command::new("docker")
            .args(["ps", "-q", "--filter", &format!("label=berth.job={id}")])
            .output()
            .expect("docker answers");
        if output.stdout.is_empty() { Ok(()) } else { Err("it runs") }
    })
    .await;
    berth.restart_worker(0);
    let job = berth.job_ends(&id, "succeeded", SHORT).await;
    assert_eq!(job["attempt"], 1, "{job:#}");
    let (_, log) = berth.get(&format!("/v1/jobs/{id}/logs")).await;
    assert_eq!(log.as_str(), Some("begun\nover\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_that_comes_back_goes_on_with_what_runs_and_what_waits() {
    let mut berth = Berth::with_worker("1xT4").await;
    let running = berth.submit_script(UNTIL_TOLD, 1).await;
    let waiting = berth.submit_script("true", 1).await;
    berth.job_is(&running, "running", SHORT).await;
    berth.schedulers[0].kill();
    tell(&berth);
    berth.schedulers.clear();
    berth.start_scheduler();
    berth.ready().await;
    let job = berth.job_ends(&running, "succeeded", SHORT).await;
    assert_eq!(job["attempt"], 1, "{job:#}");
    berth.job_ends(&waiting, "succeeded", SHORT).await;
}

fn container_ids(job: &str) -> String {
    let output = std::process::Command::new("docker")
        .args(["ps", "-q", "--no-trunc", "--filter", &format!("label=berth.job={job}")])
        .output()
        .expect("docker answers");
    let ids = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(ids.lines().count(), 1, "one container runs: {ids:?}");
    ids
}
