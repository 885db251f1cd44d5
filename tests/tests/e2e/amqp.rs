//! Clients that speak AMQP themselves, and messages that nobody can read.

use berth_tests::berth::{Berth, SHORT};
use berth_tests::until::until;
use lapin::BasicProperties;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_submitted_over_amqp_runs_for_the_account_that_sent_it() {
    let berth = Berth::with_worker("1xT4").await;
    let client = berth.vhost.client().await;
    // The tests' account is also Berth's user.
    if client.user != "admin" {
        let user = json!({"name": client.user, "role": "admin"});
        assert!(berth.post("/v1/users", user).await.0.is_success());
    }
    let image = berth_tests::setting("BERTH_TEST_IMAGE");
    let body = json!({"image": image, "command": ["true"], "resources": {"memory_mb": 64}}).to_string();
    let properties = || {
        BasicProperties::default()
            .with_message_id("amqp-1".into())
            .with_user_id(client.user.as_str().into())
            .with_type("job.submit.v1".into())
    };
    let reply = client.ask("berth.requests", "job.submit", body.as_bytes(), properties()).await;
    assert_eq!(reply["status"], 201, "{reply:#}");
    let id = reply["body"]["id"].as_str().expect("an id").to_owned();
    let again = client.ask("berth.requests", "job.submit", body.as_bytes(), properties()).await;
    assert_eq!((&again["status"], &again["body"]["id"]), (&json!(200), &json!(id)), "message_id is the key");
    let job = berth.job_ends(&id, "succeeded", SHORT).await;
    assert_eq!(job["owner"], client.user.as_str());
    let wrong = client.ask("berth.requests", "job.submit", b"{\"imagine\": 1}", properties()).await;
    assert_eq!(wrong["status"], 422, "{wrong:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_json_goes_to_berth_dead_and_holds_up_nobody() {
    let berth = Berth::with_worker("1xT4").await;
    let client = berth.vhost.client().await;
    let properties = || BasicProperties::default().with_user_id(client.user.as_str().into());
    client
        .publish("berth.requests", "job.submit", b"no JSON", properties().with_message_id("a".into()))
        .await;
    client.publish("berth.events", "somebody.heartbeat", b"\xff\x00", properties()).await;
    client.publish("berth.requests", "job.submit", b"{\"image\":\"i\"}", properties()).await;
    let id = berth.submit_script("true", 0).await;
    berth.job_ends(&id, "succeeded", SHORT).await;
    let mut found = Vec::new();
    until(SHORT, "three messages are in berth.dead", async || {
        found.extend(client.take("berth.dead").await);
        if found.len() == 3 { Ok(()) } else { Err(found.len()) }
    })
    .await;
    assert!(found.iter().all(|(_, reason)| !reason.is_empty()), "{found:?}");
}
