//! Lists and single jobs: everybody sees their own, administrators all.

use std::collections::BTreeMap;

use berth_common::job::Reason;
use berth_common::message::{LEADER_RPC, Reasons, Reply, Waiting};
use berth_scheduler::core::rows::JobRow;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::sample;
use crate::stage::{ADMIN, Stage, with_stage};

/// The store's sample of a cluster, all ann's, and a job of bob's that is newer.
async fn fill(stage: &Stage) {
    let mut rows = sample::cluster();
    let mut of_bob = JobRow { owner: "bob".into(), ..sample::job(9) };
    of_bob.life.submitted_at = crate::stage::at_ms(500);
    of_bob.spec.labels = BTreeMap::from([("project".into(), "vision".into())]);
    of_bob.spec.name = "Größe".into();
    rows.new_jobs.push(of_bob);
    stage.commit(&rows).await;
}

fn ids(page: &Value) -> Vec<u128> {
    let items = page["items"].as_array().expect("items").iter();
    items.map(|job| job["id"].as_str().expect("an id").parse::<Uuid>().expect("a UUID").as_u128()).collect()
}

#[tokio::test]
async fn pages_follow_one_another_without_gaps() {
    with_stage(async |stage| {
        fill(stage).await;
        let mut seen = Vec::new();
        let mut path = "/v1/jobs?limit=2&order=submitted_at".to_owned();
        loop {
            let (status, page) = stage.get(ADMIN, &path).await;
            assert_eq!(status, 200, "{page}");
            seen.extend(ids(&page));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            path = format!("/v1/jobs?limit=2&cursor={cursor}");
        }
        assert_eq!(seen, [9, 5, 4, 3, 2, 1], "newest first, and those of one moment by id");
    })
    .await;
}

#[tokio::test]
async fn filters_leave_what_they_say() {
    with_stage(async |stage| {
        fill(stage).await;
        for (query, expected) in [
            ("", vec![9, 5, 4, 3, 2, 1]),
            ("status=running", vec![4]),
            ("status=running&status=exited", vec![5, 4]),
            ("outcome=timed_out", vec![5]),
            ("owner=bob", vec![9]),
            ("owner=nobody", vec![]),
            ("queue=default&status=pending", vec![9, 2]),
            ("queue=other", vec![]),
            ("device=dev-100", vec![4]),
            ("device=dev-101", vec![]),
            ("label=project:vision", vec![9]),
            ("label=project:nlp&label=team:a&limit=1000", vec![5, 4, 3, 2, 1]),
            ("label=project:nlp&label=team:b", vec![]),
            ("q=JOB-3", vec![3]),
            ("q=gr%C3%B6", vec![9]),
            ("q=%25", vec![]),
            ("since=2027-01-01T00:00:00.2Z", vec![9]),
            ("until=2027-01-01T00:00:00.2Z", vec![5, 4, 3, 2, 1]),
            ("array=00000000-0000-0000-0000-000000000001", vec![]),
            ("id_prefix=00000000-0000-0000-0000-00000000000", vec![9, 5, 4, 3, 2, 1]),
            ("id_prefix=00000000-0000-0000-0000-000000000003", vec![3]),
            ("id_prefix=1", vec![]),
        ] {
            let (status, page) = stage.get(ADMIN, &format!("/v1/jobs?{query}")).await;
            assert_eq!(status, 200, "{query}: {page}");
            assert_eq!(ids(&page), expected, "{query}");
        }
    })
    .await;
}

#[tokio::test]
async fn jobs_of_others_do_not_exist() {
    with_stage(async |stage| {
        fill(stage).await;
        let (ann, bob) = (stage.user("ann").await, stage.user("bob").await);
        assert_eq!(ids(&stage.get(&bob, "/v1/jobs").await.1), [9]);
        assert_eq!(ids(&stage.get(&bob, "/v1/jobs?owner=ann").await.1), [0_u128; 0]);
        let job = Uuid::from_u128(4);
        for path in ["", "/events", "/commands", "/logs"] {
            let path = format!("/v1/jobs/{job}{path}");
            assert_eq!(stage.get(&bob, &path).await.0, 404, "{path}");
        }
        let kill = json!({"command": "kill"});
        assert_eq!(stage.post(&bob, &format!("/v1/jobs/{job}/commands"), kill).await.0, 404);
        let command = format!("/v1/commands/{}", Uuid::from_u128(300));
        assert_eq!((stage.get(&bob, &command).await.0, stage.get(&ann, &command).await.0), (404, 200));

        let (_, array) = stage.get(&bob, &format!("/v1/jobs:summary?array={}", sample::ARRAY)).await;
        let (_, none) = stage.get(ADMIN, &format!("/v1/jobs:summary?array={}", Uuid::nil())).await;
        assert_eq!((&array["status"]["pending"], &none["status"]["pending"]), (&json!(1), &json!(0)));
        let (_, all) = stage.get(ADMIN, "/v1/jobs:summary").await;
        let (_, own) = stage.get(&bob, "/v1/jobs:summary").await;
        assert_eq!((&all["status"]["pending"], &own["status"]["pending"]), (&json!(2), &json!(1)));
        assert_eq!((&all["outcome"]["timed_out"], &own["outcome"]["timed_out"]), (&json!(1), &json!(0)));
        assert_eq!(
            (&all["gpus"], &own["gpus"]),
            (&json!({"in_use": 2, "waiting": 4}), &json!({"in_use": 0, "waiting": 2}))
        );
    })
    .await;
}

