//! Queues and exchanges that are deleted, queues that refuse messages, connections that are closed:
//! each is made good by what everybody does anyway, connecting, declaring, and saying it again.

use berth_tests::berth::{Berth, SHORT};
use berth_tests::until::until;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use reqwest::StatusCode;

use crate::management::Management;
use crate::stage::{
    NOTICED, UNTIL_TOLD, assert_away, assert_programs_live, container_ends, submit, submit_until, tell,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queues_of_a_device_are_made_again_when_they_are_deleted() {
    let mut berth = Berth::with_worker("1xT4").await;
    let id = berth.submit_script(UNTIL_TOLD, 1).await;
    berth.job_is(&id, "running", SHORT).await;
    let device = berth.workers[0].device.clone();
    let management = Management::of(&berth);
    // Its consumer is cancelled, and the next order finds no queue.
    management.delete_queue(&format!("berth.device.{device}")).await;
    let second = submit_until(&berth, "second").await;
    berth.job_ends(&second, "succeeded", NOTICED).await;
    // Nobody sends orders now, and still somebody may ask.
    management.delete_queue(&format!("berth.rpc.{device}")).await;
    until(NOTICED, "the log can be read", async || {
        let (status, log) = berth.get(&format!("/v1/jobs/{id}/logs")).await;
        if (status, log.as_str()) == (StatusCode::OK, Some("begun\n")) { Ok(()) } else { Err((status, log)) }
    })
    .await;
    tell(&berth);
    let job = berth.job_ends(&id, "succeeded", SHORT).await;
    assert_eq!(job["attempt"], 1, "{job:#}");
    assert_programs_live(&mut berth);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leaders_queues_and_exchanges_are_made_again_when_they_are_deleted() {
    let mut berth = Berth::with_worker("1xT4").await;
    let management = Management::of(&berth);
    for (n, queue) in ["berth.requests.0", "berth.events.0", "berth.dead"].into_iter().enumerate() {
        management.delete_queue(queue).await;
        let id = submit_until(&berth, &format!("queue-{n}")).await;
        berth.job_ends(&id, "succeeded", NOTICED).await;
    }
    for exchange in
        ["berth.requests", "berth.events", "berth.devices", "berth.rpc", "berth.replies", "berth.telemetry"]
    {
        management.delete_exchange(exchange).await;
    }
    let id = submit_until(&berth, "exchanges").await;
    let job = berth.job_ends(&id, "succeeded", NOTICED).await;
    assert_eq!(job["attempt"], 1, "{job:#}");
    berth.ready().await;
    assert_programs_live(&mut berth);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_queue_refuses_is_said_again_until_it_is_taken() {
    let mut berth = Berth::with_worker("1xT4").await;
    let device = berth.workers[0].device.clone();
    let management = Management::of(&berth);

    management.refuse("berth.requests", "#").await;
    let answer = submit(&berth, "refused").await;
    assert_away(&answer);
    management.take_again().await;
    let first = submit_until(&berth, "refused").await;
    assert_eq!(submit_until(&berth, "refused").await, first);

    management.refuse("berth.devices", &device).await;
    let id = berth.submit_script(UNTIL_TOLD, 1).await;
    berth.job_is(&id, "running", NOTICED).await;
    management.take_again().await;

    management.refuse("berth.events", "#").await;
    tell(&berth);
    container_ends(&id).await;
    management.take_again().await;
    let job = berth.job_ends(&id, "succeeded", NOTICED).await;
    assert_eq!(job["attempt"], 1, "{job:#}");
    assert_programs_live(&mut berth);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_an_operator_closes_are_made_again() {
    let mut berth = Berth::with_worker("1xT4").await;
    let id = berth.submit_script(UNTIL_TOLD, 1).await;
    berth.job_is(&id, "running", SHORT).await;
    // Two of the worker, two of the leader, two of the shim.
    Management::of(&berth).close_connections(6).await;
    tell(&berth);
    let job = berth.job_ends(&id, "succeeded", NOTICED).await;
    assert_eq!(job["attempt"], 1, "{job:#}");
    submit_until(&berth, "after").await;
    berth.ready().await;
    assert_programs_live(&mut berth);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_orders_somebody_else_takes_gets_none_and_is_up_when_it_has_them() {
    let mut berth = Berth::with_worker("1xT4").await;
    let device = berth.workers[0].device.clone();
    berth.workers[0].process.kill();
    let connection = Connection::connect(&berth.vhost.url, ConnectionProperties::default()).await;
    let channel = connection.expect("the broker answers").create_channel().await.expect("a channel");
    let (queue, options) = (format!("berth.device.{device}"), BasicConsumeOptions::default());
    let consumer = channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default());
    let thief = consumer.await.expect("it is the queue's only consumer now");
    berth.restart_worker(0);
    device_is(&berth, "degraded", &queue).await;
    let id = berth.submit_script("true", 1).await;
    let job = berth.job_is(&id, "pending", SHORT).await;
    assert_eq!(job["reason"]["code"], "DEVICE_DOWN", "{job:#}");
    until(NOTICED, "the worker says it too", async || {
        let log = berth.workers[0].process.output();
        if log.contains("no scheduler has welcomed this worker") { Ok(()) } else { Err(log) }
    })
    .await;
    channel.close(200, "bye".into()).await.expect("closed");
    drop(thief);
    device_is(&berth, "up", "").await;
    berth.job_ends(&id, "succeeded", SHORT).await;
    assert_programs_live(&mut berth);
}

/// Its note has `words`.
async fn device_is(berth: &Berth, state: &str, words: &str) {
    let path = format!("/v1/devices/{}", berth.workers[0].device);
    until(NOTICED, state, async || {
        let (_, device) = berth.get(&path).await;
        let note = device["note"].as_str().unwrap_or_default();
        if device["state"] == state && note.contains(words) { Ok(()) } else { Err(device) }
    })
    .await;
}
