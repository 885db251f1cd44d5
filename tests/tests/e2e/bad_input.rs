//! What is wrong is told with its field, and nothing of it is stored.

use berth_tests::berth::Berth;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const ADMIN: &str = "berth_test_admin_token_0123456789abcdef";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_submissions_name_their_field_and_store_nothing() {
    let berth = Berth::with_worker("2xT4").await;
    let cases: Vec<(Value, &str)> = vec![
        (json!({}), "/image"),
        (json!({"image": "i", "gpu": 1}), "/gpu"),
        (json!({"image": 1}), "/image"),
        (json!({"image": "i", "resources": {"gpus": "2"}}), "/resources/gpus"),
        (json!({"image": "i", "resources": {"gpus": -1}}), "/resources/gpus"),
        (json!({"image": "i", "resources": {"gpus": 1_000_000_000}}), "/resources/gpus"),
        (json!({"image": "i", "resources": {"gpus": 3}}), "/resources/gpus"),
        (json!({"image": "i", "resources": {"cpus": 0}}), "/resources/cpus"),
        (json!({"image": "i", "resources": {"memory_mb": -5}}), "/resources/memory_mb"),
        (json!({"image": "i", "name": "a\u{0007}b"}), "/name"),
        (json!({"image": "i", "queue": "nowhere"}), "/queue"),
        (json!({"image": "i", "mounts": [{"source": "../etc", "target": "/x"}]}), "/mounts/0/source"),
    ];
    for (body, pointer) in cases {
        let (status, problem) = berth.post("/v1/jobs", body.clone()).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {problem:#}");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem:#}");
        assert!(problem["errors"][0]["message"].as_str().is_some_and(|m| !m.is_empty()), "{problem:#}");
    }
    let (status, problem) = berth.request(Method::POST, "/v1/jobs", ADMIN, Some("{\"image\":".into())).await;
    assert_eq!((status, &problem["status"]), (StatusCode::BAD_REQUEST, &json!(400)), "{problem:#}");
    let huge = json!({"image": "i", "env": {"A": "x".repeat(2 * 1024 * 1024)}}).to_string();
    let (status, problem) = berth.request(Method::POST, "/v1/jobs", ADMIN, Some(huge)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{problem:#}");
    let (_, list) = berth.get("/v1/jobs").await;
    assert_eq!(list["items"], json!([]), "nothing of it was stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_submission_is_one_job() {
    let berth = Berth::with_worker("1xT4").await;
    let client = reqwest::Client::new();
    let submit = async |body: Value| {
        let request = client.post(format!("{}/v1/jobs", berth.url)).bearer_auth(ADMIN);
        let answer = request.header("Idempotency-Key", "key-1").json(&body).send().await.expect("an answer");
        (answer.status(), answer.json::<Value>().await.expect("JSON"))
    };
    let body = json!({"image": berth_tests::setting("BERTH_TEST_IMAGE"), "command": ["true"], "resources": {"memory_mb": 64}});
    let (first, job) = submit(body.clone()).await;
    let (second, again) = submit(body).await;
    assert_eq!((first, second), (StatusCode::CREATED, StatusCode::OK), "{again:#}");
    assert_eq!(job["id"], again["id"]);
    let (third, problem) = submit(json!({"image": "another"})).await;
    assert_eq!(third, StatusCode::CONFLICT, "{problem:#}");
}
