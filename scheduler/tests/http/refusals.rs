//! What is wrong with a request is told as problem details, with the status that fits.

use reqwest::Method;
use serde_json::{Value, json};

use crate::stage::{ADMIN, Stage, read, with_stage};

async fn post_raw(stage: &Stage, path: &str, kind: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
    let body = body.into();
    let send =
        |request: reqwest::RequestBuilder| request.bearer_auth(ADMIN).header("content-type", kind).body(body);
    read(stage.send(Method::POST, path, send).await).await
}

#[tokio::test]
async fn addresses_methods_and_types_are_checked() {
    with_stage(async |stage| {
        for (method, path, status) in [
            (Method::GET, "/v1/nothing", 404),
            (Method::GET, "/nothing", 404),
            (Method::PATCH, "/v1/jobs", 405),
            (Method::DELETE, "/healthz", 405),
            (Method::GET, "/v1/jobs/no-id", 404),
            (Method::GET, "/v1/jobs/018f0000-0000-7000-8000-000000000000", 404),
            (Method::GET, "/v1/commands/018f0000-0000-7000-8000-000000000000", 404),
            (Method::GET, "/v1/devices/none", 404),
            (Method::GET, "/v1/users/none", 404),
            (Method::GET, "/v1/jobs?limit=0", 422),
            (Method::GET, "/v1/jobs?limti=1", 422),
            (Method::GET, "/v1/jobs?status=gone", 422),
            (Method::GET, "/v1/jobs?cursor=x", 422),
            (Method::GET, "/v1/jobs?q=%00", 422),
            (Method::GET, "/v1/jobs?until=9999-12-30T00:00:00Z&attempt=1", 422),
            (Method::GET, "/v1/devices/%00", 404),
            (Method::GET, "/v1/devices?cursor=%00", 422),
            (Method::GET, "/v1/devices/none/telemetry", 422),
        ] {
            let send = |request: reqwest::RequestBuilder| request.bearer_auth(ADMIN);
            let (found, problem) = read(stage.send(method.clone(), path, send).await).await;
            assert_eq!((found, &problem["status"]), (status, &json!(status)), "{method} {path}: {problem}");
            assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{path}");
        }
        let ancient = "/v1/jobs?since=-008000-01-02T00:00:00Z&until=9999-12-30T00:00:00Z";
        assert_eq!(stage.get(ADMIN, ancient).await.0, 200);
        let (_, problem) = stage.get(ADMIN, "/v1/jobs?limti=1").await;
        assert_eq!(problem["errors"][0]["pointer"], "/limti");
        let (_, problem) = stage.get(ADMIN, "/v1/devices/none/telemetry").await;
        assert_eq!(problem["errors"][0]["pointer"], "/table");
    })
    .await;
}

#[tokio::test]
async fn bodies_are_checked_before_anything_is_sent() {
    with_stage(async |stage| {
        let leader = stage.lead(|_| None).await;
        let json = "application/json";
        for (path, kind, body, status) in [
            ("/v1/jobs", "text/plain", "{}".to_owned(), 415),
            ("/v1/jobs", "application/x-www-form-urlencoded", "{}".into(), 415),
            ("/v1/jobs", "application/x-ndjson", "{}".into(), 415),
            ("/v1/jobs", json, "{".into(), 400),
            ("/v1/jobs", json, String::new(), 400),
            ("/v1/jobs", json, "[]".into(), 422),
            ("/v1/jobs", json, "{}".into(), 422),
            ("/v1/jobs", json, r#"{"image": "i", "colour": "red"}"#.into(), 422),
            ("/v1/jobs", json, format!(r#"{{"image": "{}"}}"#, "i".repeat(1 << 20)), 413),
            ("/v1/jobs:batch", json, "{}".into(), 422),
            ("/v1/jobs:batch", json, "[".into(), 400),
            ("/v1/commands", json, r#"{"command": "kill"}"#.into(), 422),
            ("/v1/commands", json, r#"{"command": "fly", "jobs": []}"#.into(), 422),
            ("/v1/users", json, r#"{"name": "Ann"}"#.into(), 422),
            ("/v1/users", json, r#"{"name": "ann", "role": "king"}"#.into(), 422),
            ("/v1/users/admin/tokens", json, r#"{"expires_at": "2001-01-01T00:00:00Z"}"#.into(), 422),
        ] {
            let shown = body.chars().take(40).collect::<String>();
            let (found, problem) = post_raw(stage, path, kind, body).await;
            assert_eq!(found, status, "{path} {kind} {shown}: {problem}");
        }
        let (_, problem) = post_raw(stage, "/v1/users", json, r#"{"name": "ann", "role": "king"}"#).await;
        assert_eq!(problem["errors"][0]["pointer"], "/role");
        for (path, body, pointer) in [
            ("/v1/commands", r#"{"command": "kill"}"#, "/jobs"),
            ("/v1/commands", r#"{"command": "kill", "jobs": [7]}"#, "/jobs/0"),
            ("/v1/commands", r#"{"command": "kill", "jobs": [], "a/b": 1}"#, "/a~1b"),
            ("/v1/users", "{}", "/name"),
        ] {
            let (_, problem) = post_raw(stage, path, json, body).await;
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{path} {body}: {problem}");
        }
        assert!(leader.lock().expect("whole").is_empty(), "nothing of it was sent");
    })
    .await;
}

#[tokio::test]
async fn a_batch_may_be_larger_than_a_job_and_not_endless() {
    with_stage(async |stage| {
        let large = vec![b' '; (32 << 20) + 1];
        let (status, problem) = post_raw(stage, "/v1/jobs:batch", "application/json", large).await;
        assert_eq!(status, 413, "{problem}");
        let many = vec![json!({}); 10_001];
        assert_eq!(stage.post(ADMIN, "/v1/jobs:batch", json!(many)).await.0, 422);
    })
    .await;
}
