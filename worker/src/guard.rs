//! The guard: a small process beside the worker that knows nothing but the worker's lease file. When that
//! is too old, because the worker is dead, frozen or cut off, it kills the containers of jobs that may
//! run elsewhere by now, and goes on looking as long as the lease is old.
//!
//! What must always hold: it kills nothing while the lease is fresh, and nothing but what is labelled
//! `berth.disconnect=requeue` for this device and installation; why it killed is noted before it does;
//! and a container that does not go shields no other.

mod keeper;
mod notes;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use futures_util::future::join_all;
use tokio::time::MissedTickBehavior;

pub use self::keeper::{Program, keep};
pub use self::notes::{forget, is_noted};
use crate::agent::{Guarding, guard_leaves, guarding};
use crate::clock::{BootTime, boot_id};
use crate::docker::{Alive, Docker, DockerError, Fenceable};
use crate::lease::{self, Record};
use crate::lock;

/// Between two looks at the lease: what is added to the time that a fence may take.
const EVERY: Duration = Duration::from_millis(500);
/// A Docker that needs longer, for a list or for one container, is asked anew.
const DOCKER_TIMEOUT: Duration = Duration::from_secs(10);
/// Whoever looks whether a guard is there holds its lock for a moment.
const LOCK_TRIES: u32 = 10;
const LOCK_AGAIN: Duration = Duration::from_millis(50);
const SIGKILL: &str = "SIGKILL";

/// When it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// By a signal.
    Always,
    /// With the worker that started it, once there is nothing left that it would kill.
    WithWorker,
}

/// Guards until it has nothing more to do. Where another guard is there, one that stays always waits for
/// its end; one that a worker started has nothing to do.
///
/// # Errors
/// When the state folder cannot be used.
pub async fn run(state_dir: &Path, stay: Stay) -> anyhow::Result<()> {
    // For `ps`: it was started as /proc/self/exe. Nothing depends on it.
    let _ = std::fs::write("/proc/self/comm", "berth-guard");
    let Some(_lock) = take_lock(&state_dir.join(lock::GUARD), stay).await? else {
        tracing::debug!("another guard is here");
        return Ok(());
    };
    tracing::debug!(state_dir = %state_dir.display(), "the guard watches the lease");
    let mut guard = Guard {
        state_dir: state_dir.to_owned(),
        boot: boot_id(),
        stay,
        docker: None,
        told: BTreeSet::new(),
        fails: false,
        blind: false,
    };
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if guard.look().await == Look::NothingLeft {
            break;
        }
    }
    tracing::debug!("the guard leaves");
    Ok(())
}

/// None: another guard is there, and this one need not wait for its end.
async fn take_lock(path: &Path, stay: Stay) -> anyhow::Result<Option<lock::Lock>> {
    let mut tries: u32 = 0;
    loop {
        let lock = lock::try_hold(path).with_context(|| format!("locking {}", path.display()))?;
        if lock.is_some() {
            return Ok(lock);
        }
        tries = tries.saturating_add(1);
        match stay {
            Stay::WithWorker if tries >= LOCK_TRIES => return Ok(None),
            Stay::WithWorker => {}
            Stay::Always if tries == LOCK_TRIES => {
                tracing::info!("another guard is here: waiting for its end");
            }
            Stay::Always => {}
        }
        tokio::time::sleep(if tries < LOCK_TRIES { LOCK_AGAIN } else { EVERY }).await;
    }
}

struct Guard {
    state_dir: PathBuf,
    boot: String,
    stay: Stay,
    /// With the `DOCKER_HOST` that it was made for.
    docker: Option<(Option<String>, Docker)>,
    /// Containers whose kill was told: one that does not go is killed again, and not told again.
    told: BTreeSet<String>,
    /// Whether the last look at Docker failed.
    fails: bool,
    /// Whether the state folder could not be read at the last look.
    blind: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Again,
    /// The worker is gone, or starts another guard.
    NothingLeft,
}

