//! Containers that do not behave.

use std::time::Duration;

use berth_tests::berth::{Berth, SHORT};
use berth_tests::until::until;
use reqwest::StatusCode;
use serde_json::json;

use crate::registry::EmptyRegistry;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_does_not_exist_ends_in_error_with_dockers_words() {
    let berth = Berth::with_worker("1xT4").await;
    let registry = EmptyRegistry::open().await;
    let image = format!("127.0.0.1:{}/x:1", registry.port);
    let id = berth.submit(json!({"image": image, "resources": {"gpus": 1, "memory_mb": 64}})).await;
    let job = berth.job_ends(&id, "error", SHORT).await;
    assert_eq!(job["attempt"], 1, "no second try finds it: {job:#}");
    let said = job["error"].as_str().unwrap_or_default();
    assert!(said.contains("manifest unknown") || said.contains("not found"), "{job:#}");
    let (_, device) = berth.get(&format!("/v1/devices/{}", berth.workers[0].device)).await;
    assert_eq!(device["gpus"][0]["job"], json!(null), "its GPU is free again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_does_not_exist_fails_as_docker_run_does() {
    let berth = Berth::with_worker("1xT4").await;
    let id = berth.submit(json!({"command": ["/no/such/program"], "resources": {"memory_mb": 64}})).await;
    let job = berth.job_ends(&id, "failed", SHORT).await;
    assert_eq!(job["exit_code"], 127, "{job:#}");
    let (_, log) = berth.get(&format!("/v1/jobs/{id}/logs")).await;
    assert!(log.as_str().is_some_and(|l| l.contains("/no/such/program")), "{log:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exit_code_of_a_container_that_ends_at_once_is_told() {
    let berth = Berth::with_worker("1xT4").await;
    let id = berth.submit_script("echo last words; exit 42", 0).await;
    let job = berth.job_ends(&id, "failed", SHORT).await;
    assert_eq!(job["exit_code"], 42);
    let (_, log) = berth.get(&format!("/v1/jobs/{id}/logs")).await;
    assert_eq!(log.as_str(), Some("last words\n"), "not lost, however fast it ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn out_of_memory_is_told() {
    let berth = Berth::with_worker("1xT4").await;
    let id = berth
        .submit(json!({"command": ["tail", "/dev/zero"], "resources": {"memory_mb": 16, "cpus": 0.5}}))
        .await;
    let job = berth.job_ends(&id, "failed", SHORT).await;
    assert_eq!((&job["attempts"][0]["oom"], &job["exit_code"]), (&json!(true), &json!(137)), "{job:#}");
    assert!(job["error"].as_str().is_some_and(|e| e.contains("memory")), "{job:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_output_is_cut_and_hurts_nobody() {
    let mut berth = Berth::start().await;
    berth.add_worker("1xT4", &[("BERTH_LOG_LIMIT_MB", "2".into())]).await;
    let line = "x".repeat(99);
    let script = format!("yes {line} | head -c 100000000; echo the end");
    let id = berth.submit_script(&script, 0).await;
    berth.job_ends(&id, "succeeded", Duration::from_secs(180)).await;
    // The end of a job is told after ten seconds at the latest; what Docker still has of its log follows.
    until(SHORT, "the last line is there", async || {
        let (_, log) = berth.get(&format!("/v1/jobs/{id}/logs")).await;
        let log = log.as_str().unwrap_or_default().to_owned();
        if log.ends_with("the end\n") { Ok(()) } else { Err(log[log.len().saturating_sub(200)..].to_owned()) }
    })
    .await;
    // Whoever reads while it is written may read what is cut behind them, too; now nothing is written any more.
    let (_, log) = berth.get(&format!("/v1/jobs/{id}/logs")).await;
    let log = log.as_str().unwrap_or_default().to_owned();
    assert!(log.len() <= 3_000_000, "{} bytes", log.len());
    assert!(log.contains("of log cut"), "{}", &log[..200]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_ignores_sigterm_is_killed_after_its_grace() {
    let berth = Berth::with_worker("1xT4").await;
    let id = berth.submit_script("trap '' TERM; echo ready; while :; do sleep 1; done", 1).await;
    berth.job_is(&id, "running", SHORT).await;
    let body = json!({"command": "kill", "grace_s": 1, "reason": "enough"});
    let (status, command) = berth.post(&format!("/v1/jobs/{id}/commands"), body).await;
    assert_eq!((status, &command["status"]), (StatusCode::ACCEPTED, &json!("pending")), "{command:#}");
    berth.job_ends(&id, "killed", SHORT).await;
    let id = command["id"].as_str().expect("an id");
    let (_, command) = berth.get(&format!("/v1/commands/{id}")).await;
    assert_eq!((&command["status"], &command["reason"]), (&json!("done"), &json!("enough")), "{command:#}");
}
