//! The worker's durable memory: who it is, which messages it took, and what became of them.
//!
//! A message from the leader is acknowledged only after what it says stands here, in one
//! transaction with its number; so it is taken exactly once however often it comes. SQLite in WAL
//! mode with `synchronous=FULL`: a commit is on the disk. The file is locked for as long as the
//! process lives, so two workers can never share a state folder.

mod commands;
mod endings;
mod row;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_common::id::Replica;
use berth_common::message::Start;
use rusqlite::{Connection, ErrorCode, Transaction, params};
use uuid::Uuid;

pub use commands::{Command, ExecTaken};
use row::uuid;
pub use row::{Phase, Remembered, Station, StopCause, StopTaken, Taken};
use schema::{VERSION, prepare};

/// A century: a time and a grace can be added without care.
const MAX_GRACE_MS: i64 = 100 * 366 * 24 * 3600 * 1000;

/// Why the inbox cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "another berth-worker runs with the state folder {0}; give this one its own --state-dir (BERTH_STATE_DIR)"
    )]
    InUse(PathBuf),
    #[error(
        "the state folder {0} was written by a newer berth-worker (version {1} of its inbox); update this one"
    )]
    Newer(PathBuf, i64),
    #[error("the inbox in {0} cannot be opened")]
    Database(PathBuf, #[source] rusqlite::Error),
}

