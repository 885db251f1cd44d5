//! A job's way through the whole system, when nothing goes wrong.

use std::time::Duration;

use berth_tests::berth::{Berth, SHORT};
use berth_tests::until::until;
use reqwest::StatusCode;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_with_what_it_asked_for_and_leaves_its_log_and_files() {
    let berth = Berth::with_worker("2xT4").await;
    let script = "echo out; echo err >&2; env; echo kept > /data/kept; \
        cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; \
        cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; exit 0";
    let id = berth
        .submit(json!({
            "name": "größe", "command": ["sh", "-c", script], "env": {"LR": "0.1 'x'\n"},
            "resources": {"gpus": 2, "cpus": 0.5, "memory_mb": 64}, "labels": {"project": "nlp"},
        }))
        .await;
    let job = berth.job_ends(&id, "succeeded", SHORT).await;
    assert_eq!((job["exit_code"].as_i64(), job["attempt"].as_i64()), (Some(0), Some(1)), "{job:#}");
    assert_eq!(job["gpus"].as_array().map(Vec::len), Some(2));
    assert_eq!(job["device"], berth.workers[0].device.as_str());
    for time in ["submitted_at", "scheduled_at", "started_at", "exited_at"] {
        assert!(job[time].as_str().is_some_and(|t| t.len() == 27 && t.ends_with('Z')), "{time} of {job:#}");
    }
    let (status, log) = berth.get(&format!("/v1/jobs/{id}/logs")).await;
    let log = log.as_str().unwrap_or_default();
    assert_eq!(status, StatusCode::OK);
    for line in [
        "out",
        "err",
        "LR=0.1 'x'",
        &format!("BERTH_JOB_ID={id}"),
        "BERTH_JOB_NAME=größe",
        "BERTH_ATTEMPT=1",
        "BERTH_GPUS=2",
        "BERTH_USER=admin",
        "BERTH_QUEUE=default",
        "67108864",
    ] {
        assert!(log.lines().any(|l| l == line), "{line} is in\n{log}");
    }
    let uuids = log.lines().find_map(|l| l.strip_prefix("NVIDIA_VISIBLE_DEVICES=")).expect("told its GPUs");
    assert_eq!(uuids.split(',').count(), 2, "{uuids}");
    let (_, stderr) = berth.get(&format!("/v1/jobs/{id}/logs?stream=stderr")).await;
    assert_eq!(stderr.as_str(), Some("err\n"));
    let kept = berth.folder.join(&berth.workers[0].device).join("data/admin/kept");
    assert_eq!(std::fs::read_to_string(kept).expect("the file it wrote"), "kept\n");
    until(SHORT, "its container is removed", async || {
        let left = berth.containers(&id);
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
    let (_, events) = berth.get(&format!("/v1/jobs/{id}/events")).await;
    let path: Vec<_> = events["items"].as_array().expect("a list").iter().map(|e| e["to"].clone()).collect();
    assert_eq!(path, ["pending", "scheduled", "running", "exited"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_without_gpus_sees_none() {
    let berth = Berth::with_worker("1xT4").await;
    let id = berth.submit_script("echo $NVIDIA_VISIBLE_DEVICES", 0).await;
    berth.job_ends(&id, "succeeded", SHORT).await;
    let (_, log) = berth.get(&format!("/v1/jobs/{id}/logs")).await;
    assert_eq!(log.as_str(), Some("void\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_waits_says_why_and_starts_when_a_gpu_is_free() {
    let berth = Berth::with_worker("4xA100-80GB").await;
    let mut running = Vec::new();
    for gpus in [1, 1, 2] {
        running.push(berth.submit_script("trap 'exit 0' TERM; sleep 600 & wait", gpus).await);
    }
    let waiting = berth.submit_script("true", 1).await;
    for id in &running {
        berth.job_is(id, "running", SHORT).await;
    }
    let job = berth.job(&waiting).await;
    assert_eq!((&job["status"], &job["position"]), (&json!("pending"), &json!(1)), "{job:#}");
    assert_eq!((&job["reason"]["code"], &job["reason"]["free"]), (&json!("CAPACITY"), &json!(0)), "{job:#}");
    let (_, device) = berth.get(&format!("/v1/devices/{}", berth.workers[0].device)).await;
    let taken = device["gpus"].as_array().expect("a list").iter().filter(|g| !g["job"].is_null()).count();
    assert_eq!(taken, 4, "{device:#}");
    let (status, command) =
        berth.post(&format!("/v1/jobs/{}/commands", running[0]), json!({"command": "kill"})).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{command:#}");
    berth.job_ends(&running[0], "killed", SHORT).await;
    berth.job_ends(&waiting, "succeeded", SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_can_be_followed_to_its_end() {
    let berth = Berth::with_worker("1xT4").await;
    let id = berth.submit_script("for i in 1 2 3; do echo line $i; sleep 0.3; done", 0).await;
    let path = format!("/v1/jobs/{id}/logs?follow=true");
    let (status, stream) =
        tokio::time::timeout(SHORT, berth.get(&path)).await.expect("the stream ends with the job");
    assert_eq!(status, StatusCode::OK, "{stream:#}");
    let stream = stream.as_str().unwrap_or_default();
    for i in 1..=3 {
        assert_eq!(stream.matches(&format!("line {i}")).count(), 1, "{stream}");
    }
    assert!(stream.contains("event: end") || stream.contains("event:end"), "{stream}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_answers_for_its_telemetry() {
    let berth = Berth::with_worker("1xT4").await;
    let device = &berth.workers[0].device;
    for table in ["gauge", "memory", "diskio", "netio"] {
        let path = format!("/v1/devices/{device}/telemetry?table={table}");
        let items = until(Duration::from_secs(30), table, async || {
            let (_, body) = berth.get(&path).await;
            match body["items"].as_array() {
                Some(items) if !items.is_empty() => Ok(items.clone()),
                _ => Err(body),
            }
        })
        .await;
        assert!(items[0]["t"].as_str().is_some_and(|t| t.ends_with('Z')), "{items:?}");
    }
    let (status, body) = berth.get(&format!("/v1/devices/{device}/telemetry?table=nothing")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_retried_as_often_as_asked() {
    let berth = Berth::with_worker("1xT4").await;
    let resources = json!({"cpus": 0.25, "memory_mb": 64});
    let id = berth
        .submit(
            json!({"command": ["sh", "-c", "exit 3"], "retries": 1, "backoff_s": 0, "resources": resources}),
        )
        .await;
    let job = berth.job_ends(&id, "failed", SHORT).await;
    assert_eq!((&job["exit_code"], &job["failures"], &job["attempt"]), (&json!(3), &json!(2), &json!(2)));
    assert_eq!(job["attempts"].as_array().map(Vec::len), Some(2), "{job:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_stopped_at_its_time_limit() {
    let berth = Berth::with_worker("1xT4").await;
    let resources = json!({"cpus": 0.25, "memory_mb": 64});
    let command = json!(["sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait"]);
    let id = berth.submit(json!({"command": command, "timeout_s": 1, "resources": resources})).await;
    berth.job_ends(&id, "timed_out", SHORT).await;
}
