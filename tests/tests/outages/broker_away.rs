//! The broker goes away and comes back.

use std::time::Duration;

use berth_tests::berth::SHORT;
use berth_tests::proxy::Wire;
use berth_tests::until::until;
use reqwest::StatusCode;

use crate::stage::{
    UNTIL_TOLD, Wired, assert_away, assert_programs_live, container_ends, count, missing, running, submit,
    submit_until, tell,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_ends_while_the_broker_is_away_is_reported_when_it_is_back() {
    let Wired { mut berth, broker, database: _whole } = Wired::start().await;
    assert_eq!(submit(&berth, "before").await.status, StatusCode::CREATED);
    let id = berth.submit_script(UNTIL_TOLD, 1).await;
    berth.job_is(&id, "running", SHORT).await;

    broker.set(Wire::Cut);
    let said = missing(&berth, "broker").await;
    assert!(said["where"].as_str().is_some_and(|place| place.contains(&broker.port.to_string())), "{said:#}");
    assert!(said["do"].as_str().is_some_and(|advice| advice.contains("BERTH_AMQP_URL")), "{said:#}");
    assert_away(&submit(&berth, "during").await);
    let (status, job) = berth.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(
        (status, job["status"].as_str()),
        (StatusCode::OK, Some("running")),
        "looking needs no broker"
    );
    assert_eq!(running(&id).len(), 1, "containers notice nothing");
    tell(&berth);
    container_ends(&id).await;
    let told = berth.schedulers[0].output();
    assert!(told.contains("no connection to RabbitMQ"), "{told}");

    broker.set(Wire::Whole);
    let during = submit_until(&berth, "during").await;
    assert_eq!(submit_until(&berth, "during").await, during);
    berth.job_ends(&during, "succeeded", SHORT).await;
    let job = berth.job_ends(&id, "succeeded", SHORT).await;
    assert_eq!(job["attempt"], 1, "{job:#}");
    let (_, log) = berth.get(&format!("/v1/jobs/{id}/logs")).await;
    assert_eq!(log.as_str(), Some("begun\nover\n"));
    berth.ready().await;
    assert_programs_live(&mut berth);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_into_a_silent_wire_is_one_job_however_often_it_is_repeated() {
    let Wired { mut berth, broker, database: _whole } = Wired::start().await;
    assert_eq!(submit(&berth, "before").await.status, StatusCode::CREATED);
    // Nothing is closed and nothing comes through: nobody can know what has arrived.
    broker.set(Wire::Silent);
    let began = std::time::Instant::now();
    let answer = submit(&berth, "doubt").await;
    assert_away(&answer);
    assert!(answer.body["detail"].as_str().is_some_and(|d| d.contains("Idempotency-Key")), "{answer:#?}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    // Both sides give up a connection on which they have heard nothing for two heartbeats.
    missing(&berth, "broker").await;
    broker.set(Wire::Whole);
    let id = submit_until(&berth, "doubt").await;
    berth.job_ends(&id, "succeeded", SHORT).await;
    assert_eq!(submit_until(&berth, "doubt").await, id);
    assert_eq!(count(&berth, "doubt").await, 1);
    let device = berth.workers[0].device.clone();
    berth.device_up(&device).await;
    let settled = Duration::from_secs(15);
    until(settled, "nothing is left of given up connections", async || {
        let alive =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| assert_programs_live(&mut berth)));
        alive.map_err(|_| ())
    })
    .await;
}
