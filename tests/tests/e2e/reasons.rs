//! Every reason for which a job can wait, as `berth why` tells it, and what would help.

use std::net::TcpListener;

use berth_tests::berth::{Berth, SHORT};
use berth_tests::until::until;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Runs until it is stopped.
const LONG: &str = "trap 'exit 0' TERM; sleep 600 & wait";

/// A job that takes hardly anything but GPUs, with more fields.
async fn job(berth: &Berth, gpus: u32, more: Value) -> String {
    let mut spec = json!({
        "command": ["sh", "-c", LONG],
        "resources": {"gpus": gpus, "cpus": 0.05, "memory_mb": 16},
    });
    let fields = spec.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    berth.submit(spec).await
}

async fn running(berth: &Berth, gpus: u32, more: Value) -> String {
    let id = job(berth, gpus, more).await;
    berth.job_is(&id, "running", SHORT).await;
    id
}

/// Waits until the reason has this code; the answer of `/why`. `berth why` says the same.
async fn why(berth: &Berth, id: &str, code: &str) -> Value {
    let why = until(SHORT, &format!("the reason is {code}"), async || {
        let (_, why) = berth.get(&format!("/v1/jobs/{id}/why")).await;
        if why["reason"]["code"] == code { Ok(why) } else { Err(why) }
    })
    .await;
    let told = berth.cli(&["why", id], 0);
    let text = why["reason"]["text"].as_str().expect("a reason has a text");
    // Numbers change from second to second.
    let words = text.split(|c: char| c.is_ascii_digit()).next().unwrap_or(text);
    assert!(told.contains(words), "{told}\n{text}");
    why
}

fn change<'a>(why: &'a Value, field: &str) -> &'a Value {
    let changes = why["changes"].as_array().expect("a list");
    changes.iter().find(|change| change["field"] == field).map_or(&Value::Null, |change| &change["value"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_turns_and_promises() {
    let mut berth = Berth::with_worker("4xT4").await;
    running(&berth, 3, json!({"timeout_s": 1200})).await;

    let four = job(&berth, 4, json!({"timeout_s": 1200})).await;
    let told = why(&berth, &four, "RESERVED").await;
    assert!(told["start_by"].is_string() && told["position"] == 1, "{told:#}");
    assert_eq!(change(&told, "/resources/gpus"), &json!(1), "{told:#}");

    let longer = job(&berth, 1, json!({"timeout_s": 86400})).await;
    let told = why(&berth, &longer, "WOULD_DELAY").await;
    assert_eq!(told["reason"]["job"], json!(four), "{told:#}");
    let limit = change(&told, "/timeout_s").as_u64().expect("a shorter limit helps");
    let body = json!({"command": "timeout", "value": limit});
    assert_eq!(berth.command(&longer, body).await.0, StatusCode::ACCEPTED);
    berth.job_is(&longer, "running", SHORT).await;

    let two = job(&berth, 2, json!({"timeout_s": 86400})).await;
    let told = why(&berth, &two, "CAPACITY").await;
    assert_eq!((&told["reason"]["need"], &told["reason"]["free"]), (&json!(2), &json!(0)), "{told:#}");
    assert!(told["reason"]["earliest"].is_string(), "{told:#}");

    berth.add_worker("2xT4", &[]).await;
    berth.job_is(&two, "running", SHORT).await;
    for id in [&longer, &two] {
        assert_eq!(berth.command(id, json!({"command": "kill"})).await.0, StatusCode::ACCEPTED);
        berth.job_ends(id, "killed", SHORT).await;
    }
    // Not where the four are promised, for it runs for longer.
    running(&berth, 1, json!({"timeout_s": 86400})).await;
    let two = job(&berth, 2, json!({"timeout_s": 1200})).await;
    let told = why(&berth, &two, "FRAGMENTED").await;
    assert_eq!(change(&told, "/resources/gpus"), &json!(1), "{told:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_queues() {
    let berth = Berth::with_worker("2xT4").await;
    for queue in [
        json!({"name": "capped", "quota": {"T4": 1}}),
        json!({"name": "strict", "policy": "fifo"}),
        json!({"name": "other"}),
        json!({"name": "checked", "approval": true}),
    ] {
        let (status, body) = berth.post("/v1/queues", queue).await;
        assert_eq!(status, StatusCode::CREATED, "{body:#}");
    }
    running(&berth, 1, json!({"queue": "capped", "timeout_s": 600})).await;
    let capped = job(&berth, 1, json!({"queue": "capped"})).await;
    let told = why(&berth, &capped, "QUOTA").await;
    assert_eq!((&told["reason"]["used"], &told["reason"]["cap"]), (&json!(1), &json!(1)), "{told:#}");
    assert_eq!(change(&told, "/preemptible"), &json!(true), "{told:#}");
    // A quota below what is used stops nobody, and lets nobody start.
    let stricter = json!({"name": "capped", "quota": {"T4": 0}});
    let request = berth.as_admin(Method::PUT, "/v1/queues/capped").json(&stricter);
    assert_eq!(request.send().await.expect("an answer").status(), StatusCode::OK);
    let told = why(&berth, &capped, "QUOTA").await;
    assert_eq!((&told["reason"]["used"], &told["reason"]["cap"]), (&json!(1), &json!(0)), "{told:#}");

    let checked = job(&berth, 1, json!({"queue": "checked"})).await;
    why(&berth, &checked, "APPROVAL").await;

    let blocks = job(&berth, 2, json!({"queue": "strict"})).await;
    why(&berth, &blocks, "RESERVED").await;
    let behind = job(&berth, 0, json!({"queue": "strict"})).await;
    let told = why(&berth, &behind, "ORDER").await;
    assert_eq!((&told["reason"]["ahead"], &told["position"]), (&json!(1), &json!(2)), "{told:#}");

    let turn = job(&berth, 2, json!({"queue": "capped", "preemptible": true})).await;
    why(&berth, &turn, "CAPACITY").await;
    let turn = job(&berth, 2, json!({"queue": "other", "timeout_s": 600})).await;
    let told = why(&berth, &turn, "QUEUE_TURN").await;
    assert_eq!(told["reason"]["serving"], "strict", "{told:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_before_the_turn_and_after_it() {
    let berth = Berth::with_worker("1xT4").await;
    let held = job(&berth, 0, json!({"hold": true})).await;
    why(&berth, &held, "HELD").await;
    let after = job(&berth, 0, json!({"after": [held]})).await;
    let told = why(&berth, &after, "DEPENDENCY").await;
    assert_eq!(told["reason"]["job"], json!(held), "{told:#}");
    let fails = job(&berth, 0, json!({"command": ["false"], "retries": 3, "backoff_s": 600})).await;
    let told = why(&berth, &fails, "BACKOFF").await;
    assert!(told["reason"]["until"].is_string(), "{told:#}");

    // A registry that takes connections and never says a word.
    let registry = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = registry.local_addr().expect("it has an address").port();
    let image = format!("127.0.0.1:{port}/never:1");
    let fetched = job(&berth, 0, json!({"image": image})).await;
    let told = why(&berth, &fetched, "IMAGE").await;
    assert_eq!(told["reason"]["image"], json!(image), "{told:#}");

    let device = berth.workers[0].device.clone();
    berth.cli(&["drain", &device], 0);
    let nowhere = job(&berth, 1, json!({})).await;
    let told = why(&berth, &nowhere, "DEVICE_DOWN").await;
    assert_eq!(told["reason"]["draining"], 1, "{told:#}");
    drop(registry);
}
