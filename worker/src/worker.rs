//! What the worker's tasks share, and the few things that every one of them needs.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use berth_common::id::Replica;
use berth_common::inventory::Inventory;
use berth_common::message::HeldState;
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::agent::Numbers;
use crate::attempts::Attempts;
use crate::docker::{Docker, Engine};
use crate::exec::Turns;
use crate::folders::Folders;
use crate::guard;
use crate::health::Health;
use crate::inbox::{Inbox, InboxError};
use crate::lease::Lease;
use crate::logs::Logs;
use crate::report::Reporter;

/// Creations and starts at a time per core: Docker does not get faster beyond it.
const CALLS_PER_CORE: usize = 2;
/// Images pulled at a time; the network is shared.
const PULLS: usize = 4;
/// Commands that run in containers at a time; they run for an hour at most.
const EXECS: usize = 64;

pub struct Worker {
    pub device: String,
    pub worker_id: Uuid,
    pub docker: Docker,
    pub inbox: Inbox,
    pub logs: Logs,
    pub folders: Folders,
    /// Docker's network for containers of a gang.
    pub gang_network: String,
    pub health: Health,
    pub attempts: Attempts,
    pub reporter: Reporter,
    pub lease: Lease,
    /// How far the exchange with the leader is.
    pub numbers: Mutex<Numbers>,
    /// The daemon; none while it does not answer.
    pub engine: watch::Sender<Option<Engine>>,
    /// What the device has; none until it was measured.
    pub inventory: watch::Sender<Option<Inventory>>,
    pub state_dir: PathBuf,
    /// Says to others (scripts, operators) which installation this worker obeys.
    pub instance_file: PathBuf,
    /// Asks for a heartbeat now.
    pub beat: Notify,
    /// Creations and starts, pulls, and commands in containers, in flight.
    pub calls: Semaphore,
    pub pulls: Semaphore,
    pub execs: Semaphore,
    /// Which command in a job's container is next.
    pub turns: Turns,
    /// When the host started; an ending before that is not a container's own.
    pub host_started_at: Option<Timestamp>,
    pub tasks: Tasks,
}

/// How the program ends: first nothing new is begun, then nothing is waited for any more.
#[derive(Clone, Default)]
pub struct Tasks {
    pub tracker: TaskTracker,
    /// Finish what is in hand.
    pub stop: CancellationToken,
    /// Leave.
    pub leave: CancellationToken,
}

/// Semaphores for this host: calls, pulls, execs.
#[must_use]
pub fn limits() -> (Semaphore, Semaphore, Semaphore) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (Semaphore::new(CALLS_PER_CORE * cores), Semaphore::new(PULLS), Semaphore::new(EXECS))
}

impl Worker {
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn change_numbers(&self, change: impl FnOnce(&mut Numbers)) {
        change(&mut self.numbers.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Notes where an attempt is, for the next heartbeat.
    pub fn is_in(&self, replica: Replica, state: HeldState) {
        if self.attempts.set(replica, state) {
            tracing::debug!(%replica, ?state, "attempt");
        }
    }

    /// Forgets why the guard killed a container that is gone now, if it did.
    pub fn forget_fenced(&self, replica: Replica) {
        if let Err(error) = guard::forget(&self.state_dir, &replica.container_name()) {
            tracing::warn!(%replica, %error, "the guard's note of it cannot be removed");
        }
    }

    /// Writes down for others which installation this worker obeys.
    pub async fn instance_known(&self, instance: Uuid) {
        let text = instance.to_string();
        if tokio::fs::read_to_string(&self.instance_file).await.ok().as_deref() == Some(text.as_str()) {
            return;
        }
        if let Err(error) = tokio::fs::write(&self.instance_file, text).await {
            let file = self.instance_file.display();
            tracing::warn!(%error, %file, "cannot be written; the inbox has it");
        }
    }

    /// Writes to the inbox, again and again while its disk refuses. None: the program ends.
    pub async fn persist<T, F>(&self, what: &str, write: impl Fn(Inbox) -> F) -> Option<T>
    where
        F: Future<Output = Result<T, InboxError>>,
    {
        let mut pause = Backoff::default();
        loop {
            match write(self.inbox.clone()).await {
                Ok(value) => return Some(value),
                Err(error) => {
                    tracing::error!(%error, "cannot {what}; free space on the disk of the state folder. Trying again");
                }
            }
            self.tasks.leave.run_until_cancelled(pause.wait()).await?;
        }
    }
}

/// Growing pauses between tries of something that will work again some time.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: Self::FIRST }
    }
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(5);

    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(Self::LONGEST);
    }

    pub fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}

/// When the host started, as Linux tells it.
#[must_use]
pub fn host_started_at() -> Option<Timestamp> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Timestamp::from_second(seconds).ok()
}
