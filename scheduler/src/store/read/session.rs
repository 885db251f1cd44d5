//! One session of the shim's pool, and what its statements can meet.
//!
//! What must always hold: no request waits for ever, on either side of the connection, and a session
//! whose state is unknown does not go back to the pool.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use berth_common::database::{
    Cancel, Connected, Database, Pool, PoolError, Pooled, TimedOut, is_transient, sqlstate, with_timeout,
};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};
use tokio_util::task::TaskTracker;

/// Someone waits for the answer at a screen; the slowest listing takes a fraction of it.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
/// Sessions of one shim: requests are short, and openGauss and PostgreSQL pay for each session.
pub const POOL_SIZE: usize = 16;

pub const STATEMENTS: &[(&str, &str)] = &[("CHECK", CHECK)];

const CHECK: &str = "SELECT 1";

/// Where the shim reads.
#[derive(Clone)]
pub struct Reads {
    database: Database,
    pool: Pool,
}

/// Why a statement gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database is away or too busy; the same may do in a moment.
    #[error("the database is away: {0}")]
    Away(String),
    /// A key exists already.
    #[error("a row with this key exists")]
    Duplicate(#[source] tokio_postgres::Error),
    /// A mistake of ours.
    #[error("a statement failed")]
    Failed(#[source] tokio_postgres::Error),
    /// A row says what no row should say.
    #[error("the database holds what cannot be read: {0}")]
    Unreadable(String),
}

impl Reads {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(database: &Database, tasks: &TaskTracker) -> Self {
        Self { database: database.clone(), pool: database.pool(POOL_SIZE, tasks) }
    }

    /// A session, within the pool's 5 s.
    ///
    /// # Errors
    /// `Away`, with what the database or the pool said.
    pub async fn session(&self) -> Result<Session, ReadError> {
        let client = self.pool.get().await.map_err(|error| ReadError::Away(no_session(&error)))?;
        let cancel = self.database.cancel(&client);
        Ok(Session { client: Held::Pooled(Some(client)), cancel, lost: AtomicBool::new(false) })
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// What it met, in words.
    pub async fn check(&self) -> Result<(), String> {
        let session = self.session().await.map_err(|error| error.to_string())?;
        session.rows(CHECK, &[]).await.map(|_| ()).map_err(|error| error.to_string())
    }
}

fn no_session(error: &PoolError) -> String {
    match error {
        PoolError::Timeout(_) => "no free connection within 5 s".into(),
        PoolError::Backend(error) => error.to_string(),
        PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => error.to_string(),
    }
}

/// A session, given back to its pool when it is dropped.
pub struct Session {
    client: Held,
    cancel: Cancel,
    /// Nobody knows what it does, or its prepared statements are stale.
    lost: AtomicBool,
}

enum Held {
    /// There until it is dropped.
    Pooled(Option<Pooled>),
    Single(Client),
}

/// A connection that belongs to no pool.
impl From<Connected> for Session {
    fn from(connected: Connected) -> Self {
        let Connected { client, cancel, .. } = connected;
        Self { client: Held::Single(client), cancel, lost: AtomicBool::new(false) }
    }
}

impl Session {
    /// All rows of `sql`, which is prepared once per connection.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn rows(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, ReadError> {
        self.limited(async { self.client().query(&self.prepare(sql).await?, params).await }).await
    }

    /// The first row, where there is one.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn row(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, ReadError> {
        Ok(self.rows(sql, params).await?.into_iter().next())
    }

    /// Runs `sql`; how many rows it touched.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, ReadError> {
        self.limited(async { self.client().execute(&self.prepare(sql).await?, params).await }).await
    }

    async fn prepare(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        match &self.client {
            Held::Pooled(Some(pooled)) => pooled.prepare_cached(sql).await,
            Held::Pooled(None) | Held::Single(_) => self.client().prepare(sql).await,
        }
    }

    fn client(&self) -> &Client {
        match &self.client {
            Held::Pooled(pooled) => pooled.as_ref().expect("taken only when the session is dropped"),
            Held::Single(client) => client,
        }
    }

    async fn limited<T>(
        &self,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, ReadError> {
        let error = match with_timeout(&self.cancel, QUERY_TIMEOUT, call).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => error,
            Err(timed_out @ TimedOut { .. }) => {
                self.lost.store(true, Ordering::Relaxed);
                return Err(ReadError::Away(timed_out.to_string()));
            }
        };
        match sqlstate(&error) {
            Some("23505") => Err(ReadError::Duplicate(error)),
            // Somebody changed a table under a prepared statement: openGauss says the second.
            Some("0A000" | "29P06") => {
                self.lost.store(true, Ordering::Relaxed);
                Err(ReadError::Away("the schema has just changed".into()))
            }
            _ if is_transient(&error) => Err(ReadError::Away(error.to_string())),
            _ => Err(ReadError::Failed(error)),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Held::Pooled(pooled) = &mut self.client
            && self.lost.load(Ordering::Relaxed)
        {
            drop(pooled.take().map(Pooled::take));
        }
    }
}
