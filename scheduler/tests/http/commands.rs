//! Commands go to the leader, for one job or for many.

use berth_common::message::{COMMAND, HEADER_OWNER, Reply};
use berth_common::problem::Problem;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::sample;
use crate::script::Heard;
use crate::stage::{ADMIN, read, with_stage};

/// Takes every command but those on the exited job.
fn leader(heard: &Heard) -> Option<Reply> {
    (heard.kind == COMMAND).then(|| {
        if heard.body["job"] == json!(Uuid::from_u128(5)) {
            let problem = Problem::new(409, "the job has exited");
            Reply { status: 409, body: serde_json::to_value(problem).expect("JSON") }
        } else {
            let id = heard.message_id.parse::<Uuid>().expect("a command's id is a UUID");
            let view = berth_common::command::CommandView { id, ..sample::command(1, 4) };
            Reply { status: 202, body: serde_json::to_value(view).expect("JSON") }
        }
    })
}

#[tokio::test]
async fn a_command_is_told_in_the_name_of_who_gives_it() {
    with_stage(async |stage| {
        stage.commit(&sample::cluster()).await;
        let log = stage.lead(leader).await;
        let ann = stage.user("ann").await;
        let path = format!("/v1/jobs/{}/commands", Uuid::from_u128(4));
        let send = |request: reqwest::RequestBuilder| {
            let body = json!({"command": "kill", "reason": "enough", "grace_s": 3});
            request.bearer_auth(&ann).header("idempotency-key", "once").json(&body)
        };
        let response = stage.send(Method::POST, &path, send).await;
        let location = response.headers()["location"].to_str().expect("text").to_owned();
        let (status, view) = read(response).await;
        assert_eq!((status, &view["command"]), (202, &json!("kill")), "{view}");
        assert_eq!(location, format!("/v1/commands/{}", view["id"].as_str().expect("an id")));
        let again = read(stage.send(Method::POST, &path, send).await).await.1;
        assert_eq!(again["id"], view["id"], "the same key is the same command");

        let heard = log.lock().expect("whole")[0].clone();
        assert_eq!(heard.headers[HEADER_OWNER], "ann");
        assert_eq!(heard.body["body"], json!({"command": "kill", "reason": "enough", "grace_s": 3}));

        let exited = format!("/v1/jobs/{}/commands", Uuid::from_u128(5));
        let (status, problem) = stage.post(&ann, &exited, json!({"command": "kill"})).await;
        assert_eq!((status, &problem["detail"]), (409, &json!("the job has exited")));
        assert_eq!(stage.post(&ann, &exited, json!({"command": "priority"})).await.0, 422);
    })
    .await;
}

#[tokio::test]
async fn many_jobs_are_answered_in_their_order() {
    with_stage(async |stage| {
        stage.commit(&sample::cluster()).await;
        stage.lead(leader).await;
        let jobs = [5, 99, 1, 4].map(Uuid::from_u128);
        let body = json!({"command": "hold", "jobs": jobs, "reason": "maintenance"});
        let (status, answer) = stage.post(ADMIN, "/v1/commands", body).await;
        assert_eq!(status, 200, "{answer}");
        let items = answer["items"].as_array().expect("items");
        let short: Vec<_> =
            items.iter().map(|item| (&item["job"], item["error"]["status"].as_u64())).collect();
        let expected = jobs.map(|job| json!(job));
        assert_eq!(
            short,
            [
                (&expected[0], Some(409)),
                (&expected[1], Some(404)),
                (&expected[2], None),
                (&expected[3], None)
            ]
        );
        assert!(items[2]["command"]["id"].is_string());
        let many = vec![Uuid::nil(); 1001];
        assert_eq!(stage.post(ADMIN, "/v1/commands", json!({"command": "kill", "jobs": many})).await.0, 422);
    })
    .await;
}