/// The inbox could not be read or written: its disk is full or failing.
#[derive(Debug, thiserror::Error)]
#[error("the worker's inbox failed: {0}")]
pub struct InboxError(#[from] rusqlite::Error);

/// A handle on the inbox.
#[derive(Clone)]
pub struct Inbox {
    connection: Arc<Mutex<Connection>>,
}

impl Inbox {
    /// Opens the inbox in `state_dir`, makes it at the first time, and locks it.
    ///
    /// # Errors
    /// When another process has it, or the file cannot be used.
    pub fn open(state_dir: &Path) -> Result<Self, OpenError> {
        let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse(state_dir.into()),
            Some(_) | None => OpenError::Database(state_dir.into(), error),
        };
        let mut connection = Connection::open(state_dir.join("inbox.sqlite")).map_err(failed)?;
        prepare(&mut connection).map_err(failed)?;
        let version: i64 =
            connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        if version > VERSION {
            return Err(OpenError::Newer(state_dir.into(), version));
        }
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Runs `work` in one transaction, away from the threads that serve tasks: a commit waits for the disk.
    async fn transaction<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, InboxError> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut connection = this.lock();
            let transaction = connection.transaction()?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        });
        done.await.expect("the work does not panic, and a runtime that ends runs no more tasks")
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic inside left no transaction open: it was rolled back when it was dropped.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// When the inbox cannot be read.
    pub fn station(&self) -> Result<Station, InboxError> {
        const SQL: &str = "SELECT worker_id, instance, session, last_id, fence_after_s FROM station";
        Ok(self.lock().query_row(SQL, [], |row| {
            Ok(Station {
                worker_id: uuid(row, 0)?,
                instance: row.get::<_, Option<String>>(1)?.map(|_| uuid(row, 1)).transpose()?,
                session: row.get(2)?,
                last: row.get(3)?,
                fence_after: row.get::<_, Option<u32>>(4)?.map(|s| Duration::from_secs(s.into())),
            })
        })?)
    }

    /// Forgets the installation that it obeyed: the next welcome, of whichever, is taken.
    ///
    /// # Errors
    /// When the inbox cannot be written.
    pub fn forget_instance(&self) -> Result<(), InboxError> {
        self.lock().execute("UPDATE station SET instance = NULL, session = 0, last_id = 0", [])?;
        Ok(())
    }

    /// Takes a welcome: a new session begins.
    ///
    /// # Errors
    /// When the inbox cannot be written; then nothing was taken.
    pub async fn take_welcome(
        &self,
        session: i64,
        id: i64,
        instance: Uuid,
        fence_after: Duration,
    ) -> Result<(), InboxError> {
        const SQL: &str = "UPDATE station SET session = ?1, last_id = ?2, instance = ?3, fence_after_s = ?4";
        let seconds = u32::try_from(fence_after.as_secs()).unwrap_or(u32::MAX);
        self.transaction(move |t| {
            t.execute(SQL, params![session, id, instance.to_string(), seconds]).map(drop)
        })
        .await
    }

    /// Takes a message that asks for nothing to be remembered but its number.
    ///
    /// # Errors
    /// When the inbox cannot be written; then nothing was taken.
    pub async fn take_number(&self, id: i64) -> Result<(), InboxError> {
        self.transaction(move |t| number(t, id)).await
    }

    /// Takes a start. `false`: this attempt had been taken before; it is not started again.
    ///
    /// # Errors
    /// When the inbox cannot be written; then nothing was taken.
    pub async fn take_start(&self, session: i64, id: i64, start: &Start) -> Result<bool, InboxError> {
        const SQL: &str =
            "INSERT INTO attempt (job, attempt, replica, session, start) VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT DO NOTHING";
        let replica = start.replica;
        let text = serde_json::to_string(start).expect("a start has only string keys");
        self.transaction(move |t| {
            number(t, id)?;
            let Replica { job, attempt, replica } = replica;
            Ok(t.execute(SQL, params![job.to_string(), attempt, replica, session, text])? == 1)
        })
        .await
    }

    /// Takes a stop. One for what was never taken, or is over, leaves its number alone. Of several the first
    /// keeps its time and cause, and the earliest deadline counts.
    ///
    /// # Errors
    /// When the inbox cannot be written; then nothing was taken.
    pub async fn take_stop(&self, id: i64, replica: Replica, stop: StopTaken) -> Result<(), InboxError> {
        const SQL: &str = "UPDATE attempt SET stop_at_us = COALESCE(stop_at_us, ?4), grace_ms =
                MAX(0, MIN(COALESCE(grace_ms, ?5), ?5 + (?4 - COALESCE(stop_at_us, ?4)) / 1000))
            WHERE job = ?1 AND attempt = ?2 AND replica = ?3 AND ending IS NULL";
        self.transaction(move |t| {
            number(t, id)?;
            let Replica { job, attempt, replica } = replica;
            let grace_ms = grace_ms(stop);
            let at = stop.at.as_microsecond();
            t.execute(SQL, params![job.to_string(), attempt, replica, at, grace_ms]).map(drop)
        })
        .await
    }

    /// Takes a new time limit, where it is not over yet.
    ///
    /// # Errors
    /// When the inbox cannot be written; then nothing was taken.
    pub async fn take_limit(
        &self,
        id: i64,
        replica: Replica,
        timeout_s: Option<u64>,
    ) -> Result<(), InboxError> {
        const SQL: &str = "UPDATE attempt SET start = json_set(start, '$.timeout_s', ?4)
            WHERE job = ?1 AND attempt = ?2 AND replica = ?3 AND ending IS NULL";
        let seconds = timeout_s.map(|s| i64::try_from(s).unwrap_or(i64::MAX));
        self.transaction(move |t| {
            number(t, id)?;
            let Replica { job, attempt, replica } = replica;
            t.execute(SQL, params![job.to_string(), attempt, replica, seconds]).map(drop)
        })
        .await
    }

    /// It has run for as long as it may, and is about to be stopped. Nothing changes where a stop was
    /// taken before.
    ///
    /// # Errors
    /// When the inbox cannot be written.
    pub async fn timing_out(&self, replica: Replica, stop: StopTaken) -> Result<(), InboxError> {
        const SQL: &str = "UPDATE attempt SET stop_at_us = ?4, grace_ms = ?5, timed_out = 1
            WHERE job = ?1 AND attempt = ?2 AND replica = ?3 AND ending IS NULL AND stop_at_us IS NULL";
        let Replica { job, attempt, replica } = replica;
        let grace_ms = grace_ms(stop);
        let at = stop.at.as_microsecond();
        self.transaction(move |t| {
            t.execute(SQL, params![job.to_string(), attempt, replica, at, grace_ms]).map(drop)
        })
        .await
    }

    /// Docker is about to be asked to start it.
    ///
    /// # Errors
    /// When the inbox cannot be written; then it must not be started.
    pub async fn launching(&self, replica: Replica) -> Result<(), InboxError> {
        const SQL: &str = "UPDATE attempt SET launched = 1 WHERE job = ?1 AND attempt = ?2 AND replica = ?3";
        let Replica { job, attempt, replica } = replica;
        self.transaction(move |t| t.execute(SQL, params![job.to_string(), attempt, replica]).map(drop)).await
    }

    /// It is about to be killed because the session was lost.
    ///
    /// # Errors
    /// When the inbox cannot be written.
    pub async fn fencing(&self, replica: Replica) -> Result<(), InboxError> {
        const SQL: &str = "UPDATE attempt SET fenced = 1 WHERE job = ?1 AND attempt = ?2 AND replica = ?3";
        let Replica { job, attempt, replica } = replica;
        self.transaction(move |t| t.execute(SQL, params![job.to_string(), attempt, replica]).map(drop)).await
    }
}

fn grace_ms(stop: StopTaken) -> i64 {
    i64::try_from(stop.grace.as_millis()).map_or(MAX_GRACE_MS, |ms| ms.min(MAX_GRACE_MS))
}

fn number(transaction: &Transaction<'_>, id: i64) -> rusqlite::Result<()> {
    transaction.execute("UPDATE station SET last_id = MAX(last_id, ?1)", [id]).map(drop)
}

#[cfg(test)]
mod tests;
