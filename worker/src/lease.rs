//! How long ago the broker confirmed something of ours.
//!
//! When that is longer ago than the leader said in its welcome, the leader may give our GPUs to
//! others: the worker has no session any more. [`Term`] decides; here are the clock, the waiting, and
//! the file that tells the guard of it and outlives the process, so that a restart does not win time.
//!
//! What must always hold: nothing is started on a term, or for an installation, that the file does not
//! say yet; the guard would kill it, or not know it.

mod file;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::file::{NAME, Record, read};
use crate::agent::Term;
use crate::clock::{BootTime, boot_id};

/// Where no welcome ever said: the scheduler's own default.
pub const DEFAULT_FENCE_AFTER: Duration = Duration::from_secs(240);
/// A sleep does not count the time in which the host was suspended: the clock is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The file is written at most so often, but for a welcome.
const WRITE_AT_MOST_EVERY: Duration = Duration::from_millis(200);

#[derive(Clone)]
pub struct Lease {
    path: Arc<PathBuf>,
    boot_id: Arc<str>,
    state: Arc<watch::Sender<State>>,
    /// One at a time, so that an older record never replaces a newer one.
    writing: Arc<Mutex<()>>,
    /// What the file says.
    written: Arc<watch::Sender<Term>>,
}

#[derive(Debug, Clone)]
struct State {
    term: Term,
    device: String,
    instance: Option<Uuid>,
    docker_host: Option<String>,
}

/// Whose lease it is.
#[derive(Debug, Clone)]
pub struct Holder {
    pub device: String,
    pub instance: Option<Uuid>,
    pub docker_host: Option<String>,
    /// As the last welcome said.
    pub fence_after: Option<Duration>,
}

impl Lease {
    /// Goes on where the last process was. One that never had a confirm since the host's start begins now.
    ///
    /// # Errors
    /// When its file cannot be read or written.
    pub fn open(state_dir: &Path, holder: Holder) -> io::Result<Self> {
        let (path, boot_id) = (state_dir.join(file::NAME), boot_id());
        let before = before(&path)?.filter(|record| record.boot_id == boot_id);
        let confirmed = before.map_or_else(BootTime::now, |record| record.term().confirmed());
        let Holder { device, instance, docker_host, fence_after } = holder;
        let term = Term::new(confirmed, fence_after.unwrap_or(DEFAULT_FENCE_AFTER));
        let state = State { term, device, instance, docker_host };
        let this = Self {
            path: Arc::new(path),
            boot_id: boot_id.into(),
            state: Arc::new(watch::Sender::new(state)),
            writing: Arc::default(),
            written: Arc::new(watch::Sender::new(term)),
        };
        this.write()?;
        Ok(this)
    }

    /// The broker has confirmed something that was published at `sent` or later. Whether that prolongs it.
    pub fn renew(&self, sent: BootTime) -> bool {
        self.state.send_if_modified(|state| state.term.confirm(sent))
    }

    /// The leader does not hear us: what the broker confirms renews nothing for a while.
    pub fn refused(&self) {
        self.state.send_modify(|state| state.term.refuse(BootTime::now()));
    }

    /// A leader has spoken. Returns when that stands in the file, if it can.
    pub async fn welcomed(&self, instance: Uuid, fence_after: Duration) {
        self.state.send_modify(|state| {
            state.instance = Some(instance);
            state.term.welcome(fence_after);
        });
        if let Err(error) = self.written().await {
            tracing::error!(%error, file = %self.path.display(), "cannot be written: the guard knows nothing of the welcome");
        }
    }

