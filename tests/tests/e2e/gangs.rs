//! Gangs: several containers that start together, find each other, and end together.

use berth_tests::berth::{Berth, SHORT};
use berth_tests::setting;
use reqwest::StatusCode;
use serde_json::{Value, json};

async fn two_workers() -> Berth {
    let mut berth = Berth::with_worker("1xT4").await;
    berth.add_worker("1xT4", &[]).await;
    berth
}

fn gang(replicas: u32, script: &str) -> Value {
    json!({
        "image": setting("BERTH_TEST_IMAGE"), "command": ["sh", "-c", script], "replicas": replicas,
        "resources": {"gpus": 1, "cpus": 0.25, "memory_mb": 64},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replicas_of_a_gang_know_each_other() {
    let berth = two_workers().await;
    let script =
        "echo $RANK of $WORLD_SIZE at $MASTER_ADDR:$MASTER_PORT; echo $BERTH_REPLICA of $BERTH_REPLICAS";
    let id = berth.submit(gang(2, script)).await;
    let job = berth.job_ends(&id, "succeeded", SHORT).await;
    assert_eq!((&job["device"], job["gpus"].as_array().map(Vec::len)), (&Value::Null, Some(2)), "{job:#}");
    let attempts = job["attempts"].as_array().expect("a list");
    assert_ne!(attempts[0]["device"], attempts[1]["device"], "{job:#}");
    let mut masters = Vec::new();
    for replica in 0..2 {
        let (_, log) = berth.get(&format!("/v1/jobs/{id}/logs?replica={replica}")).await;
        let log = log.as_str().unwrap_or_default().to_owned();
        let (rank, master) = log.lines().next().and_then(|line| line.split_once(" at ")).expect(&log);
        assert_eq!(rank, format!("{replica} of 2"));
        assert!(log.ends_with(&format!("{replica} of 2\n")), "{log}");
        masters.push(master.to_owned());
    }
    assert_eq!(masters[0], masters[1]);
    let (address, port) = masters[0].rsplit_once(':').expect("an address and a port");
    assert!(!address.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0), "{masters:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_fails_stops_the_others() {
    let berth = two_workers().await;
    let script = "test $RANK = 1 && exit 9; trap 'echo stopped; exit 0' TERM; sleep 600 & wait";
    let id = berth.submit(gang(2, script)).await;
    let job = berth.job_ends(&id, "failed", SHORT).await;
    assert_eq!((&job["exit_code"], &job["failures"]), (&json!(9), &json!(1)), "{job:#}");
    let (_, log) = berth.get(&format!("/v1/jobs/{id}/logs?replica=0")).await;
    assert_eq!(log, "stopped\n");
    for worker in &berth.workers {
        let (_, device) = berth.get(&format!("/v1/devices/{}", worker.device)).await;
        assert_eq!(device["gpus"][0]["free"], true, "{device:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gang_larger_than_the_cluster_is_refused_and_one_that_must_wait_takes_nothing() {
    let berth = two_workers().await;
    let (status, problem) = berth.post("/v1/jobs", gang(3, "true")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem:#}");
    assert_eq!(problem["errors"][0]["pointer"], "/replicas", "{problem:#}");
    let one = berth.submit_script("trap 'exit 0' TERM; sleep 600 & wait", 1).await;
    berth.job_is(&one, "running", SHORT).await;
    let waits = berth.submit(gang(2, "true")).await;
    let job = berth.job(&waits).await;
    let shown = (&job["status"], &job["reason"]["need"], &job["reason"]["free"]);
    assert_eq!(shown, (&json!("pending"), &json!(2), &json!(1)), "{job:#}");
    assert_eq!(job["gpus"], json!([]), "all or nothing");
    assert_eq!(berth.command(&one, json!({"command": "kill"})).await.0, StatusCode::ACCEPTED);
    berth.job_ends(&waits, "succeeded", SHORT).await;
}
