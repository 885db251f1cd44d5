//! Submissions go to the leader, and its answer is the answer.

use berth_common::id::job_id_for_key;
use berth_common::message::{HEADER_DEADLINE, HEADER_JOB, HEADER_OWNER, Reply, SUBMIT};
use berth_common::problem::Problem;
use berth_common::time;
use berth_scheduler::core::rows::Rows;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::sample;
use crate::script::Heard;
use crate::stage::{ADMIN, Stage, read, with_stage};

fn answer(status: u16, body: Value) -> Option<Reply> {
    Some(Reply { status, body })
}

fn problem(status: u16) -> Option<Reply> {
    answer(status, serde_json::to_value(Problem::new(status, "said the leader")).expect("JSON"))
}

async fn submit(stage: &Stage, token: &str, key: Option<&str>, body: Value) -> reqwest::Response {
    let send = |request: reqwest::RequestBuilder| {
        let request = request.bearer_auth(token).json(&body);
        match key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        }
    };
    stage.send(Method::POST, "/v1/jobs", send).await
}

#[tokio::test]
async fn the_leader_is_told_who_asks_and_its_yes_gives_the_job() {
    with_stage(async |stage| {
        let ann = stage.user("ann").await;
        let id = job_id_for_key("ann", "default", "night/7");
        stage
            .commit(&Rows {
                new_jobs: vec![berth_scheduler::core::rows::JobRow { id, ..sample::job(1) }],
                ..Rows::default()
            })
            .await;
        let log = stage
            .lead(|heard| {
                (heard.kind == SUBMIT)
                    .then(|| Reply { status: 201, body: json!({"id": heard.headers[HEADER_JOB]}) })
            })
            .await;
        let response = submit(stage, &ann, Some("night/7"), json!({"image": "i"})).await;
        assert_eq!(response.headers()["location"], format!("/v1/jobs/{id}").as_str());
        let (status, job) = read(response).await;
        assert_eq!((status, &job["id"], &job["owner"]), (201, &json!(id), &json!("ann")), "{job}");

        let heard: Heard = log.lock().expect("whole")[0].clone();
        assert_eq!((heard.kind.as_str(), heard.message_id.as_str()), (SUBMIT, "night/7"));
        assert_eq!(heard.headers[HEADER_OWNER], "ann");
        assert_eq!(heard.headers[HEADER_JOB], id.to_string());
        let deadline: i64 = heard.headers[HEADER_DEADLINE].parse().expect("a number");
        assert!((deadline - time::now().as_millisecond()).abs() < 60_000);
        assert_eq!(heard.body["priority"], 100, "the specification has its defaults");
    })
    .await;
}

#[tokio::test]
async fn the_leaders_no_is_the_answer() {
    with_stage(async |stage| {
        stage
            .lead(|heard| {
                problem(heard.body["priority"].as_u64().map_or(500, |p| u16::try_from(p).unwrap_or(500)))
            })
            .await;
        for status in [409, 422, 403] {
            let body = json!({"image": "i", "priority": status});
            let (found, problem) = read(submit(stage, ADMIN, None, body).await).await;
            assert_eq!((found, &problem["detail"]), (status, &json!("said the leader")));
        }
    })
    .await;
}

#[tokio::test]
async fn a_leader_that_says_nothing_leaves_it_accepted() {
    with_stage(async |stage| {
        stage.lead(|_| None).await;
        let response = submit(stage, ADMIN, None, json!({"image": "i"})).await;
        let location = response.headers()["location"].to_str().expect("text").to_owned();
        let (status, body) = read(response).await;
        assert_eq!((status, &body["status"]), (202, &json!("accepted")));
        assert_eq!(location, format!("/v1/jobs/{}", body["id"].as_str().expect("an id")));
        let (status, problem) = stage.get(ADMIN, &location).await;
        assert_eq!(status, 404);
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("202")), "{problem}");
    })
    .await;
}

#[tokio::test]
async fn before_any_leader_was_there_nothing_is_accepted() {
    with_stage(async |stage| {
        stage.break_broker().await;
        stage.until_ready_is(503).await;
        stage.virgin_broker().await;
        stage.until_ready_is(200).await;
        for round in 0..3 {
            let began = std::time::Instant::now();
            let response = submit(stage, ADMIN, None, json!({"image": "i"})).await;
            assert!(response.headers().contains_key("retry-after"), "{round}");
            let (status, problem) = read(response).await;
            assert_eq!(status, 503, "{round}: {problem}");
            assert!(began.elapsed().as_secs() < 5, "{round}: {:?} {problem}", began.elapsed());
        }
    })
    .await;
}