#[tokio::test]
async fn stored_commands_are_shown() {
    with_stage(async |stage| {
        let mut rows = sample::cluster();
        rows.new_commands.extend((301..304).map(|n| sample::command(n, 4)));
        stage.commit(&rows).await;
        let path = format!("/v1/jobs/{}/commands", Uuid::from_u128(4));
        let (_, first) = stage.get(ADMIN, &format!("{path}?limit=3")).await;
        assert_eq!(first["items"].as_array().map(Vec::len), Some(3));
        assert_eq!(first["items"][0]["id"], json!(Uuid::from_u128(303)));
        let cursor = first["next_cursor"].as_str().expect("there is more");
        let (_, second) = stage.get(ADMIN, &format!("{path}?limit=3&cursor={cursor}")).await;
        assert_eq!(second["items"][0]["id"], json!(Uuid::from_u128(300)));
        let (_, one) = stage.get(ADMIN, &format!("/v1/commands/{}", Uuid::from_u128(300))).await;
        assert_eq!((&one["status"], &one["argument"]["grace_s"]), (&json!("pending"), &json!(5)));
    })
    .await;
}

#[tokio::test]
async fn an_array_is_commanded_by_its_own_id() {
    with_stage(async |stage| {
        stage.commit(&sample::cluster()).await;
        stage.lead(leader).await;
        let ann = stage.user("ann").await;
        let given = async |verb: &str| {
            let body = json!({"command": verb, "array": sample::ARRAY});
            let (status, answer) = stage.post(&ann, "/v1/commands", body).await;
            assert_eq!(status, 200, "{answer}");
            answer["items"]
                .as_array()
                .expect("items")
                .iter()
                .map(|item| item["job"].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            given("kill").await,
            [1, 2, 3, 4].map(|n| json!(Uuid::from_u128(n))),
            "those that are not over"
        );
        assert_eq!(given("retry").await, [json!(Uuid::from_u128(5))], "those that ended without success");

        let bob = stage.user("bob").await;
        let body = json!({"command": "kill", "array": sample::ARRAY});
        assert_eq!(stage.post(&bob, "/v1/commands", body).await.0, 404);
        for body in
            [json!({"command": "kill"}), json!({"command": "kill", "array": sample::ARRAY, "jobs": []})]
        {
            assert_eq!(stage.post(&ann, "/v1/commands", body).await.0, 422);
        }
        for path in ["", "/commands", "/events"] {
            let (status, problem) = stage.get(&ann, &format!("/v1/jobs/{}{path}", sample::ARRAY)).await;
            let detail = problem["detail"].as_str().unwrap_or_default();
            assert!(status == 404 && detail.contains("GET /v1/jobs?array="), "{problem}");
        }
    })
    .await;
}

#[tokio::test]
async fn devices_are_commanded_by_administrators() {
    with_stage(async |stage| {
        stage.commit(&sample::cluster()).await;
        let log = stage.lead(leader).await;
        let path = "/v1/devices/dev-100/commands";
        let body = json!({"command": "drain", "now": true, "note": "new fans"});
        let (status, view) = stage.post(ADMIN, path, body.clone()).await;
        assert_eq!(status, 202, "{view}");
        let heard = log.lock().expect("whole")[0].body.clone();
        assert_eq!(heard, json!({"device": "dev-100", "body": body}));

        let refused = async |path: &str, body: serde_json::Value| stage.post(ADMIN, path, body).await;
        let (status, problem) = refused(path, json!({"command": "kill"})).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/command")));
        let job = format!("/v1/jobs/{}/commands", Uuid::from_u128(4));
        let (status, problem) = refused(&job, json!({"command": "drain"})).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/command")));
        assert_eq!(refused("/v1/devices/nowhere/commands", json!({"command": "resume"})).await.0, 404);
        let ann = stage.user("ann").await;
        assert_eq!(stage.post(&ann, path, json!({"command": "resume"})).await.0, 403);
    })
    .await;
}
