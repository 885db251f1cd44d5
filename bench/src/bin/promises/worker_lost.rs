//! A host dies: from the kill of its worker and its guard until the job that ran there is placed on another
//! device. Its container, which nobody can stop then, is stopped by the worker when that comes back.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use berth_bench::report::Report;
use berth_bench::series::Series;
use berth_bench::times::{ms, time};
use berth_common::time::now;
use berth_tests::berth::{Berth, SHORT};
use berth_tests::until::until;
use serde_json::Value;

/// Shorter than anybody would wish, so that the measurement ends: with the defaults only the wait is longer.
const LOST_AFTER: Duration = Duration::from_secs(20);
const FENCE_AFTER: Duration = Duration::from_secs(8);
/// With the pause after a first fault, which is a second.
const PROMISED: Duration = LOST_AFTER.saturating_add(Duration::from_secs(5));

pub async fn measure(repeats: usize, report: &mut Report) -> anyhow::Result<()> {
    let mut berth = Berth::impatient(FENCE_AFTER, LOST_AFTER).await;
    // One runs the job, the other one takes it over.
    for _ in 0..2 {
        crate::add_worker(&mut berth).await;
    }
    let (mut given_up, mut placed) = (Series::default(), Series::default());
    for _ in 0..repeats {
        once(&mut berth, &mut given_up, &mut placed).await?;
    }
    let promised = format!("promised: lost_after {} s, and 5 s", LOST_AFTER.as_secs());
    crate::compare(report, "worker lost: placed elsewhere", &placed, PROMISED.as_secs_f64(), &promised);
    report.step("worker lost: the leader gives its device up", given_up.median());
    report.step("worker lost: the job is placed elsewhere", placed.median());
    Ok(())
}

async fn once(berth: &mut Berth, given_up: &mut Series, placed: &mut Series) -> anyhow::Result<()> {
    let id = crate::submit(berth, "sleep 300").await;
    let job = berth.job_is(&id, "running", SHORT).await;
    let n = berth.workers.iter().position(|worker| job["device"] == worker.device.as_str());
    let n = n.with_context(|| format!("it runs on one of our devices: {job:#}"))?;
    let guard = guard_of(berth, n).await;
    // A heartbeat has just told that the job runs, so that the silence has to last its full time.
    let killed = now();
    // Frozen first: it would start another guard.
    berth.workers[n].process.signal("STOP");
    let sent = Command::new("kill").args(["-s", "KILL", &guard.to_string()]).status();
    ensure!(sent.context("running kill")?.success(), "the guard {guard} was there");
    berth.workers[n].process.kill();
    let job = placed_again(berth, &id).await;
    ensure!(job["device"] != berth.workers[n].device.as_str(), "not on the device that is lost: {job:#}");
    placed.add(ms(killed, time(&job["scheduled_at"])?));
    given_up.add(ms(killed, time(&job["attempts"][0]["exited_at"])?));
    crate::kill(berth, &id, 0).await?;
    berth.job_ends(&id, "killed", SHORT).await;
    berth.restart_worker(n);
    // It is up when the container that it had left is gone.
    berth.device_up(&berth.workers[n].device).await;
    Ok(())
}

async fn placed_again(berth: &Berth, id: &str) -> Value {
    until(PROMISED + SHORT, "it is placed again", async || {
        let job = berth.job(id).await;
        let placed = job["status"] == "scheduled" || job["status"] == "running";
        if placed && job["attempt"] == 2 { Ok(job) } else { Err((job, berth.logs())) }
    })
    .await
}

/// The guard of a worker, as the system lists it: its arguments name the worker's state folder.
async fn guard_of(berth: &Berth, n: usize) -> u32 {
    let folder = berth.folder.join(&berth.workers[n].device).join("state");
    until(SHORT, "the worker has a guard", async || {
        let listed = Command::new("pgrep").args(["-f", &folder.display().to_string()]).output();
        let text = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let text = text.map_err(|error| error.to_string())?;
        let guard = text.lines().filter_map(|line| line.parse().ok()).find(|pid| is_guard(*pid));
        guard.ok_or_else(|| format!("{text:?}\n{}", berth.logs()))
    })
    .await
}

fn is_guard(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "berth-guard")
}