    /// Whether it has run out at this moment, as we know it or as the guard does.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let now = BootTime::now();
        self.state.borrow().term.is_over(now) || self.written.borrow().is_over(now)
    }

    #[must_use]
    pub fn fence_after(&self) -> Duration {
        self.state.borrow().term.fence_after()
    }

    /// Returns when it has run out; at once when it has already.
    pub async fn expired(&self) {
        let mut state = self.state.subscribe();
        loop {
            let runs_out_at = state.borrow_and_update().term.runs_out_at();
            let left = runs_out_at.since(BootTime::now());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(LOOK_EVERY)) => {}
                _ = state.changed() => {}
            }
        }
    }

    /// The session has been ended; the next confirm begins a new term.
    pub fn end(&self) {
        self.state.send_modify(|state| state.term.end(BootTime::now()));
    }

    /// Returns at the first confirm after that.
    pub async fn begun_anew(&self) {
        // The sender is ours: it does not go.
        let _ = self.state.subscribe().wait_for(|state| state.term.has_begun()).await;
    }

    /// Writes the file when there is news, until `stop`.
    pub async fn keep_file(self, stop: CancellationToken) {
        let mut state = self.state.subscribe();
        let mut fails = false;
        loop {
            state.mark_unchanged();
            let written = self.written().await;
            if let Err(error) = &written
                && !fails
            {
                let file = self.path.display();
                tracing::error!(
                    %error, %file,
                    "cannot be written; if that lasts, the guard kills the containers of jobs that can run elsewhere"
                );
            }
            fails = written.is_err();
            let news = async {
                tokio::time::sleep(WRITE_AT_MOST_EVERY).await;
                state.changed().await.is_ok()
            };
            if stop.run_until_cancelled(news).await != Some(true) {
                return;
            }
        }
    }

    async fn written(&self) -> io::Result<()> {
        let this = self.clone();
        let written = tokio::task::spawn_blocking(move || this.write()).await;
        written.expect("it does not panic, and a runtime that ends runs no more tasks")
    }

    fn write(&self) -> io::Result<()> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let record = self.record();
        file::write(&self.path, &record)?;
        self.written.send_replace(record.term());
        Ok(())
    }

    fn record(&self) -> Record {
        let State { term, device, instance, docker_host } = self.state.borrow().clone();
        Record {
            boot_id: self.boot_id.to_string(),
            confirmed_ms: term.confirmed().as_ms(),
            fence_after_s: term.fence_after().as_secs(),
            device,
            instance,
            docker_host,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

/// What the last process left, if it can be understood. One that cannot be read now is not passed over: a
/// restart would win time.
fn before(path: &Path) -> io::Result<Option<Record>> {
    match file::read(path) {
        Ok(record) => Ok(Some(record)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn open(dir: &Path, fence_after: Duration) -> Lease {
        let holder = Holder {
            device: "dev-1".into(),
            instance: None,
            docker_host: None,
            fence_after: Some(fence_after),
        };
        Lease::open(dir, holder).expect("writable")
    }

    #[tokio::test]
    async fn it_runs_out_by_the_clock_and_again_from_the_next_confirm() {
        let dir = Scratch::new();
        let lease = open(&dir, Duration::from_secs(1));
        assert!(!lease.is_over());
        lease.expired().await;
        assert!(lease.is_over());
        lease.renew(BootTime::now());
        assert!(lease.is_over(), "the session was not ended yet");
        lease.end();
        lease.renew(BootTime::now());
        lease.begun_anew().await;
        assert!(lease.is_over(), "the guard does not know yet");
        let stop = CancellationToken::new();
        let keeps = tokio::spawn(lease.clone().keep_file(stop.clone()));
        lease.written.subscribe().changed().await.expect("it is written");
        assert!(!lease.is_over());
        stop.cancel();
        keeps.await.expect("it ends");
    }

    #[tokio::test]
    async fn a_restart_wins_no_time_and_the_file_follows() {
        let dir = Scratch::new();
        let lease = open(&dir, Duration::from_secs(240));
        let first = read(&dir.join(NAME)).expect("written");
        lease.welcomed(Uuid::from_u128(7), Duration::from_secs(60)).await;
        let record = read(&dir.join(NAME)).expect("written");
        assert_eq!((record.instance, record.fence_after_s), (Some(Uuid::from_u128(7)), 60));
        let again = open(&dir, Duration::from_secs(60));
        let record = again.record();
        assert_eq!((record.confirmed_ms, record.fence_after_s), (first.confirmed_ms, 60));
    }
}
