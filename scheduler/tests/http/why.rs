//! Why one job waits, and what could be changed: the leader's answer, in plain words.

use berth_common::job::{Reason, Suggestion};
use berth_common::message::{LEADER_RPC, Reply, Waiting, Why};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::sample;
use crate::script::Heard;
use crate::stage::{ADMIN, at_ms, with_stage};

/// A leader that has a reason for whatever job it is asked about, and a suggestion.
fn leader(heard: &Heard) -> Option<Reply> {
    if heard.kind != LEADER_RPC || heard.body["ask"] != "why" {
        return None;
    }
    let numbers = json!({"need": 8, "free": 4}).as_object().cloned().unwrap_or_default();
    let reason = Reason { code: "CAPACITY".into(), text: "It needs 8 GPUs; 4 free.".into(), numbers };
    let text = "would start now with 4 GPUs instead of 8".to_owned();
    let why = Why {
        waiting: Some(Waiting { reason, position: Some(3), start_by: Some(at_ms(0)) }),
        changes: vec![Suggestion { field: "/resources/gpus".into(), value: json!(4), text }],
    };
    Some(Reply { status: 200, body: serde_json::to_value(why).expect("JSON") })
}

fn path(id: impl std::fmt::Display) -> String {
    format!("/v1/jobs/{id}/why")
}

fn text(why: &Value) -> &str {
    why["text"].as_str().expect("a text")
}

#[tokio::test]
async fn a_waiting_job_has_its_reason_in_plain_words_and_what_would_help() {
    with_stage(async |stage| {
        stage.commit(&sample::cluster()).await;
        let log = stage.lead(leader).await;
        let id = Uuid::from_u128(2);
        let (status, why) = stage.get(ADMIN, &path(id)).await;
        assert_eq!(status, 200, "{why}");
        assert_eq!((&why["id"], &why["status"]), (&json!(id), &json!("pending")));
        assert_eq!((&why["reason"]["code"], &why["reason"]["need"]), (&json!("CAPACITY"), &json!(8)));
        assert_eq!((&why["position"], &why["start_by"]), (&json!(3), &json!("2027-01-01T00:00:00.123456Z")));
        assert_eq!(
            text(&why),
            "It needs 8 GPUs; 4 free. Its place in the queue default is 3. \
             It starts by 2027-01-01T00:00:00Z at the latest."
        );
        let change = json!({"field": "/resources/gpus", "value": 4,
            "text": "would start now with 4 GPUs instead of 8"});
        assert_eq!(why["changes"], json!([change]));
        assert_eq!(log.lock().expect("whole").len(), 1, "one question answers it all");
    })
    .await;
}

#[tokio::test]
async fn what_does_not_wait_is_told_with_what_it_does() {
    with_stage(async |stage| {
        stage.commit(&sample::cluster()).await;
        let log = stage.lead(leader).await;
        for (n, expected) in [
            (4, "It runs on dev-100 since 2027-01-01T00:00:00Z, and is being stopped (kill)."),
            (5, "It is over: it ran for as long as it might, and was stopped with exit code -1 at 2027-01-01T00:00:00Z"),
        ] {
            let (status, why) = stage.get(ADMIN, &path(Uuid::from_u128(n))).await;
            assert_eq!(status, 200, "{why}");
            let told = (&why["reason"], &why["position"], &why["start_by"], &why["changes"]);
            assert_eq!(told, (&Value::Null, &Value::Null, &Value::Null, &json!([])));
            assert!(text(&why).starts_with(expected), "{why}");
        }
        assert!(log.lock().expect("whole").is_empty(), "nobody has to be asked");
    })
    .await;
}

#[tokio::test]
async fn an_array_is_explained_by_the_first_of_its_jobs_that_waits() {
    with_stage(async |stage| {
        stage.commit(&sample::cluster()).await;
        stage.lead(leader).await;
        let (status, why) = stage.get(ADMIN, &path(sample::ARRAY)).await;
        assert_eq!((status, &why["id"]), (200, &json!(Uuid::from_u128(1))), "{why}");
        let expected = "An array of 5 jobs: 2 wait, 2 start or run, 1 are over. \
                        The first one that waits has index 1. It needs 8 GPUs; 4 free.";
        assert!(text(&why).starts_with(expected), "{why}");
    })
    .await;
}

#[tokio::test]
async fn it_is_told_to_those_who_may_see_the_job() {
    with_stage(async |stage| {
        stage.commit(&sample::cluster()).await;
        stage.lead(leader).await;
        let (ann, bob) = (stage.user("ann").await, stage.user("bob").await);
        for id in [Uuid::from_u128(2), sample::ARRAY] {
            assert_eq!((stage.get(&ann, &path(id)).await.0, stage.get(&bob, &path(id)).await.0), (200, 404));
        }
        assert_eq!(stage.get(ADMIN, &path(Uuid::from_u128(99))).await.0, 404);
    })
    .await;
}

#[tokio::test]
async fn without_a_leader_that_is_the_reason() {
    with_stage(async |stage| {
        stage.commit(&sample::cluster()).await;
        let (status, why) = stage.get(ADMIN, &path(Uuid::from_u128(2))).await;
        assert_eq!((status, &why["reason"]["code"]), (200, &json!("NO_LEADER")), "{why}");
        assert!(text(&why).contains("No scheduler leads"), "{why}");
    })
    .await;
}
