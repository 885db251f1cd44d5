//! From the submission to the running container, beside `docker run` of the same container.
//!
//! Both are measured with one yardstick: from the moment before the request, or before the start of
//! Docker's command, to the moment at which Docker says that the container runs (`State.StartedAt`).
//! Nothing else happens meanwhile; the image is there.

mod by_berth;
mod by_docker;

use std::time::Duration;

use anyhow::ensure;
use berth_bench::containers::Watch;
use berth_bench::report::{Figure, Goal, Report};
use berth_bench::series::Series;
use berth_tests::setting;
use bollard::models::ContainerInspectResponse;
use serde_json::json;

use crate::by_berth::ByBerth;
use crate::by_docker::ByDocker;

/// Measured pairs. Each is about a second.
const REPEATS: usize = 40;
/// Pairs before that: caches fill, programs are paged in.
const WARM_UP: usize = 3;
/// Between two containers, for what the last one left behind (its log, its network, a commit).
const PAUSE: Duration = Duration::from_millis(300);
/// Berth's p50 ÷ that of `docker run`.
const GOAL: f64 = 1.3;

// The container: it waits to be ended.
const COMMAND: [&str; 2] = ["sleep", "300"];
const CPUS: f64 = 0.25;
const MEMORY_MB: u32 = 64;

fn main() -> anyhow::Result<()> {
    berth_bench::run(measure)
}

async fn measure() -> anyhow::Result<Report> {
    let image = setting("BERTH_TEST_IMAGE");
    let mut watch = Watch::open().await?;
    let berth = ByBerth::start(&image).await;
    let docker = ByDocker::new(&image, berth.data_folder())?;
    let (mut by_berth, mut by_docker) = (Vec::new(), Vec::new());
    for repeat in 0..WARM_UP + REPEATS {
        let (ours, theirs);
        // Each goes first in every second pair: what the first leaves behind hits both alike.
        if repeat % 2 == 0 {
            ours = berth.once(&mut watch).await?;
            tokio::time::sleep(PAUSE).await;
            theirs = docker.once(&mut watch).await?;
        } else {
            theirs = docker.once(&mut watch).await?;
            tokio::time::sleep(PAUSE).await;
            ours = berth.once(&mut watch).await?;
        }
        tokio::time::sleep(PAUSE).await;
        if repeat == 0 {
            same_container(&ours.inspected, &theirs.inspected)?;
        }
        if repeat >= WARM_UP {
            by_berth.push(ours);
            by_docker.push(theirs);
        }
    }
    let mut report = report(&by_berth, &by_docker);
    report.database(&setting("BERTH_TEST_DATABASE_URL")).await?;
    Ok(report)
}

fn report(by_berth: &[by_berth::Sample], by_docker: &[by_docker::Sample]) -> Report {
    let about =
        format!("submit → container running, idle system, {REPEATS} repeats in turns with `docker run --rm`");
    let mut report = Report::new("latency", about);
    let berth: Series = by_berth.iter().map(by_berth::Sample::started).collect();
    let docker: Series = by_docker.iter().map(|sample| sample.started).collect();
    for (what, percent, goal) in [("p50", 50.0, Goal::AtMost(GOAL)), ("p95", 95.0, Goal::None)] {
        report.figure(Figure {
            what: what.into(),
            unit: "ms",
            berth: berth.percentile(percent),
            limit: docker.percentile(percent),
            limit_is: format!("docker run, {what}"),
            goal,
        });
    }
    by_berth::steps(by_berth, &mut report);
    let of_docker = |ms: fn(&by_docker::Sample) -> f64| by_docker.iter().map(ms).collect::<Series>().median();
    report.step("docker run: its command has asked for the container", of_docker(|s| s.created));
    report.step("docker run: it runs", of_docker(|s| s.started - s.created));
    report.samples("berth_ms", &berth);
    report.samples("docker_run_ms", &docker);
    report
}

/// A comparison of two different containers would say nothing.
fn same_container(ours: &ContainerInspectResponse, theirs: &ContainerInspectResponse) -> anyhow::Result<()> {
    let shape = |container: &ContainerInspectResponse| {
        let config = container.config.clone().unwrap_or_default();
        let host = container.host_config.clone().unwrap_or_default();
        json!({
            "image": container.image, "command": config.cmd, "labels": config.labels.map(|l| l.len()),
            "environment": config.env.map(|e| e.len()), "cpus": host.nano_cpus, "memory": host.memory,
            "swap": host.memory_swap, "pids": host.pids_limit, "init": host.init,
            "network": host.network_mode, "log": host.log_config, "mounts": host.mounts.map(|m| m.len()),
        })
    };
    let (ours, theirs) = (shape(ours), shape(theirs));
    ensure!(ours == theirs, "the containers differ:\nBerth's {ours:#}\ndocker run's {theirs:#}");
    Ok(())
}
