//! Devices, and what only they know.

use berth_common::message::Reply;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::sample;
use crate::stage::{ADMIN, with_stage};

#[tokio::test]
async fn a_device_shows_what_it_has_and_whose_jobs_only_to_those_who_may_know() {
    with_stage(async |stage| {
        stage.commit(&sample::cluster()).await;
        let bob = stage.user("bob").await;
        let (status, device) = stage.get(ADMIN, "/v1/devices/dev-100").await;
        assert_eq!(status, 200, "{device}");
        assert_eq!((&device["state"], &device["note"]), (&json!("draining"), &json!("for the fan")));
        assert_eq!((&device["cpus"], &device["cpus_used"]), (&json!(63.5), &json!(7.5)));
        assert_eq!((&device["memory_mb"], &device["memory_used_mb"]), (&json!(512_000), &json!(1024)));
        assert_eq!((&device["session"], &device["labels"]), (&json!(99), &json!({"rack": "b2"})));
        let gpu = &device["gpus"][0];
        assert_eq!((&gpu["free"], &gpu["job"]), (&json!(false), &json!(Uuid::from_u128(4))));
        let (_, seen_by_bob) = stage.get(&bob, "/v1/devices/dev-100").await;
        let gpu = &seen_by_bob["gpus"][0];
        assert_eq!((&gpu["free"], &gpu["job"]), (&json!(false), &Value::Null));
        let (_, page) = stage.get(&bob, "/v1/devices").await;
        assert_eq!((page["items"].as_array().map(Vec::len), &page["next_cursor"]), (Some(1), &Value::Null));
    })
    .await;
}

#[tokio::test]
async fn telemetry_is_asked_of_the_device_itself() {
    with_stage(async |stage| {
        stage.commit(&sample::cluster()).await;
        let path = "/v1/devices/dev-100/telemetry?table=gauge&from=2027-01-01T00:00:00Z&step=60";
        let (status, problem) = stage.get(ADMIN, path).await;
        assert_eq!(status, 503, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("draining")), "{problem}");

        let items = json!({"items": [{"t": "2027-01-01T00:00:00.000000Z", "cpu": 3.5}]});
        let answer = items.clone();
        let log = stage.device("dev-100", move |_| Some(Reply { status: 200, body: answer.clone() })).await;
        assert_eq!(stage.get(ADMIN, path).await, (200, items));
        let asked = log.lock().expect("whole")[0].body.clone();
        assert_eq!(
            (&asked["ask"], &asked["table"], &asked["step"]),
            (&json!("telemetry"), &json!("gauge"), &json!(60))
        );
        for wrong in [
            "table=none",
            "table=gauge&step=0",
            "table=gauge&from=2027-01-02T00:00:00Z&to=2027-01-01T00:00:00Z",
        ] {
            let (status, _) = stage.get(ADMIN, &format!("/v1/devices/dev-100/telemetry?{wrong}")).await;
            assert_eq!(status, 422, "{wrong}");
        }
    })
    .await;
}
