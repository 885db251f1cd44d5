//! The store in a file of SQLite: the default.
//!
//! The file is attached to a connection in memory under the name `telemetry`, so that the same
//! statements run here and on a server. Telemetry can be measured again and is not worth waiting for
//! the disk: after a power failure the last samples may be missing, and the file is still whole.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, params_from_iter};

use super::query::{Point, Range};
use super::sample::Sample;
use super::store::{PruneStep, StoreError};
use super::tables::{self, Series};

/// Somebody may be looking into the file with another program.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// KiB of pages kept in memory; the tables are only ever read from end to end.
const SETTINGS: &str = "PRAGMA telemetry.journal_mode = WAL; PRAGMA telemetry.synchronous = NORMAL;
    PRAGMA telemetry.cache_size = -256; PRAGMA telemetry.journal_size_limit = 1048576";

const HAS_MIGRATIONS: &str =
    "SELECT count(*) FROM telemetry.sqlite_master WHERE type = 'table' AND name = 'migrations'";

/// Opened at the first use, and again after every failure.
#[derive(Clone)]
pub(super) struct Sqlite {
    path: Arc<Path>,
    device: Arc<str>,
    connection: Arc<Mutex<Option<Connection>>>,
}

impl Sqlite {
    pub(super) fn new(path: &Path, device: &str) -> Self {
        Self { path: path.into(), device: device.into(), connection: Arc::default() }
    }

    pub(super) async fn insert(&self, samples: Vec<Arc<Sample>>) -> Result<(), StoreError> {
        let device = self.device.clone();
        self.with(move |connection| {
            let transaction = connection.transaction()?;
            for sample in &samples {
                insert_sample(&transaction, &device, sample)?;
            }
            transaction.commit()
        })
        .await
    }

    pub(super) async fn page(
        &self,
        series: &'static Series,
        range: Range,
        limit: i64,
    ) -> Result<Vec<Point>, StoreError> {
        let device = self.device.clone();
        self.with(move |connection| {
            let mut statement = connection.prepare_cached(series.page)?;
            let parameters = rusqlite::params![&*device, text(range.from), text(range.to), limit];
            let rows = statement.query_map(parameters, |row| {
                let values = (1..=series.columns.len()).map(|i| row.get(i)).collect::<Result<_, _>>()?;
                Ok((time(row, 0)?, values))
            })?;
            rows.collect()
        })
        .await
    }

    pub(super) async fn prune(
        &self,
        series: &'static Series,
        before: Timestamp,
        limit: i64,
    ) -> Result<PruneStep, StoreError> {
        let device = self.device.clone();
        self.with(move |connection| {
            let mut oldest = connection.prepare_cached(series.oldest)?;
            let parameters = rusqlite::params![&*device, text(before), limit];
            let times: Vec<String> =
                oldest.query_map(parameters, |row| row.get(0))?.collect::<Result<_, _>>()?;
            if let Some(last) = times.last() {
                connection.prepare_cached(series.delete)?.execute(rusqlite::params![&*device, last])?;
            }
            Ok(PruneStep::of(times.len(), limit))
        })
        .await
    }

    /// Runs on a thread where blocking is allowed. After an error the file is opened anew.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut slot = this.connection.lock().unwrap_or_else(PoisonError::into_inner);
            if slot.is_none() {
                *slot = Some(open(&this.path)?);
            }
            let result = work(slot.as_mut().expect("it was just opened"));
            if result.is_err() {
                *slot = None;
            }
            result
        });
        match done.await {
            Ok(result) => result.map_err(|error| StoreError(format!("{}: {error}", self.path.display()))),
            Err(stopped) => Err(StoreError(stopped.to_string())),
        }
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let opened = attach(path);
    match &opened {
        Err(error) if is_damaged(error) => {
            set_aside(path);
            attach(path)
        }
        Ok(_) | Err(_) => opened,
    }
}

fn attach(path: &Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_in_memory()?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let path = path.to_str().ok_or_else(|| rusqlite::Error::InvalidPath(path.into()))?;
    connection.execute("ATTACH DATABASE ?1 AS telemetry", [path])?;
    connection.execute_batch(SETTINGS)?;
    migrate(&mut connection)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let known: i64 = transaction.query_row(HAS_MIGRATIONS, [], |row| row.get(0))?;
    let mut applied: HashSet<String> = HashSet::new();
    if known > 0 {
        let mut statement = transaction.prepare(tables::APPLIED)?;
        applied = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    }
    for (name, migration) in tables::MIGRATIONS.iter().filter(|(name, _)| !applied.contains(*name)) {
        for statement in tables::statements(migration) {
            transaction.execute(&statement, [])?;
        }
        transaction.execute(tables::APPLY, [*name, &text(berth_common::time::now())])?;
    }
    transaction.commit()
}

/// A row that is there already was stored before the answer to its commit got lost, or the clock was
/// set back: the one that is there stays.
fn insert_sample(connection: &Connection, device: &str, sample: &Sample) -> rusqlite::Result<()> {
    for row in sample.rows() {
        let mut parameters = vec![Value::from(device.to_owned()), Value::from(text(sample.t))];
        parameters.extend(row.key.map(|key| Value::from(key.to_owned())));
        parameters.extend(row.values.into_iter().map(Value::from));
        match connection.prepare_cached(row.series.insert)?.execute(params_from_iter(parameters)) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {}
            other => {
                other?;
            }
        }
    }
    Ok(())
}

fn is_damaged(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// A damaged file is kept for a person to look at, and telemetry starts anew.
fn set_aside(path: &Path) {
    let aside = |path: &Path| PathBuf::from(format!("{}.damaged", path.display()));
    for path in
        [path.to_owned(), format!("{}-wal", path.display()).into(), format!("{}-shm", path.display()).into()]
    {
        if let Err(error) = std::fs::rename(&path, aside(&path))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "the damaged telemetry file cannot be set aside");
        }
    }
    tracing::warn!(path = %aside(path).display(), "the telemetry file was damaged and has been set aside");
}

/// Times as text sort as times do, and a person can read them.
fn text(t: Timestamp) -> String {
    format!("{t:.6}")
}

fn time(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error: jiff::Error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
    })
}
