//! The worker: runs the containers that the scheduler places on this machine, and tells what
//! becomes of them.
//!
//! An order is written into the [`inbox`] before it is acknowledged; then one task per attempt
//! ([`attempt`]) works towards it and looks at Docker before each step, so that a crash at any
//! moment is followed by the same steps as no crash. [`agent`] holds the decisions as pure functions.
//! A worker that leaves does not stop its containers: the next start adopts them. A second process, the
//! [`guard`](mod@guard), stops them when the worker cannot, and must.

pub mod agent;
pub mod attempt;
pub mod attempts;
pub mod clock;
pub mod config;
pub mod container;
pub mod docker;
pub mod ending;
pub mod exec;
pub mod folders;
pub mod gpu;
pub mod guard;
pub mod health;
pub mod inbox;
pub mod inventory;
pub mod lease;
pub mod link;
pub mod listing;
pub mod lock;
pub mod logs;
pub mod report;
pub mod rpc;
#[cfg(test)]
mod scratch;
pub mod start;
pub mod survey;
pub mod telemetry;
pub mod tidy;
pub mod worker;

use anyhow::Context;

use crate::config::Settings;
use crate::guard::{Program, Stay};
use crate::inbox::Inbox;

/// Runs until a signal.
///
/// # Errors
/// When the configuration cannot be used, or another worker uses the state folder.
pub fn run(settings: Settings, guard: Program) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let done = runtime.block_on(start::run(settings, guard));
    // A call that still blocks (a disk, a driver that hangs) holds up nobody's exit.
    runtime.shutdown_background();
    done
}

/// Watches the lease of the worker that has the same state folder.
///
/// # Errors
/// When the state folder cannot be used.
pub fn guard(settings: &Settings, stay: Stay) -> anyhow::Result<()> {
    let state_dir = settings.state_dir()?;
    start::prepare_folder(&state_dir)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(guard::run(&state_dir, stay))
}

/// Forgets which installation the worker obeyed: the next one that welcomes it is obeyed.
///
/// # Errors
/// When the state folder is in use, or cannot be written.
pub fn adopt(settings: &Settings) -> anyhow::Result<()> {
    let state_dir = settings.state_dir()?;
    start::prepare_folder(&state_dir)?;
    let inbox = Inbox::open(&state_dir)?;
    inbox.forget_instance()?;
    let file = state_dir.join(start::INSTANCE_FILE);
    if file.exists() {
        std::fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
    }
    tracing::info!("the next installation that welcomes this worker will be obeyed; start it now");
    Ok(())
}