impl Guard {
    async fn look(&mut self) -> Look {
        let seen = self.read();
        let blind = std::mem::replace(&mut self.blind, seen.is_err());
        let (lease, gone) = match seen {
            Ok(seen) => seen,
            Err(error) => {
                if !blind && error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, "the guard cannot read the state folder; trying again");
                }
                return without_lease(self.stay, error.kind());
            }
        };
        let decided = guarding(&lease, &self.boot, BootTime::now());
        if decided == Guarding::Wait {
            self.told.clear();
            if !gone {
                return self.whether_left(&lease, None);
            }
        }
        match self.act(&lease, decided).await {
            Ok(left) => {
                self.fails = false;
                self.whether_left(&lease, gone.then_some(left))
            }
            Err(error) => {
                if !std::mem::replace(&mut self.fails, true) {
                    tracing::warn!(%error, ?decided, "the guard cannot ask Docker; trying again");
                }
                Look::Again
            }
        }
    }

    /// The lease, and whether its worker is gone.
    fn read(&self) -> io::Result<(Record, bool)> {
        let lease = lease::read(&self.state_dir.join(lease::NAME))?;
        Ok((lease, lock::is_free(&self.state_dir.join(lock::WORKER))?))
    }

    fn whether_left(&self, lease: &Record, left: Option<usize>) -> Look {
        match self.stay {
            Stay::WithWorker if guard_leaves(lease, env!("CARGO_PKG_VERSION"), left) => Look::NothingLeft,
            Stay::WithWorker | Stay::Always => Look::Again,
        }
    }

    /// Does what was decided; says how many containers there were to kill.
    async fn act(&mut self, lease: &Record, decided: Guarding) -> Result<usize, DockerError> {
        let Some(instance) = lease.instance else { return Ok(0) };
        let docker = self.docker(lease.docker_host.as_deref())?;
        let left = in_time(docker.fenceable(&lease.device, instance)).await?;
        if decided == Guarding::Fence {
            for container in &left {
                self.note(&container.name, lease);
            }
            all(left.iter().map(|container| fence(&docker, container))).await?;
        }
        Ok(left.len())
    }

    fn docker(&mut self, host: Option<&str>) -> Result<Docker, DockerError> {
        if let Some((of, docker)) = &self.docker
            && of.as_deref() == host
        {
            return Ok(docker.clone());
        }
        let docker = Docker::connect_to(host)?;
        self.docker = Some((host.map(str::to_owned), docker.clone()));
        Ok(docker)
    }

    /// Why it is killed, before it is.
    fn note(&mut self, name: &str, lease: &Record) {
        if self.told.insert(name.to_owned()) {
            let age_s = BootTime::now().since(lease.term().confirmed()).as_secs();
            tracing::warn!(container = name, age_s, "the worker's lease has run out: killing it");
        }
        if let Err(error) = notes::note(&self.state_dir, name) {
            tracing::warn!(container = name, %error, "why it is killed is not written down");
        }
    }
}

/// A lease that is not there is the end of the state folder, and so of a worker's own guard. One that
/// cannot be read, e.g. for want of file descriptors, says nothing.
fn without_lease(stay: Stay, why: io::ErrorKind) -> Look {
    match stay {
        Stay::WithWorker if why == io::ErrorKind::NotFound => Look::NothingLeft,
        Stay::WithWorker | Stay::Always => Look::Again,
    }
}

async fn fence(docker: &Docker, container: &Fenceable) -> Result<(), DockerError> {
    let Fenceable { name, alive } = container;
    match alive {
        // One that was never started has no end that anybody waits for.
        Alive::Made => docker.remove(name).await.map(drop),
        Alive::Running => docker.signal(name, SIGKILL).await.map(drop),
    }
}

/// Does them beside each other, each in its own time; the first failure is told when all were tried.
async fn all<F>(kills: impl Iterator<Item = F>) -> Result<(), DockerError>
where
    F: Future<Output = Result<(), DockerError>>,
{
    join_all(kills.map(in_time)).await.into_iter().collect()
}

async fn in_time<T>(call: impl Future<Output = Result<T, DockerError>>) -> Result<T, DockerError> {
    let late = || DockerError::Away(format!("no answer within {} s", DOCKER_TIMEOUT.as_secs()));
    tokio::time::timeout(DOCKER_TIMEOUT, call).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests;
