//! Four times that Berth promises, each measured on a Berth of its own: how soon a killed container is gone,
//! how soon a free GPU is given on, how soon a job goes elsewhere when its worker is lost, and how soon
//! jobs are placed again when the leader is lost.
//!
//! Each is repeated, and what was promised is asked of the median and of the longest alike. A longest one that
//! misses it on a busy machine says little. Whoever doubts measures one of them more often:
//! `target/release/promises kill --repeats 30`, with `BERTH_TEST_*` as in CONTRIBUTING.md.

mod kill;
mod leader_lost;
mod next_job;
mod worker_lost;

use std::num::NonZeroUsize;

use anyhow::{Context, ensure};
use berth_bench::report::{Figure, Goal, Report};
use berth_bench::series::Series;
use berth_common::id::Replica;
use berth_tests::berth::Berth;
use berth_tests::setting;
use clap::{Parser, ValueEnum};
use reqwest::StatusCode;
use serde_json::json;

/// About three seconds each.
const REPEATS: NonZeroUsize = NonZeroUsize::new(10).expect("not zero");
/// About ten seconds to half a minute each: what is lost is missed for a while before it is given up.
const REPEATS_OF_LOSSES: NonZeroUsize = NonZeroUsize::new(3).expect("not zero");
/// How often a worker samples when nobody says anything else, in seconds.
const TELEMETRY: &str = "10";

#[derive(Parser)]
#[command(about = "Measures four times that Berth promises")]
struct Arguments {
    /// Only these
    only: Vec<Promise>,
    /// How often each is measured, instead of 10 times, and 3 times where a loss is waited for
    #[arg(long)]
    repeats: Option<NonZeroUsize>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Promise {
    Kill,
    NextJob,
    WorkerLost,
    LeaderLost,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    berth_bench::run(async move || measure(&arguments).await)
}

async fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let short = arguments.repeats.unwrap_or(REPEATS).get();
    let long = arguments.repeats.unwrap_or(REPEATS_OF_LOSSES).get();
    let about = format!("what is promised, {short} repeats, {long} of each loss");
    let mut report = Report::new("promises", about);
    let chosen = if arguments.only.is_empty() { Promise::value_variants() } else { &arguments.only };
    for promise in chosen {
        match promise {
            Promise::Kill => kill::measure(short, &mut report).await?,
            Promise::NextJob => next_job::measure(short, &mut report).await?,
            Promise::WorkerLost => worker_lost::measure(long, &mut report).await?,
            Promise::LeaderLost => leader_lost::measure(long, &mut report).await?,
        }
    }
    report.database(&setting("BERTH_TEST_DATABASE_URL")).await?;
    Ok(report)
}

/// The median and the longest beside what was promised. The samples are in milliseconds.
fn compare(report: &mut Report, what: &str, samples: &Series, promised_s: f64, promised: &str) {
    for (which, percent) in [("median", 50.0), ("longest", 100.0)] {
        report.figure(Figure {
            what: format!("{what}, {which}"),
            unit: "s",
            berth: samples.percentile(percent) / 1000.0,
            limit: promised_s,
            limit_is: promised.into(),
            goal: Goal::AtMost(1.0),
        });
    }
    report.samples(&format!("{}_ms", what.replace(' ', "_")), samples);
}

async fn add_worker(berth: &mut Berth) {
    berth.add_worker("1xA100-80GB", &[("BERTH_TELEMETRY_INTERVAL", TELEMETRY.into())]).await;
}

/// A job with one GPU that takes little of this machine.
async fn submit(berth: &Berth, script: &str) -> String {
    let resources = json!({"gpus": 1, "cpus": 0.1, "memory_mb": 64});
    berth.submit(json!({"command": ["sh", "-c", script], "resources": resources})).await
}

async fn kill(berth: &Berth, id: &str, grace_s: u32) -> anyhow::Result<()> {
    let (status, answer) = berth.command(id, json!({"command": "kill", "grace_s": grace_s})).await;
    ensure!(status == StatusCode::ACCEPTED, "{status}: {answer:#}");
    Ok(())
}

/// The name of the container of a job's first attempt.
fn container(id: &str) -> anyhow::Result<String> {
    let job = id.parse().context("a job's id")?;
    Ok(Replica { job, attempt: 1, replica: 0 }.container_name())
}
