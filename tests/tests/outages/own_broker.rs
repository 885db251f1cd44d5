//! What only a broker of one's own can show: that it is short of memory, and that it takes a delivery back
//! which nobody has acknowledged in time. One test, for the broker takes as long to start as the rest.

use std::time::Duration;

use berth_tests::berth::{Berth, SHORT};
use berth_tests::own_broker::OwnBroker;
use berth_tests::until::until;
use lapin::BasicProperties;
use serde_json::json;

use crate::stage::{
    NOTICED, UNTIL_TOLD, assert_away, assert_programs_live, container_ends, count, missing, submit,
    submit_until, tell,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_is_waited_out_and_late_acknowledgements_do_nothing_twice() {
    let broker = OwnBroker::start();
    let mut berth = Berth::start_at(broker.site()).await;
    berth.add_worker("1xT4", &[]).await;
    short_of_memory(&broker, &mut berth).await;
    frozen_consumers(&broker, &mut berth).await;
}

async fn short_of_memory(broker: &OwnBroker, berth: &mut Berth) {
    let id = berth.submit_script(UNTIL_TOLD, 1).await;
    berth.job_is(&id, "running", SHORT).await;
    broker.control(&["set_vm_memory_high_watermark", "absolute", "1000000"]);
    // The first finds out; what it said is taken later, or never.
    assert_away(&submit(berth, "short").await);
    let said = missing(berth, "broker (publishing)").await;
    assert_eq!(said["state"], "blocked", "{said:#}");
    assert!(said["problem"].as_str().is_some_and(|text| text.contains("takes no messages")), "{said:#}");
    assert!(said["do"].as_str().is_some_and(|advice| advice.contains("memory")), "{said:#}");
    // Whoever comes now is told at once.
    let began = std::time::Instant::now();
    let answer = submit(berth, "shorter").await;
    assert_away(&answer);
    assert!(
        answer.body["detail"].as_str().is_some_and(|detail| detail.contains("nothing was done")),
        "{answer:#?}"
    );
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    tell(berth);
    container_ends(&id).await;
    missing(berth, "broker (publishing)").await;

    broker.control(&["set_vm_memory_high_watermark", "absolute", "1GiB"]);
    let short = submit_until(berth, "short").await;
    berth.job_ends(&short, "succeeded", NOTICED).await;
    assert_eq!(count(berth, "short").await, 1);
    let job = berth.job_ends(&id, "succeeded", NOTICED).await;
    assert_eq!(job["attempt"], 1, "{job:#}");
    berth.ready().await;
    assert_programs_live(berth);
}

async fn frozen_consumers(broker: &OwnBroker, berth: &mut Berth) {
    let client = berth.vhost.client().await;
    berth.workers[0].process.signal("STOP");
    let order = berth.submit_script("true", 1).await;
    berth.schedulers[0].signal("STOP");
    let spec = json!({"image": berth_tests::setting("BERTH_TEST_IMAGE"), "command": ["true"], "name": "late",
        "resources": {"memory_mb": 64}});
    let properties = BasicProperties::default()
        .with_message_id(format!("late@{}", berth.workers[0].device).into())
        .with_user_id(client.user.as_str().into());
    client.publish("berth.requests", "job.submit", spec.to_string().as_bytes(), properties).await;
    until(NOTICED, "the broker gives up waiting for both", async || {
        let log = broker.log();
        let found = log.lines().filter(|line| line.contains("timed out")).count();
        if found >= 2 { Ok(()) } else { Err(log.lines().rev().take(5).collect::<Vec<_>>().join("\n")) }
    })
    .await;
    berth.schedulers[0].signal("CONT");
    berth.workers[0].process.signal("CONT");
    let job = berth.job_ends(&order, "succeeded", NOTICED).await;
    assert_eq!(job["attempt"], 1, "{job:#}");
    let late = until(NOTICED, "the submission is decided", async || {
        let (_, list) = berth.get("/v1/jobs?q=late").await;
        match list["items"].as_array().map(Vec::as_slice) {
            Some([job]) => Ok(job["id"].as_str().expect("an id").to_owned()),
            _ => Err((list, berth.logs())),
        }
    })
    .await;
    let job = berth.job_ends(&late, "succeeded", NOTICED).await;
    assert_eq!(job["attempt"], 1, "{job:#}");
    berth.ready().await;
    assert_programs_live(berth);
}
