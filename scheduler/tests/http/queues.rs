//! Queues: everybody reads them, and what administrators change goes to the leader.

use berth_common::message::{ADMIN as ADMIN_MESSAGE, COMMAND, HEADER_OWNER, Reply, SUBMIT};
use berth_common::problem::Problem;
use berth_common::queue::{Member, MemberRole, Queue};
use berth_scheduler::core::rows::Rows;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::sample;
use crate::script::Heard;
use crate::stage::{ADMIN, Stage, read, with_stage};

/// Says yes to everything but what is about `taken`.
fn leader(heard: &Heard) -> Option<Reply> {
    if heard.kind != ADMIN_MESSAGE {
        return None;
    }
    let queue = &heard.body["queue"];
    Some(match heard.body["do"].as_str() {
        _ if queue["name"] == "taken" => {
            let problem = Problem::new(409, "there is one");
            Reply { status: 409, body: serde_json::to_value(problem).expect("JSON") }
        }
        Some("create_queue") => Reply { status: 201, body: queue.clone() },
        Some("replace_queue") => Reply { status: 200, body: queue.clone() },
        _ => Reply { status: 204, body: Value::Null },
    })
}

async fn put(stage: &Stage, path: &str, body: Value) -> (u16, Value) {
    read(stage.send(Method::PUT, path, |request| request.bearer_auth(ADMIN).json(&body)).await).await
}

#[tokio::test]
async fn administrators_change_queues_in_their_own_name() {
    with_stage(async |stage| {
        let log = stage.lead(leader).await;
        let send = |request: reqwest::RequestBuilder| {
            request.bearer_auth(ADMIN).json(&json!({"name": "nlp", "approval": true}))
        };
        let response = stage.send(Method::POST, "/v1/queues", send).await;
        assert_eq!(response.headers()["location"], "/v1/queues/nlp");
        let (status, queue) = read(response).await;
        assert_eq!((status, &queue["approval"], &queue["weight"]), (201, &json!(true), &json!(1)));
        let heard = log.lock().expect("whole")[0].clone();
        assert_eq!(
            (heard.headers[HEADER_OWNER].as_str(), &heard.body["do"]),
            ("admin", &json!("create_queue"))
        );

        let (status, queue) = put(stage, "/v1/queues/nlp", json!({"default_timeout_s": 5})).await;
        assert_eq!((status, &queue["name"], &queue["default_timeout_s"]), (200, &json!("nlp"), &json!(5)));
        let (status, problem) = put(stage, "/v1/queues/nlp", json!({"name": "other"})).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/name")));
        assert_eq!(stage.delete(ADMIN, "/v1/queues/nlp").await, (204, Value::Null));
        assert_eq!(stage.post(ADMIN, "/v1/queues", json!({"name": "taken"})).await.0, 409);
        let (status, problem) = stage.post(ADMIN, "/v1/queues", json!({"name": "a", "color": 1})).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/color")));

        let ann = stage.user("ann").await;
        assert_eq!(stage.post(&ann, "/v1/queues", json!({"name": "mine"})).await.0, 403);
        assert_eq!(stage.delete(&ann, "/v1/queues/nlp").await.0, 403);
        assert_eq!(stage.delete(&ann, "/v1/devices/dev-1").await.0, 403);
        assert_eq!(stage.delete(ADMIN, "/v1/devices/dev-1").await.0, 204);
        let told = log.lock().expect("whole").last().expect("it was told").body.clone();
        assert_eq!(told, json!({"do": "delete_device", "name": "dev-1"}));
    })
    .await;
}

