//! Queues: everybody reads them, and what administrators change goes to the leader.

use berth_common::message::{ADMIN as ADMIN_MESSAGE, HEADER_OWNER, Reply};
use berth_common::problem::Problem;
use berth_common::queue::Queue;
use berth_scheduler::core::rows::Rows;
use reqwest::Method;
use serde_json::{Value, json};

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