#[tokio::test]
async fn a_job_has_its_attempts_gpus_and_history() {
    with_stage(async |stage| {
        fill(stage).await;
        let ann = stage.user("ann").await;
        let id = Uuid::from_u128(4);
        let (status, job) = stage.get(&ann, &format!("/v1/jobs/{id}")).await;
        assert_eq!(status, 200, "{job}");
        assert_eq!(job["device"], "dev-100");
        let gpus = json!([{"id": 101, "type": "A100-80GB"}, {"id": 102, "type": "A100-80GB"}]);
        assert_eq!((&job["gpus"], &job["attempts"][0]["gpus"]), (&gpus, &gpus));
        assert_eq!(job["attempts"][0]["ports"], json!({"ssh": 40022, "web": 40080}));
        assert_eq!((&job["attempt"], &job["attempts"][0]["attempt"]), (&json!(3), &json!(3)));
        assert_eq!((&job["stopping"], &job["reason"]), (&json!("kill"), &Value::Null));
        assert_eq!(job["spec"]["env"]["LR"], "0.1");
        assert_eq!(job["submitted_at"], "2027-01-01T00:00:00.133456Z");
        assert!(!job.to_string().contains("s3cret"), "a password is not shown in passing");

        let (_, events) = stage.get(&ann, &format!("/v1/jobs/{id}/events?limit=1")).await;
        assert_eq!(
            (&events["items"][0]["from"], &events["items"][0]["to"]),
            (&Value::Null, &json!("running"))
        );
        let cursor = events["next_cursor"].as_str().expect("there is more");
        let (_, events) = stage.get(&ann, &format!("/v1/jobs/{id}/events?limit=1&cursor={cursor}")).await;
        assert_eq!(
            (&events["items"][0]["from"], &events["next_cursor"]),
            (&json!("scheduled"), &Value::Null)
        );
    })
    .await;
}

#[tokio::test]
async fn the_leader_says_why_a_job_waits() {
    with_stage(async |stage| {
        fill(stage).await;
        let path = format!("/v1/jobs/{}", Uuid::from_u128(2));
        let (_, job) = stage.get(ADMIN, &path).await;
        assert_eq!(job["reason"]["code"], "NO_LEADER");

        let script = |heard: &crate::script::Heard| {
            assert_eq!(heard.kind, LEADER_RPC);
            let numbers = json!({"needed": 2, "free": 1}).as_object().cloned().unwrap_or_default();
            let reason = Reason { code: "NO_ROOM".into(), text: "It waits for GPUs.".into(), numbers };
            let waiting = Waiting { reason, position: Some(3), start_by: None };
            let reasons = Reasons::from([(Uuid::from_u128(2), waiting)]);
            Some(Reply { status: 200, body: serde_json::to_value(reasons).expect("JSON") })
        };
        let log = stage.lead(script).await;
        let (_, job) = stage.get(ADMIN, &path).await;
        assert_eq!((&job["reason"]["code"], &job["reason"]["free"]), (&json!("NO_ROOM"), &json!(1)));
        assert_eq!(job["position"], 3);
        let (_, page) = stage.get(ADMIN, "/v1/jobs").await;
        let reasons: Vec<&Value> =
            page["items"].as_array().expect("items").iter().map(|job| &job["reason"]["code"]).collect();
        assert_eq!(reasons.iter().filter(|code| code.as_str() == Some("NO_ROOM")).count(), 1);
        let asked = log.lock().expect("whole")[1].body["jobs"].as_array().expect("ids").len();
        assert_eq!(asked, 4, "one question, and only about those that wait");
    })
    .await;
}
