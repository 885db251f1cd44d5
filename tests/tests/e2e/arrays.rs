//! Arrays, matrices, and jobs that come after others.

use berth_tests::berth::{Berth, SHORT};
use berth_tests::setting;
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

/// Under which ids of jobs follow from owner, queue and key. Fixed for ever.
const JOB_NAMESPACE: Uuid = Uuid::from_u128(0x6b1f_4f0a_7c58_4a8e_9d3c_be27_1a5e_0d11);

fn spec(script: &str, more: Value) -> Value {
    let mut spec = json!({
        "image": setting("BERTH_TEST_IMAGE"), "command": ["sh", "-c", script],
        "resources": {"cpus": 0.25, "memory_mb": 64},
    });
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    spec
}

/// The array's id, and those of its jobs.
async fn submit_array(berth: &Berth, spec: Value) -> (String, Vec<String>) {
    let (status, body) = berth.post("/v1/jobs", spec).await;
    assert_eq!(status, StatusCode::CREATED, "{body:#}");
    let text = |id: &Value| id.as_str().expect("an id").to_owned();
    (text(&body["array"]), body["jobs"].as_array().expect("a list").iter().map(text).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_job_of_an_array_knows_its_place() {
    let berth = Berth::with_worker("1xT4").await;
    let script = "echo $BERTH_ARRAY_INDEX; test $BERTH_ARRAY_INDEX != 3";
    let (array, jobs) =
        submit_array(&berth, spec(script, json!({"array": {"count": 5, "max_running": 3}}))).await;
    assert_eq!(jobs.len(), 5);
    for (index, id) in jobs.iter().enumerate() {
        let outcome = if index == 3 { "failed" } else { "succeeded" };
        let job = berth.job_ends(id, outcome, SHORT).await;
        assert_eq!((&job["array"], &job["array_index"]), (&json!(array), &json!(index)), "{job:#}");
        assert_eq!(berth.log(id).await, format!("{index}\n"));
    }
    let (_, listed) = berth.get(&format!("/v1/jobs?array={array}")).await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(5));
    let (_, summary) = berth.get(&format!("/v1/jobs:summary?array={array}")).await;
    assert_eq!((&summary["outcome"]["succeeded"], &summary["outcome"]["failed"]), (&json!(4), &json!(1)));
    let (status, problem) = berth.get(&format!("/v1/jobs/{array}")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(problem["detail"].as_str().is_some_and(|d| d.contains("/v1/jobs?array=")), "{problem:#}");
    let (_, retried) = berth.post("/v1/commands", json!({"command": "retry", "array": array})).await;
    assert_eq!(retried["items"].as_array().map(Vec::len), Some(1), "{retried:#}");
    assert_eq!(retried["items"][0]["job"], jobs[3].as_str(), "only what did not succeed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_matrix_has_a_job_for_each_combination_and_all_can_be_killed_at_once() {
    let berth = Berth::with_worker("1xT4").await;
    let matrix = json!({"matrix": {"LR": ["0.1", "0.2"], "BS": ["32", "64"]}});
    let (_, jobs) = submit_array(&berth, spec("echo $BS $LR", matrix)).await;
    let mut said = Vec::new();
    for id in &jobs {
        berth.job_ends(id, "succeeded", SHORT).await;
        said.push(berth.log(id).await);
    }
    assert_eq!(said, ["32 0.1\n", "32 0.2\n", "64 0.1\n", "64 0.2\n"]);

    let waits =
        spec("trap 'exit 0' TERM; sleep 600 & wait", json!({"array": {"count": 3, "max_running": 1}}));
    let (array, jobs) = submit_array(&berth, waits).await;
    berth.job_is(&jobs[0], "running", SHORT).await;
    let (status, killed) = berth.post("/v1/commands", json!({"command": "kill", "array": array})).await;
    assert_eq!(status, StatusCode::OK, "{killed:#}");
    let killed: Vec<_> =
        killed["items"].as_array().expect("a list").iter().map(|i| i["job"].clone()).collect();
    assert_eq!(json!(killed), json!(jobs));
    for id in &jobs {
        berth.job_ends(id, "killed", SHORT).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_starts_after_those_it_names_and_fails_with_them() {
    let berth = Berth::with_worker("1xT4").await;
    let (array, _) = submit_array(&berth, spec("true", json!({"array": {"count": 2}, "hold": true}))).await;
    let after = berth.submit(spec("true", json!({"after": [array]}))).await;
    let job = berth.job(&after).await;
    assert_eq!(
        (&job["status"], &job["reason"]["code"]),
        (&json!("pending"), &json!("DEPENDENCY")),
        "{job:#}"
    );
    let (_, released) = berth.post("/v1/commands", json!({"command": "release", "array": array})).await;
    assert_eq!(released["items"].as_array().map(Vec::len), Some(2), "{released:#}");
    berth.job_ends(&after, "succeeded", SHORT).await;

    let fails = berth.submit(spec("exit 4", json!({"hold": true}))).await;
    let next = berth.submit(spec("true", json!({"after": [fails]}))).await;
    let last = berth.submit(spec("true", json!({"after": [next]}))).await;
    assert_eq!(berth.command(&fails, json!({"command": "release"})).await.0, StatusCode::ACCEPTED);
    for id in [&next, &last] {
        let job = berth.job_ends(id, "error", SHORT).await;
        assert!(job["error"].as_str().is_some_and(|why| !why.is_empty()), "{job:#}");
        assert_eq!(job["attempt"], 0, "{job:#}");
    }
    let job = berth.job(&next).await;
    assert!(job["error"].as_str().is_some_and(|why| why.contains(&fails)), "{job:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_exists_can_be_come_after() {
    let berth = Berth::with_worker("1xT4").await;
    let own = Uuid::new_v5(&JOB_NAMESPACE, b"admin\0default\0own");
    for (after, part) in [(own, "itself"), (Uuid::new_v4(), "there is no job")] {
        let request = berth.as_admin(reqwest::Method::POST, "/v1/jobs").header("idempotency-key", "own");
        let answer = request.json(&spec("true", json!({"after": [after]}))).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let problem: Value = answer.json().await.expect("JSON");
        assert_eq!(problem["errors"][0]["pointer"], "/after/0", "{problem:#}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(part)), "{problem:#}");
    }
    // Somebody else's job is none.
    let others = berth.submit(spec("true", json!({"hold": true}))).await;
    let ann = berth.user("ann").await;
    let body = spec("true", json!({"after": [others]})).to_string();
    let refused = berth.request(reqwest::Method::POST, "/v1/jobs", &ann, Some(body)).await;
    assert_eq!(refused.1["errors"][0]["pointer"], "/after/0", "{refused:#?}");
}
