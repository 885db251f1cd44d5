//! Two schedulers, of which the leading one freezes, or takes long to begin.

use std::time::Duration;

use berth_tests::berth::{Berth, SHORT, START};
use berth_tests::port::free_port;
use berth_tests::process::Process;
use berth_tests::until::until;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::stage::{Answer, ask, count, submit, submit_until};

/// A standby takes over when it has seen the same row for so long.
const LEASE: Duration = Duration::from_secs(5);

/// A second scheduler that stands by; the test's questions go to it from now on.
async fn stand_by(berth: &mut Berth) -> Process {
    let url = format!("http://127.0.0.1:{}", free_port());
    let mut variables = berth.scheduler_variables();
    variables.push(("BERTH_LISTEN", url.trim_start_matches("http://").to_owned()));
    let log = berth.folder.join("second");
    std::fs::create_dir_all(&log).expect("a folder");
    let process = Process::start("berth-scheduler", &["serve"], &variables, &log.join("scheduler.log"));
    berth.url = url;
    plays(berth, "standby").await;
    process
}

/// Waits until the scheduler that is asked plays this part; its report.
async fn plays(berth: &Berth, role: &str) -> Value {
    until(START, &format!("it is the {role}"), async || {
        let (_, report) = berth.get("/readyz").await;
        if report["role"] == role { Ok(report) } else { Err((report, berth.logs())) }
    })
    .await
}

/// Every look at the reservations takes nine seconds.
const SLOW: &str = "ALTER TABLE sched.reservation RENAME TO quick_reservation; \
    CREATE VIEW sched.reservation AS SELECT * FROM sched.quick_reservation \
    WHERE (SELECT TRUE FROM pg_sleep(9))";

async fn epoch(berth: &Berth) -> i64 {
    let client = berth.database.client().await;
    client.query_one("SELECT epoch FROM sched.leader", &[]).await.expect("a leader's row").get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_leader_is_replaced_and_disturbs_nobody_when_it_wakes_up() {
    let mut berth = Berth::with_worker("1xT4").await;
    let first = berth.url.clone();
    let second = stand_by(&mut berth).await;
    let before = epoch(&berth).await;
    berth.schedulers[0].signal("STOP");
    let frozen = std::time::Instant::now();

    // The broker has it, and nobody decides.
    let Answer { status, location, body, .. } = submit(&berth, "slow").await;
    assert_eq!((status, &body["status"]), (StatusCode::ACCEPTED, &"accepted".into()), "{body:#}");
    let id = body["id"].as_str().expect("an id").to_owned();
    assert_eq!(location, Some(format!("/v1/jobs/{id}")));
    let unknown = ask(berth.as_admin(Method::GET, &format!("/v1/jobs/{id}"))).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND, "{unknown:#?}");
    assert!(unknown.body["detail"].as_str().is_some_and(|d| d.contains("202")), "{unknown:#?}");

    plays(&berth, "leader").await;
    let replaced = frozen.elapsed();
    assert!((LEASE..LEASE + Duration::from_secs(4)).contains(&replaced), "{replaced:?}");
    // What the frozen one had in hand comes when the broker has given up its connection.
    berth.job_ends(&id, "succeeded", SHORT).await;
    assert_eq!(submit_until(&berth, "slow").await, id);
    let running = berth.submit_script("while [ ! -e /data/go ]; do sleep 0.1; done", 1).await;
    berth.job_is(&running, "running", SHORT).await;

    berth.schedulers[0].signal("CONT");
    let url = std::mem::replace(&mut berth.url, first);
    plays(&berth, "standby").await;
    submit_until(&berth, "awake").await;
    berth.url = url;
    plays(&berth, "leader").await;
    assert_eq!(epoch(&berth).await, before + 1, "nobody else led");
    assert_eq!(count(&berth, "slow").await, 1);
    crate::stage::tell(&berth);
    let job = berth.job_ends(&running, "succeeded", SHORT).await;
    assert_eq!(job["attempt"], 1, "{job:#}");
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_takes_longer_than_the_lease_does_not_lose_it() {
    let mut berth = Berth::start().await;
    let second = stand_by(&mut berth).await;
    let before = epoch(&berth).await;
    let client = berth.database.client().await;
    client.batch_execute(SLOW).await.expect("the load is slow now");
    berth.schedulers[0].signal("TERM");
    let loading = until(START, "the second takes the lease", async || {
        let now = epoch(&berth).await;
        if now == before + 1 { Ok(std::time::Instant::now()) } else { Err(now) }
    })
    .await;
    berth.schedulers.clear();
    let url = berth.url.clone();
    let third = stand_by(&mut berth).await;
    // The third one sees the row all the time, and would take it if it stood still.
    berth.url = url;
    plays(&berth, "leader").await;
    assert!(loading.elapsed() > LEASE + Duration::from_secs(3), "{:?}", loading.elapsed());
    assert_eq!(epoch(&berth).await, before + 1, "the lease was lost\n{}", second.output());
    drop((second, third));
}
