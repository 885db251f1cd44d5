//! What the measurements share: starting one, its samples, its report.
//!
//! A measurement is a program of its own (`src/bin/`), run by `make bench`, which gives it services
//! and names them in `BERTH_TEST_*`. What must always hold:
//!
//! - every figure stands beside a limit that was measured on the same machine in the same run, or
//!   beside the goal where it is the machine's memory and time, or what is promised, that is asked for:
//!   absolute figures of a busy machine say little;
//! - what is compared is repeated in turns, and the median counts;
//! - repeats and waiting are bounded, and what was started is removed, also after Ctrl-C.

pub mod containers;
pub mod report;
pub mod series;
pub mod times;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::report::Report;

/// Runs a measurement, prints its table and writes its file.
///
/// # Errors
/// When it fails, or is interrupted; what it had started is gone then, too.
pub fn run(measure: impl AsyncFnOnce() -> anyhow::Result<Report>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let report = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("listening for signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("listening for signals")?;
        // The measurement is dropped where it stands, and with it what it had started.
        tokio::select! {
            report = measure() => report,
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })?;
    report.print();
    report.write()
}
