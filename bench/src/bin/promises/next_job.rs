//! A container ends by itself: from the end of its process, as Docker tells it, until the next job has its
//! GPU. The jobs wait for the only GPU from the beginning, and each is the next one of the one before.

use anyhow::ensure;
use berth_bench::containers::Watch;
use berth_bench::report::Report;
use berth_bench::series::Series;
use berth_bench::times::{ms, time};
use berth_tests::berth::{Berth, SHORT};

/// Long enough for what the start of one leaves behind, and for all to be submitted before the first ends.
const SCRIPT: &str = "sleep 2";
const PROMISED_S: f64 = 1.0;

pub async fn measure(repeats: usize, report: &mut Report) -> anyhow::Result<()> {
    let mut watch = Watch::open().await?;
    let mut berth = Berth::start().await;
    crate::add_worker(&mut berth).await;
    let mut ids = Vec::new();
    for _ in 0..=repeats {
        ids.push(crate::submit(&berth, SCRIPT).await);
    }
    let (mut placed, mut started) = (Series::default(), Series::default());
    for pair in ids.windows(2) {
        let died = watch.died(&crate::container(&pair[0])?).await?;
        let runs = watch.started(&crate::container(&pair[1])?).await?;
        let next = berth.job_is(&pair[1], "running", SHORT).await;
        let waited = ms(died, time(&next["scheduled_at"])?);
        ensure!(waited >= 0.0, "two jobs had the only GPU\n{next:#}\n{}", berth.logs());
        placed.add(waited);
        started.add(ms(died, runs));
    }
    if let Some(last) = ids.last() {
        berth.job_ends(last, "succeeded", SHORT).await;
    }
    crate::compare(report, "ended: the next job is placed", &placed, PROMISED_S, "promised");
    report.step("end: since the process has ended, the next job is placed", placed.median());
    report.step("end: since the process has ended, the next container runs", started.median());
    Ok(())
}
