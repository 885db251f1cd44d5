//! How fast the policy is, on one thread and without anything else: a cluster that is always full, a backlog that never
//! gets shorter, and each job that ends lets others start, exactly as the service and `berth simulate` would have it.
//!
//! Every pass is a full one, reasons are asked for, and at least 95 % of the GPUs must be busy, else it fails: speed by
//! not looking does not count. `target/release/placement --devices 1000 --waiting 50000` measures another size.

mod memory;
mod play;
mod work;

use anyhow::ensure;
use berth_bench::report::{Figure, Goal, Report};
use clap::Parser;
use play::{Played, play};
use serde_json::json;
use work::Size;

/// Of all GPUs.
const BUSY: f64 = 0.95;
/// Bytes per job that waits.
const BYTES: f64 = 250.0;
/// How long the end of a job and a pass may take, 99 of 100 times, µs.
const PASS: f64 = 100.0;

/// What is measured unless somebody asks for another size, and decisions per second.
const SIZES: [(Size, f64); 2] = [
    (Size { devices: 100, waiting: 10_000 }, 300_000.0),
    (Size { devices: 10_000, waiting: 1_000_000 }, 100_000.0),
];

#[derive(Parser)]
#[command(about = "Measures how fast the policy places jobs")]
struct Arguments {
    /// Devices with 8 GPUs each, instead of the sizes that have goals
    #[arg(long, requires = "waiting")]
    devices: Option<u32>,
    /// Jobs that wait, always
    #[arg(long, requires = "devices")]
    waiting: Option<usize>,
    /// Of the chance by which jobs are made up
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Jobs started while it is measured
    #[arg(long, default_value_t = 300_000)]
    decisions: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let sizes = match (arguments.devices, arguments.waiting) {
        (Some(devices), Some(waiting)) => vec![(Size { devices, waiting }, SIZES[1].1)],
        (_, _) => SIZES.to_vec(),
    };
    let about = format!(
        "{} decisions in a closed loop, seed {}, devices with 8 GPUs, why asked once in 100 passes",
        arguments.decisions, arguments.seed
    );
    let mut report = Report::new("placement", about);
    let mut idle = Vec::new();
    for (size, goal) in sizes {
        let played = play(size, arguments.seed, arguments.decisions)?;
        figures(&mut report, size, goal, &played);
        if played.busy < BUSY {
            idle.push(format!(
                "only {:.1} % of {} devices' GPUs were busy",
                played.busy * 100.0,
                size.devices
            ));
        }
    }
    report.print();
    report.write()?;
    ensure!(idle.is_empty(), "{}: figures of a cluster that is not full do not count", idle.join(", "));
    Ok(())
}

fn figures(report: &mut Report, size: Size, goal: f64, played: &Played) {
    let Size { devices, waiting } = size;
    let rate = played.decisions as f64 / played.took.as_secs_f64();
    let (passes, questions) = (&played.passes, &played.questions);
    let figures = [
        ("decisions".to_owned(), "per CPU s", rate, goal, Goal::AtLeast(1.0)),
        ("pass, p50".to_owned(), "µs", passes.median(), PASS, Goal::None),
        ("pass, p99".to_owned(), "µs", passes.percentile(99.0), PASS, Goal::AtMost(1.0)),
        ("why, p50".to_owned(), "µs", questions.median(), PASS, Goal::None),
        ("busy GPUs".to_owned(), "%", played.busy * 100.0, BUSY * 100.0, Goal::AtLeast(1.0)),
        ("bytes per job that waits".to_owned(), "resident", played.bytes_per_job, BYTES, Goal::AtMost(1.0)),
    ];
    for (what, unit, berth, limit, goal) in figures {
        let what = format!("{devices} devices, {waiting} waiting: {what}");
        report.figure(Figure { what, unit, berth, limit, limit_is: "the goal".to_owned(), goal });
    }
    report.note(&format!("pass_p999_us_{devices}"), json!(passes.percentile(99.9)));
    report.note(&format!("pass_max_us_{devices}"), json!(passes.percentile(100.0)));
    report.note(&format!("why_p99_us_{devices}"), json!(questions.percentile(99.0)));
}
