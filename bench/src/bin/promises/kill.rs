//! A job that ignores SIGTERM is killed: from the request until Docker has removed its container. What
//! counts is the time beyond the grace time, which the job was given.

use anyhow::ensure;
use berth_bench::containers::Watch;
use berth_bench::report::Report;
use berth_bench::series::Series;
use berth_bench::times::{ms, time};
use berth_common::time::now;
use berth_tests::berth::{Berth, SHORT};
use berth_tests::until::until;
use jiff::Timestamp;

/// Says when it is deaf to SIGTERM.
const DEAF: &str = "trap '' TERM; echo deaf; while :; do sleep 1; done";
const GRACE_S: u32 = 1;
/// Beyond the grace time.
const PROMISED_S: f64 = 2.0;

/// Milliseconds beyond the grace time since the request was begun.
#[derive(Default)]
struct Samples {
    dead: Series,
    over: Series,
    gone: Series,
}

pub async fn measure(repeats: usize, report: &mut Report) -> anyhow::Result<()> {
    let mut watch = Watch::open().await?;
    let mut berth = Berth::start().await;
    crate::add_worker(&mut berth).await;
    let mut samples = Samples::default();
    for _ in 0..repeats {
        once(&berth, &mut watch, &mut samples).await?;
    }
    let promised = format!("promised, beyond grace_s {GRACE_S}");
    crate::compare(report, "killed: removed", &samples.gone, PROMISED_S, &promised);
    report.step("kill: beyond its grace time, its process has ended", samples.dead.median());
    report.step("kill: beyond its grace time, the leader knows", samples.over.median());
    report.step("kill: beyond its grace time, Docker has removed it", samples.gone.median());
    Ok(())
}

async fn once(berth: &Berth, watch: &mut Watch, samples: &mut Samples) -> anyhow::Result<()> {
    let id = crate::submit(berth, DEAF).await;
    let name = crate::container(&id)?;
    berth.job_is(&id, "running", SHORT).await;
    until(SHORT, "it is deaf", async || {
        let log = berth.log(&id).await;
        if log.contains("deaf") { Ok(()) } else { Err(log) }
    })
    .await;
    let asked = now();
    let beyond = |at: Timestamp| ms(asked, at) - f64::from(GRACE_S) * 1000.0;
    crate::kill(berth, &id, GRACE_S).await?;
    let dead = beyond(watch.died(&name).await?);
    ensure!(dead >= 0.0, "it was killed {} ms before its grace time was over", -dead);
    samples.dead.add(dead);
    samples.gone.add(beyond(watch.gone(&name).await?));
    let job = berth.job_ends(&id, "killed", SHORT).await;
    samples.over.add(beyond(time(&job["exited_at"])?));
    Ok(())
}
