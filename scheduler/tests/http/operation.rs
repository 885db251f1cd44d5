//! Probes and metrics, for whoever keeps it running.

use berth_common::message::Reply;
use berth_scheduler::health::Leading;
use reqwest::Method;
use serde_json::json;

use crate::stage::{ADMIN, read, with_stage};

#[tokio::test]
async fn a_standby_is_ready_and_one_that_loads_is_not() {
    with_stage(async |stage| {
        assert_eq!(stage.until_ready_is(200).await["role"], "standby");
        stage.health.set_leading(Leading::Loading);
        assert_eq!(stage.until_ready_is(503).await["missing"][0]["part"], "leader");
        stage.health.set_leading(Leading::Leader { epoch: 4 });
        assert_eq!(stage.until_ready_is(200).await["role"], "leader");
    })
    .await;
}

#[tokio::test]
async fn a_lost_database_is_told_and_comes_back() {
    with_stage(async |stage| {
        let ann = stage.user("ann").await;
        stage.break_database().await;
        let report = stage.until_ready_is(503).await;
        let missing = &report["missing"][0];
        assert_eq!(missing["part"], "database", "{report}");
        let place = missing["where"].as_str().expect("a place");
        assert!(place.contains("127.0.0.1"), "{place}");
        assert!(missing["do"].as_str().is_some_and(|advice| advice.contains("BERTH_DATABASE_URL")));
        let answer = stage.send(Method::GET, "/v1/jobs", |request| request.bearer_auth(&ann)).await;
        assert!(answer.headers().contains_key("retry-after"));
        assert_eq!(read(answer).await.0, 503);
        assert_eq!(stage.send(Method::GET, "/healthz", |request| request).await.status(), 200);

        stage.restore_database().await;
        stage.until_ready_is(200).await;
        assert_eq!(stage.get(&ann, "/v1/jobs").await.0, 200);
    })
    .await;
}

#[tokio::test]
async fn a_lost_broker_is_told_and_comes_back() {
    with_stage(async |stage| {
        stage.break_broker().await;
        let report = stage.until_ready_is(503).await;
        assert_eq!(report["missing"][0]["where"], stage.broker.location(), "{report}");
        let job = json!({"image": "i"});
        let send = |request: reqwest::RequestBuilder| request.bearer_auth(ADMIN).json(&job);
        let answer = stage.send(Method::POST, "/v1/jobs", send).await;
        assert!(answer.headers().contains_key("retry-after"));
        assert_eq!(read(answer).await.0, 503);
        assert_eq!(stage.get(ADMIN, "/v1/jobs").await.0, 200, "looking needs no broker");

        stage.restore_broker().await;
        stage.until_ready_is(200).await;
        stage.lead(|_| Some(Reply { status: 201, body: json!({}) })).await;
        let answer = stage.send(Method::POST, "/v1/jobs", send).await;
        assert_eq!(read(answer).await.0, 202, "taken; the script stored no job that could be shown");
    })
    .await;
}

#[tokio::test]
async fn requests_are_counted_by_route_and_not_by_what_clients_invent() {
    with_stage(async |stage| {
        stage.get(ADMIN, "/v1/devices/one").await;
        stage.get(ADMIN, "/v1/invented").await;
        let text = stage.send(Method::GET, "/metrics", |request| request).await.text().await.expect("text");
        for line in [
            r#"berth_http_requests_total{method="GET",route="/v1/devices/{name}",status="404"} 1"#,
            r#"berth_http_requests_total{method="GET",route="none",status="404"} 1"#,
            "berth_asks_in_flight 0",
            r#"berth_http_request_seconds_count{method="GET",route="/v1/devices/{name}"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("invented"));
    })
    .await;
}
