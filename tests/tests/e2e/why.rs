//! Why a job waits, asked by whoever may see it; who finds and who approves the jobs of a queue.

use berth_tests::berth::{Berth, SHORT};
use berth_tests::setting;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Runs until it is stopped.
const LONG: &str = "trap 'exit 0' TERM; sleep 600 & wait";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_is_told_of_what_waits_runs_and_is_over() {
    let berth = Berth::with_worker("2xT4").await;
    let first = berth.submit_script(LONG, 2).await;
    berth.job_is(&first, "running", SHORT).await;
    let second = berth.submit_script("exit 3", 1).await;
    let (status, why) = berth.get(&format!("/v1/jobs/{second}/why")).await;
    assert_eq!((status, &why["id"], &why["status"]), (StatusCode::OK, &json!(second), &json!("pending")));
    let reason = why["reason"]["text"].as_str().expect("a reason");
    assert!(why["text"].as_str().is_some_and(|text| text.starts_with(reason)), "{why:#}");
    assert!(why["changes"].is_array(), "{why:#}");
    let told = berth.cli(&["why", &second[..14]], 0);
    assert!(told.starts_with(reason) && told.contains("position 1"), "{told}");

    let text = async |id: &str| berth.get(&format!("/v1/jobs/{id}/why")).await.1["text"].clone();
    let runs = text(&first).await;
    assert!(runs.as_str().is_some_and(|text| text.starts_with("It does not wait: it runs on")), "{runs}");
    assert_eq!(berth.cli(&["priority", &second, "200"], 0), format!("{second} priority: done"));
    assert_eq!(berth.job(&second).await["priority"], 200);
    assert_eq!(berth.command(&first, json!({"command": "kill"})).await.0, StatusCode::ACCEPTED);
    berth.job_ends(&second, "failed", SHORT).await;
    let over = text(&second).await;
    assert!(over.as_str().is_some_and(|text| text.contains("it has failed with exit code 3")), "{over}");

    let array = berth.cli(
        &["submit", "--image", &setting("BERTH_TEST_IMAGE"), "--memory", "64m", "--array", "2", "--hold"],
        0,
    );
    let told = berth.cli(&["why", &array], 0);
    assert!(told.starts_with("An array of 2 jobs: 2 wait") && told.contains("index 0"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queues_admin_finds_and_approves_what_is_not_their_own() {
    let berth = Berth::with_worker("1xT4").await;
    let (ann, bob) = (berth.user("ann").await, berth.user("bob").await);
    let members = json!([{"user": "ann", "role": "member"}, {"user": "bob", "role": "admin"}]);
    let queue = json!({"name": "checked", "approval": true, "members": members});
    assert_eq!(berth.post("/v1/queues", queue).await.0, StatusCode::CREATED);
    let submit = async |token: &str| {
        let spec = json!({"image": "i", "queue": "checked"}).to_string();
        let (status, job) = berth.request(Method::POST, "/v1/jobs", token, Some(spec)).await;
        assert_eq!(status, StatusCode::CREATED, "{job:#}");
        job["id"].as_str().expect("an id").to_owned()
    };
    let (anns, bobs) = (submit(&ann).await, submit(&bob).await);
    let found = async |token: &str, query: String| {
        let (_, page) = berth.request(Method::GET, &format!("/v1/jobs?{query}"), token, None).await;
        page["items"].as_array().map(|items| items.iter().map(|job| job["id"].clone()).collect::<Vec<_>>())
    };
    let prefix = |id: &str| format!("id_prefix={}", &id[..30]);
    assert_eq!(found(&bob, prefix(&anns)).await, Some(vec![json!(anns)]));
    assert_eq!(found(&ann, prefix(&bobs)).await, Some(Vec::<Value>::new()));

    let approve = async |token: &str, id: &str| {
        let body = json!({"command": "approve"}).to_string();
        berth.request(Method::POST, &format!("/v1/jobs/{id}/commands"), token, Some(body)).await.0
    };
    assert_eq!(approve(&bob, &bobs).await, StatusCode::FORBIDDEN);
    assert_eq!(approve(&bob, &anns).await, StatusCode::ACCEPTED);
    let (_, why) = berth.request(Method::GET, &format!("/v1/jobs/{bobs}/why"), &bob, None).await;
    assert_eq!(why["reason"]["code"], "APPROVAL", "{why:#}");
}