#[tokio::test]
async fn an_admin_of_a_queue_sees_and_commands_its_jobs_and_no_others() {
    with_stage(async |stage| {
        let (carol, bob) = (stage.user("carol").await, stage.user("bob").await);
        let member = |user: &str, role| Member { user: user.into(), role };
        let members = vec![member("bob", MemberRole::Member), member("carol", MemberRole::Admin)];
        let mut rows = Rows { new_queues: vec![Queue { members, ..Queue::new("nlp") }], ..sample::cluster() };
        rows.new_jobs.iter_mut().take(2).for_each(|job| job.spec.queue = "nlp".into());
        let [nlp, other] = [rows.new_jobs[0].id, rows.new_jobs[3].id];
        stage.commit(&rows).await;
        let view = json!({"status": "done"});
        let log = stage
            .lead(move |heard| (heard.kind == COMMAND).then(|| Reply { status: 202, body: view.clone() }))
            .await;

        let (_, queue) = stage.get(&bob, "/v1/queues/nlp").await;
        assert_eq!(queue["members"][1], json!({"user": "carol", "role": "admin"}), "{queue}");
        let count = async |token: &str, path: &str| {
            stage.get(token, path).await.1["items"].as_array().map(Vec::len).expect("items")
        };
        for (token, of_queue, of_all) in [(ADMIN, 2, 5), (&carol, 2, 0), (&bob, 0, 0)] {
            assert_eq!(count(token, "/v1/jobs?queue=nlp").await, of_queue);
            assert_eq!(count(token, "/v1/jobs").await, of_all);
            assert_eq!(count(token, "/v1/jobs?queue=default").await, of_all - of_all.min(2));
        }
        // Named by how their ids begin, by their array or by their owner, they are found as well.
        let prefix = format!("/v1/jobs?id_prefix={}", &nlp.to_string()[..35]);
        let array = format!("/v1/jobs?array={}", sample::ARRAY);
        for path in [prefix.as_str(), array.as_str(), "/v1/jobs?owner=ann"] {
            assert_eq!(count(&carol, path).await, 2, "{path}");
            assert_eq!(count(&bob, path).await, 0, "{path}");
        }
        assert_eq!(count(&carol, "/v1/jobs?owner=ann&queue=default").await, 0);
        let waiting = async |token: &str, query: &str| {
            let (_, summary) = stage.get(token, &format!("/v1/jobs:summary{query}")).await;
            (summary["status"]["unapproved"].clone(), summary["status"]["pending"].clone())
        };
        let of_array = format!("?array={}", sample::ARRAY);
        assert_eq!(waiting(&carol, &of_array).await, (json!(1), json!(1)));
        assert_eq!(waiting(&bob, &of_array).await, (json!(0), json!(0)));
        assert_eq!(waiting(&carol, "").await, (json!(0), json!(0)), "her own");
        let statuses = async |token: &str, job: Uuid| {
            let (shown, _) = stage.get(token, &format!("/v1/jobs/{job}")).await;
            let hold = json!({"command": "hold"});
            (shown, stage.post(token, &format!("/v1/jobs/{job}/commands"), hold).await.0)
        };
        assert_eq!(statuses(&carol, nlp).await, (200, 202));
        assert_eq!(statuses(&carol, other).await, (404, 404));
        assert_eq!(statuses(&bob, nlp).await, (404, 404));
        let both = json!({"command": "hold", "jobs": [other, nlp]});
        let (_, bulk) = stage.post(&carol, "/v1/commands", both).await;
        assert_eq!(bulk["items"][0]["error"]["status"], 404, "{bulk}");
        assert_eq!(bulk["items"][1]["command"], json!({"status": "done"}), "{bulk}");
        assert_eq!(log.lock().expect("whole").iter().filter(|heard| heard.kind == COMMAND).count(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_queue_that_is_full_says_when_to_come_again() {
    with_stage(async |stage| {
        let full = serde_json::to_value(Problem::new(429, "the queue is full")).expect("JSON");
        stage
            .lead(move |heard| (heard.kind == SUBMIT).then(|| Reply { status: 429, body: full.clone() }))
            .await;
        let send = |request: reqwest::RequestBuilder| request.bearer_auth(ADMIN).json(&json!({"image": "x"}));
        let response = stage.send(Method::POST, "/v1/jobs", send).await;
        assert_eq!(response.headers()["retry-after"], "5");
        assert_eq!(read(response).await.1["detail"], "the queue is full");
    })
    .await;
}

#[tokio::test]
async fn everybody_reads_them_in_pages() {
    with_stage(async |stage| {
        let queues = ["a", "b"].map(|name| Queue { approval: true, ..Queue::new(name) });
        stage.commit(&Rows { new_queues: queues.to_vec(), ..sample::cluster() }).await;
        let ann = stage.user("ann").await;
        let (_, page) = stage.get(&ann, "/v1/queues?limit=2").await;
        let names = |page: &Value| {
            page["items"].as_array().expect("items").iter().map(|q| q["name"].clone()).collect::<Vec<_>>()
        };
        assert_eq!((names(&page), &page["next_cursor"]), (vec![json!("a"), json!("b")], &json!("b")));
        let (_, page) = stage.get(&ann, "/v1/queues?limit=2&cursor=b").await;
        assert_eq!((names(&page), &page["next_cursor"]), (vec![json!("default")], &Value::Null));
        assert_eq!(stage.get(&ann, "/v1/queues/b").await.1["approval"], true);
        assert_eq!(stage.get(&ann, "/v1/queues/c").await.0, 404);
    })
    .await;
}

#[tokio::test]
async fn without_a_leader_a_change_is_accepted() {
    with_stage(async |stage| {
        let (status, answer) = stage.post(ADMIN, "/v1/queues", json!({"name": "later"})).await;
        assert_eq!((status, answer), (202, json!({"name": "later", "status": "accepted"})));
    })
    .await;
}