#[tokio::test]
async fn keys_and_priorities_are_checked_here() {
    with_stage(async |stage| {
        let log = stage.lead(|_| answer(200, Value::Null)).await;
        let ann = stage.user("ann").await;
        for key in ["a b", &"k".repeat(256)] {
            let (status, problem) = read(submit(stage, &ann, Some(key), json!({"image": "i"})).await).await;
            assert_eq!(status, 400, "{problem}");
        }
        let (status, problem) =
            read(submit(stage, &ann, None, json!({"image": "i", "priority": 201})).await).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/priority")));
        assert!(log.lock().expect("whole").is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_batch_is_answered_item_by_item() {
    with_stage(async |stage| {
        let script = |heard: &Heard| match heard.body["name"].as_str() {
            Some("no") => problem(409),
            _ => answer(201, Value::Null),
        };
        let log = stage.lead(script).await;
        let items = json!([{"image": "i"}, {"image": 3}, {"image": "i", "name": "no"}, 7, {"image": "j"}]);
        let send = |request: reqwest::RequestBuilder| {
            request.bearer_auth(ADMIN).header("idempotency-key", "k").json(&items)
        };
        let (status, answers) = read(stage.send(Method::POST, "/v1/jobs:batch", send).await).await;
        assert_eq!(status, 200);
        let id = |index: usize| json!(job_id_for_key("admin", "default", &format!("k/{index}")));
        assert_eq!((&answers[0]["id"], &answers[4]["id"]), (&id(0), &id(4)));
        assert_eq!(answers[1]["error"]["errors"][0]["pointer"], "/image");
        assert_eq!(answers[2]["error"]["status"], 409);
        assert_eq!(answers[3]["error"]["status"], 422);
        let keys: Vec<String> =
            log.lock().expect("whole").iter().map(|heard| heard.message_id.clone()).collect();
        assert_eq!(keys, ["k/0", "k/2", "k/4"]);
    })
    .await;
}

#[tokio::test]
async fn a_batch_of_lines_is_submitted_quickly() {
    with_stage(async |stage| {
        stage.lead(|_| answer(201, Value::Null)).await;
        let lines = "{\"image\":\"i\"}\n".repeat(2000);
        let send = |request: reqwest::RequestBuilder| {
            request.bearer_auth(ADMIN).header("content-type", "application/x-ndjson").body(lines)
        };
        let began = std::time::Instant::now();
        let (status, answers) = read(stage.send(Method::POST, "/v1/jobs:batch", send).await).await;
        let answers = answers.as_array().expect("a list");
        assert_eq!((status, answers.len()), (200, 2000));
        for answer in answers {
            assert!(answer["id"].as_str().is_some_and(|id| id.parse::<Uuid>().is_ok()), "{answer}");
        }
        assert!(began.elapsed().as_secs() < 15, "{:?}", began.elapsed());
    })
    .await;
}

#[tokio::test]
async fn an_array_is_answered_with_its_id_and_the_ids_of_its_jobs() {
    with_stage(async |stage| {
        stage
            .lead(|heard| {
                if heard.body["name"] == "old" { answer(200, Value::Null) } else { answer(201, Value::Null) }
            })
            .await;
        let id = job_id_for_key("admin", "default", "k");
        let body = |name: &str| json!({"image": "i", "name": name, "array": {"count": 3}});
        let response = submit(stage, ADMIN, Some("k"), body("new")).await;
        assert_eq!(response.headers()["location"], format!("/v1/jobs?array={id}").as_str());
        let (status, array) = read(response).await;
        let jobs: Vec<Uuid> = (0..3).map(|index| berth_common::id::array_element_id(id, index)).collect();
        assert_eq!((status, &array), (201, &json!({"array": id, "jobs": jobs})));
        assert_eq!(read(submit(stage, ADMIN, Some("k"), body("old")).await).await, (200, array.clone()));

        let items = json!([{"image": "i"}, {"image": "i", "matrix": {"A": ["1", "2"]}}]);
        let (_, answers) = stage.post(ADMIN, "/v1/jobs:batch", items).await;
        assert!(answers[0]["id"].is_string() && answers[1]["array"].is_string(), "{answers}");
        assert_eq!(answers[1]["jobs"].as_array().map(Vec::len), Some(2));
        let large = json!({"image": "i", "array": {"count": 6000}});
        assert_eq!(stage.post(ADMIN, "/v1/jobs:batch", json!([large, large])).await.0, 422);
    })
    .await;
}
