//! The leader dies with a submission in hand, and another scheduler stands by: from its last moment until that
//! job is placed. The load of so small a state is moments; what a large one takes comes on top.

use std::time::Duration;

use anyhow::{Context, ensure};
use berth_bench::report::Report;
use berth_bench::series::Series;
use berth_bench::times::{ms, time};
use berth_common::time::now;
use berth_tests::berth::{Berth, SHORT, START};
use berth_tests::port::free_port;
use berth_tests::until::until;
use serde_json::{Value, json};

/// A standby takes over when it has seen the same row for so long.
const LEASE: Duration = Duration::from_secs(5);
const PROMISED: Duration = LEASE.saturating_add(Duration::from_secs(5));
/// The leader renews its row so often: where in between it dies is spread evenly over the repeats, for the
/// wait depends on it.
const RENEWAL: Duration = Duration::from_secs(1);
/// For a submission to reach the leader, which is frozen meanwhile: so it dies with it in hand.
const ON_ITS_WAY: Duration = Duration::from_millis(100);

pub async fn measure(repeats: usize, report: &mut Report) -> anyhow::Result<()> {
    let mut berth = Berth::start().await;
    crate::add_worker(&mut berth).await;
    let (mut decided, mut placed) = (Series::default(), Series::default());
    for repeat in 0..repeats {
        let phase = RENEWAL.mul_f64(repeat as f64 / repeats as f64);
        once(&mut berth, phase, &mut decided, &mut placed).await?;
    }
    let promised = format!("promised: the lease of {} s, its load, and 5 s", LEASE.as_secs());
    crate::compare(report, "leader lost: a job is placed", &placed, PROMISED.as_secs_f64(), &promised);
    report.step("leader lost: the next one has the submission", decided.median());
    report.step("leader lost: it is placed", placed.median());
    Ok(())
}

async fn once(
    berth: &mut Berth,
    phase: Duration,
    decided: &mut Series,
    placed: &mut Series,
) -> anyhow::Result<()> {
    stand_by(berth).await;
    // It stands by as soon as it has seen a renewal.
    tokio::time::sleep(phase).await;
    let spec = json!({
        "image": berth_tests::setting("BERTH_TEST_IMAGE"), "command": ["true"],
        "resources": {"gpus": 1, "cpus": 0.1, "memory_mb": 64},
    });
    let mut leader = berth.schedulers.remove(0);
    let frozen = now();
    leader.signal("STOP");
    let dies = async {
        tokio::time::sleep(ON_ITS_WAY).await;
        leader.kill();
    };
    // Answered when the next leader has decided, or with 202 when that takes longer than it waits.
    let ((status, answer), ()) = tokio::join!(berth.post("/v1/jobs", spec), dies);
    ensure!(status.is_success(), "{status}: {answer:#}\n{}", berth.logs());
    let id = answer["id"].as_str().context("a job has an id")?;
    let job = is_placed(berth, id).await;
    decided.add(ms(frozen, time(&job["submitted_at"])?));
    placed.add(ms(frozen, time(&job["scheduled_at"])?));
    berth.job_ends(id, "succeeded", SHORT).await;
    Ok(())
}

/// A second scheduler, which is asked from now on.
async fn stand_by(berth: &mut Berth) {
    berth.url = format!("http://127.0.0.1:{}", free_port());
    berth.start_scheduler();
    until(START, "it stands by", async || {
        let (_, report) = berth.get("/readyz").await;
        if report["role"] == "standby" { Ok(()) } else { Err((report, berth.logs())) }
    })
    .await;
}

async fn is_placed(berth: &Berth, id: &str) -> Value {
    until(PROMISED + SHORT, "it is placed", async || {
        let job = berth.job(id).await;
        if job["scheduled_at"].is_string() { Ok(job) } else { Err((job, berth.logs())) }
    })
    .await
}
