//! The guard: a small process beside the worker that knows nothing but the worker's lease file. When that
//! is too old, because the worker is dead, frozen or cut off, it kills the containers of jobs that may
//! run elsewhere by now, and goes on looking as long as the lease is old.
//!
//! What must always hold: it kills nothing while the lease is fresh, and nothing but what is labelled
//! `berth.disconnect=requeue` for this device and installation; why it killed is noted before it does.

mod keeper;
mod notes;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
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
/// A Docker that needs longer is asked anew.
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

/// Guards until it has nothing more to do; at once where another guard is there.
///
/// # Errors
/// When the state folder cannot be used.
pub async fn run(state_dir: &Path, stay: Stay) -> anyhow::Result<()> {
    // For `ps`: it was started as /proc/self/exe. Nothing depends on it.
    let _ = std::fs::write("/proc/self/comm", "berth-guard");
    let Some(_lock) = take_lock(&state_dir.join(lock::GUARD)).await? else {
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
    };
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(record) = lease::read(&state_dir.join(lease::NAME)) else {
            match stay {
                Stay::Always => continue,
                Stay::WithWorker => break, // the state folder was removed
            }
        };
        if guard.look(&record).await? == Look::NothingLeft {
            break;
        }
    }
    tracing::debug!("the guard leaves");
    Ok(())
}

async fn take_lock(path: &Path) -> anyhow::Result<Option<lock::Lock>> {
    for _ in 0..LOCK_TRIES {
        let lock = lock::try_hold(path).with_context(|| format!("locking {}", path.display()))?;
        if lock.is_some() {
            return Ok(lock);
        }
        tokio::time::sleep(LOCK_AGAIN).await;
    }
    Ok(None)
}

struct Guard {
    state_dir: PathBuf,
    boot: String,
    stay: Stay,
    /// With the `DOCKER_HOST` that it was made for.
    docker: Option<(Option<String>, Docker)>,
    /// Containers whose kill was told: one that does not go is killed again, and not told again.
    told: BTreeSet<String>,
    /// Whether the last look failed.
    fails: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Again,
    /// The worker is gone, or starts another guard.
    NothingLeft,
}

impl Guard {
    async fn look(&mut self, lease: &Record) -> anyhow::Result<Look> {
        let decided = guarding(lease, &self.boot, BootTime::now());
        let path = self.state_dir.join(lock::WORKER);
        let gone = lock::is_free(&path).with_context(|| format!("looking at {}", path.display()))?;
        if decided == Guarding::Wait {
            self.told.clear();
            if !gone {
                return Ok(self.whether_left(lease, None));
            }
        }
        let acted = tokio::time::timeout(DOCKER_TIMEOUT, self.act(lease, decided)).await;
        let late = || DockerError::Away(format!("no answer within {} s", DOCKER_TIMEOUT.as_secs()));
        match acted.unwrap_or_else(|_| Err(late())) {
            Ok(left) => {
                self.fails = false;
                Ok(self.whether_left(lease, gone.then_some(left)))
            }
            Err(error) => {
                if !std::mem::replace(&mut self.fails, true) {
                    tracing::warn!(%error, ?decided, "the guard cannot ask Docker; trying again");
                }
                Ok(Look::Again)
            }
        }
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
        let left = docker.fenceable(&lease.device, instance).await?;
        if decided == Guarding::Fence {
            for container in &left {
                self.fence(&docker, container, lease).await?;
            }
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

    async fn fence(
        &mut self,
        docker: &Docker,
        container: &Fenceable,
        lease: &Record,
    ) -> Result<(), DockerError> {
        let Fenceable { name, alive } = container;
        if self.told.insert(name.clone()) {
            let age_s = BootTime::now().since(lease.term().confirmed()).as_secs();
            tracing::warn!(container = name, age_s, "the worker's lease has run out: killing it");
        }
        if let Err(error) = notes::note(&self.state_dir, name) {
            tracing::warn!(container = name, %error, "why it is killed is not written down");
        }
        match alive {
            // One that was never started has no end that anybody waits for.
            Alive::Made => docker.remove(name).await.map(drop),
            Alive::Running => docker.signal(name, SIGKILL).await.map(drop),
        }
    }
}
