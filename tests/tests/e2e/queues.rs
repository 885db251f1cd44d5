//! Queues: who approves, how much a user may have, how long a job may run.

use berth_tests::berth::{Berth, SHORT};
use berth_tests::setting;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn add(berth: &Berth, queue: Value) {
    let (status, body) = berth.post("/v1/queues", queue).await;
    assert_eq!(status, StatusCode::CREATED, "{body:#}");
}

fn spec(queue: &str, script: &str, gpus: u32) -> Value {
    json!({
        "image": setting("BERTH_TEST_IMAGE"), "queue": queue, "command": ["sh", "-c", script],
        "resources": {"gpus": gpus, "cpus": 0.25, "memory_mb": 64},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_wants_approval_has_every_job_wait_for_an_admin() {
    let berth = Berth::with_worker("1xT4").await;
    add(&berth, json!({"name": "checked", "approval": true})).await;
    let ann = berth.user("ann").await;
    let body = spec("checked", "true", 1).to_string();
    let (status, job) = berth.request(Method::POST, "/v1/jobs", &ann, Some(body)).await;
    assert_eq!((status, &job["status"]), (StatusCode::CREATED, &json!("unapproved")), "{job:#}");
    assert_eq!(job["reason"]["code"], "APPROVAL", "{job:#}");
    let id = job["id"].as_str().expect("an id");
    let approve = json!({"command": "approve"});
    let path = format!("/v1/jobs/{id}/commands");
    let (status, own) = berth.request(Method::POST, &path, &ann, Some(approve.to_string())).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{own:#}");
    let (status, command) = berth.command(id, approve).await;
    assert_eq!((status, &command["actor"]), (StatusCode::ACCEPTED, &json!("admin")), "{command:#}");
    berth.job_ends(id, "succeeded", SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_beyond_a_users_quota_waits_and_is_admitted_when_there_is_room() {
    let berth = Berth::with_worker("2xT4").await;
    add(&berth, json!({"name": "shared", "user_quota": {"T4": 1}})).await;
    let first = berth.submit(spec("shared", "trap 'exit 0' TERM; sleep 600 & wait", 1)).await;
    berth.job_is(&first, "running", SHORT).await;
    let second = berth.submit(spec("shared", "true", 1)).await;
    let job = berth.job(&second).await;
    let rule = (&job["status"], &job["reason"]["code"], &job["reason"]["rule"]);
    assert_eq!(rule, (&json!("unapproved"), &json!("APPROVAL"), &json!("user_quota")), "{job:#}");
    assert_eq!(berth.command(&first, json!({"command": "kill"})).await.0, StatusCode::ACCEPTED);
    let job = berth.job_ends(&second, "succeeded", SHORT).await;
    let (_, events) = berth.get(&format!("/v1/jobs/{second}/events")).await;
    let admitted = &events["items"][1];
    assert_eq!(
        (&admitted["from"], &admitted["actor"]),
        (&json!("unapproved"), &json!("scheduler")),
        "{job:#}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queues_time_limit_is_that_of_jobs_that_name_none() {
    let berth = Berth::with_worker("1xT4").await;
    add(&berth, json!({"name": "quick", "default_timeout_s": 1})).await;
    let id = berth.submit(spec("quick", "trap 'exit 0' TERM; sleep 600 & wait", 0)).await;
    let job = berth.job_ends(&id, "timed_out", SHORT).await;
    assert_eq!(job["spec"]["timeout_s"], Value::Null, "{job:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_are_made_changed_and_deleted_by_admins() {
    let berth = Berth::with_worker("1xT4").await;
    add(&berth, json!({"name": "nlp"})).await;
    add(&berth, json!({"name": "empty"})).await;
    assert_eq!(berth.post("/v1/queues", json!({"name": "nlp"})).await.0, StatusCode::CONFLICT);
    let ann = berth.user("ann").await;
    let body = json!({"name": "anns"}).to_string();
    let refused = berth.request(Method::POST, "/v1/queues", &ann, Some(body)).await;
    assert_eq!(refused.0, StatusCode::FORBIDDEN);
    let held = berth.submit(json!({"queue": "nlp", "hold": true, "resources": {"memory_mb": 64}})).await;

    let put = berth.as_admin(Method::PUT, "/v1/queues/nlp").json(&json!({"approval": true}));
    let queue: Value = put.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&queue["name"], &queue["approval"]), (&json!("nlp"), &json!(true)), "{queue:#}");
    assert_eq!(berth.get("/v1/queues/nlp").await.1, queue);
    let (_, list) = berth.request(Method::GET, "/v1/queues", &ann, None).await;
    let names: Vec<_> = list["items"].as_array().expect("a list").iter().map(|q| q["name"].clone()).collect();
    assert_eq!(names, ["default", "empty", "nlp"]);

    let delete = async |name: &str| {
        let request = berth.as_admin(Method::DELETE, &format!("/v1/queues/{name}"));
        request.send().await.expect("an answer").status()
    };
    assert_eq!(delete("empty").await, StatusCode::NO_CONTENT);
    assert_eq!(delete("empty").await, StatusCode::NOT_FOUND);
    assert_eq!(delete("default").await, StatusCode::CONFLICT);
    assert_eq!(delete("nlp").await, StatusCode::CONFLICT);
    assert_eq!(berth.command(&held, json!({"command": "kill"})).await.0, StatusCode::ACCEPTED);
    assert_eq!(delete("nlp").await, StatusCode::CONFLICT, "its history names it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admins_account_may_change_queues_over_amqp() {
    let berth = Berth::with_worker("1xT4").await;
    let client = berth.vhost.client().await;
    let properties = || {
        lapin::BasicProperties::default()
            .with_message_id("1".into())
            .with_user_id(client.user.as_str().into())
            .with_type("admin.v1".into())
    };
    if client.user != "admin" {
        let user = json!({"name": client.user, "role": "admin"});
        assert!(berth.post("/v1/users", user).await.0.is_success());
    }
    for (body, status) in [
        (json!({"do": "create_queue", "queue": {"name": "amqp"}}), 201),
        (json!({"do": "create_queue", "queue": {"name": "AMQP"}}), 422),
        (json!({"do": "create_queue"}), 400),
        (json!({"do": "delete_queue", "name": "amqp"}), 204),
        (json!({"do": "delete_device", "name": "nowhere"}), 404),
    ] {
        let reply = client.ask("berth.requests", "admin", body.to_string().as_bytes(), properties()).await;
        assert_eq!(reply["status"], status, "{body}: {reply:#}");
    }
}
