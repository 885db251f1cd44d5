//! The worker's side of the guard: one is started whenever none is there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::lock;

/// A guard that was killed is missed for at most so long.
const EVERY: Duration = Duration::from_secs(2);
/// What runs in this process, whatever has replaced its file meanwhile: both are of one version.
const SELF: &str = "/proc/self/exe";

/// Who starts the guard.
#[derive(Debug, Clone)]
pub enum Program {
    /// The worker, with these arguments before its own.
    Own(Vec<OsString>),
    /// Somebody else, e.g. a unit of systemd.
    External,
}

/// Looks after the guard until `stop`. The guard stays then, until nothing is left that it would kill.
pub async fn keep(program: Program, state_dir: PathBuf, stop: CancellationToken) {
    let mut fails = false;
    loop {
        match look(&program, &state_dir) {
            Ok(()) => fails = false,
            Err(error) if !fails => {
                tracing::warn!(%error, "no guard: were this process to freeze, nobody would stop its containers");
                fails = true;
            }
            Err(_) => {}
        }
        if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
    }
}

fn look(program: &Program, state_dir: &Path) -> Result<(), String> {
    let free = lock::is_free(&state_dir.join(lock::GUARD)).map_err(|error| error.to_string())?;
    match program {
        _ if !free => Ok(()),
        Program::Own(arguments) => start(arguments, state_dir),
        Program::External => Err("--guard external (BERTH_GUARD) was given, and none runs".into()),
    }
}

fn start(arguments: &[OsString], state_dir: &Path) -> Result<(), String> {
    let state_dir = std::path::absolute(state_dir).map_err(|error| error.to_string())?;
    let mut command = tokio::process::Command::new(SELF);
    command.arg0("berth-worker").args(arguments);
    command.args(["guard", "--with-worker", "--state-dir"]).arg(state_dir);
    // A group of its own: what a terminal sends to the worker's is not for it.
    // Its log goes to stderr, as the worker's does.
    command.process_group(0).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
    // Dropped, it goes on; the runtime reaps it when it ends.
    command.kill_on_drop(false).spawn().map(drop).map_err(|error| format!("{SELF}: {error}"))
}
