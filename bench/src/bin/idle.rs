//! What a scheduler and a worker cost while nothing happens: resident memory and processor time.
//!
//! They have run some jobs before: an allocator that has not worked yet says little.

use std::time::Duration;

use anyhow::{Context, ensure};
use berth_bench::report::{Figure, Goal, Report};
use berth_bench::series::Series;
use berth_tests::berth::{Berth, SHORT};
use berth_tests::process::Process;
use serde_json::json;
use tokio::time::Instant;

/// Jobs before the rest.
const JOBS: usize = 10;
/// For what the last job left to do.
const SETTLE: Duration = Duration::from_secs(5);
/// Processor time comes in hundredths of a second: a window must be long beside that.
const WINDOW: Duration = Duration::from_secs(15);
const WINDOWS: usize = 3;
/// How often a worker samples when nobody says anything else, in seconds.
const TELEMETRY: &str = "10";

/// Of resident memory, in MB of 10⁶ bytes.
const SCHEDULER_MB: f64 = 40.0;
const WORKER_MB: f64 = 30.0;
/// Of one core.
const CPU_PERCENT: f64 = 1.0;

/// Linux tells processor time in these (`USER_HZ`), on every architecture that Rust's Linux targets have.
const TICKS_PER_S: f64 = 100.0;

fn main() -> anyhow::Result<()> {
    berth_bench::run(measure)
}

async fn measure() -> anyhow::Result<Report> {
    let mut berth = Berth::start().await;
    let more = [("BERTH_TELEMETRY_INTERVAL", TELEMETRY.to_owned())];
    berth.add_worker("4xA100-80GB", &more).await;
    for _ in 0..JOBS {
        let id = berth.submit_script("true", 1).await;
        berth.job_ends(&id, "succeeded", SHORT).await;
    }
    tokio::time::sleep(SETTLE).await;
    let about = format!(
        "after {JOBS} jobs, {WINDOWS} × {} s without any, one device; MB = 10⁶ bytes",
        WINDOW.as_secs()
    );
    let mut report = Report::new("idle", about);
    let programs =
        [("scheduler", &berth.schedulers[0], SCHEDULER_MB), ("worker", &berth.workers[0].process, WORKER_MB)];
    let mut watched: Vec<_> = programs.iter().map(|_| (Series::default(), Series::default())).collect();
    for _ in 0..WINDOWS {
        let began = Instant::now();
        let before = programs.map(|(_, process, _)| cpu_s(process));
        tokio::time::sleep(WINDOW).await;
        let passed_s = began.elapsed().as_secs_f64();
        for (((_, process, _), before), (cpu, memory)) in programs.iter().zip(before).zip(&mut watched) {
            cpu.add((cpu_s(process)? - before?) / passed_s * 100.0);
            memory.add(status_mb(process, "VmRSS:")?);
        }
    }
    for ((name, process, memory_mb), (cpu, memory)) in programs.iter().zip(&watched) {
        report.figure(figure(format!("{name}, resident"), "MB", memory, *memory_mb));
        report.figure(figure(format!("{name}, processor"), "% of a core", cpu, CPU_PERCENT));
        report.note(&format!("{name}_peak_mb"), json!(status_mb(process, "VmHWM:")?));
        report.samples(&format!("{name}_cpu_percent"), cpu);
        report.samples(&format!("{name}_resident_mb"), memory);
    }
    Ok(report)
}

fn figure(what: String, unit: &'static str, series: &Series, limit: f64) -> Figure {
    let limit_is = "the goal".to_owned();
    Figure { what, unit, berth: series.median(), limit, limit_is, goal: Goal::AtMost(1.0) }
}

/// Seconds of processor time that it has used, in all its threads, in itself and for it in the kernel.
fn cpu_s(process: &Process) -> anyhow::Result<f64> {
    let text = read(process, "stat")?;
    // The program's name is in parentheses and may contain anything; utime and stime are fields 14 and 15.
    let after_name = text.rsplit_once(')').context("a name in parentheses")?.1;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    ensure!(fields.len() > 12, "utime and stime stand in {text}");
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / TICKS_PER_S)
}

/// A line of `/proc/PID/status`, which counts in KiB.
fn status_mb(process: &Process, field: &str) -> anyhow::Result<f64> {
    let text = read(process, "status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).with_context(|| field.to_owned())?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().with_context(|| format!("{field}{line}"))?;
    Ok(kib * 1024.0 / 1e6)
}

fn read(process: &Process, file: &str) -> anyhow::Result<String> {
    let path = format!("/proc/{}/{file}", process.pid());
    std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))
}
