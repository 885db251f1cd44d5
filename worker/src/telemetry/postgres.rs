//! The store on an openGauss or PostgreSQL server, which several devices may share.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use berth_common::database::{Database, Pool, Pooled, describe, sqlstate, with_timeout};
use futures_util::future::try_join_all;
use jiff::Timestamp;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;
use tokio_util::task::TaskTracker;

use super::query::{Point, Range};
use super::sample::Sample;
use super::store::{PruneStep, StoreError};
use super::tables::{self, Series};

/// One writes, one answers questions.
const CONNECTIONS: usize = 2;
/// For a batch of samples, a page of an answer, a step of deleting.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Devices that start at the same moment try the same migration; each round one of them is done.
const MIGRATION_ROUNDS: usize = 10;

const HAS_SCHEMA: &str = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'telemetry'";
const CREATE_SCHEMA: &str = "CREATE SCHEMA telemetry";
const HAS_MIGRATIONS: &str =
    "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = 'telemetry' AND tablename = 'migrations'";

pub(super) struct Postgres {
    database: Database,
    pool: Pool,
    device: String,
    migrated: AtomicBool,
}

impl Postgres {
    pub(super) fn new(url: &str, device: &str, tasks: &TaskTracker) -> Result<Self, String> {
        let database = Database::new(url, "berth-worker")?;
        let pool = database.pool(CONNECTIONS, tasks);
        Ok(Self { database, pool, device: device.to_owned(), migrated: AtomicBool::new(false) })
    }

    pub(super) async fn insert(&self, samples: &[Arc<Sample>]) -> Result<(), StoreError> {
        let stored = self.call(async |client| insert_all(client, &self.device, samples).await).await?;
        match stored {
            Err(error) if is_there(&error) => {}
            other => return other.map_err(|error| self.error(&error)),
        }
        // Some of them were stored before the answer to a commit got lost: one by one, without those.
        for sample in samples {
            let one = std::slice::from_ref(sample);
            match self.call(async |client| insert_all(client, &self.device, one).await).await? {
                Err(error) if is_there(&error) => {}
                other => other.map_err(|error| self.error(&error))?,
            }
        }
        Ok(())
    }

    pub(super) async fn page(
        &self,
        series: &'static Series,
        range: Range,
        limit: i64,
    ) -> Result<Vec<Point>, StoreError> {
        let rows = self
            .call(async |client| {
                let statement = client.prepare_cached(series.page).await?;
                client.query(&statement, &[&self.device, &range.from, &range.to, &limit]).await
            })
            .await?
            .map_err(|error| self.error(&error))?;
        let point = |row: &tokio_postgres::Row| {
            let values = (1..=series.columns.len()).map(|i| row.try_get(i)).collect::<Result<_, _>>()?;
            Ok((row.try_get(0)?, values))
        };
        rows.iter().map(point).collect::<Result<_, Error>>().map_err(|error| self.error(&error))
    }

    pub(super) async fn prune(
        &self,
        series: &'static Series,
        before: Timestamp,
        limit: i64,
    ) -> Result<PruneStep, StoreError> {
        self.call(async |client| {
            let oldest = client.prepare_cached(series.oldest).await?;
            let times = client.query(&oldest, &[&self.device, &before, &limit]).await?;
            if let Some(last) = times.last() {
                let last: Timestamp = last.try_get(0)?;
                let delete = client.prepare_cached(series.delete).await?;
                client.execute(&delete, &[&self.device, &last]).await?;
            }
            Ok(PruneStep::of(times.len(), limit))
        })
        .await?
        .map_err(|error| self.error(&error))
    }

    pub(super) fn close(&self) {
        self.pool.close();
    }

    /// Runs `work` on a session whose database has the tables. The outer error: it could not be run,
    /// or nobody knows.
    async fn call<T>(
        &self,
        work: impl AsyncFnOnce(&mut Pooled) -> Result<T, Error>,
    ) -> Result<Result<T, Error>, StoreError> {
        let mut client = self.pool.get().await.map_err(|error| StoreError(error.to_string()))?;
        let cancel = self.database.cancel(&client);
        let done = with_timeout(&cancel, CALL_LIMIT, async {
            if !self.migrated.load(Ordering::Relaxed) {
                migrate(&mut client).await?;
                self.migrated.store(true, Ordering::Relaxed);
            }
            work(&mut client).await
        })
        .await;
        match done {
            Ok(result) => {
                if result.as_ref().is_err_and(misses_tables) {
                    self.migrated.store(false, Ordering::Relaxed);
                }
                if result.as_ref().is_err_and(|error| !is_there(error)) {
                    // What it has prepared may be of tables that were made anew: start afresh.
                    drop(Pooled::take(client));
                }
                Ok(result)
            }
            Err(silent) => {
                // Its state is unknown, so it must not go back to the pool.
                drop(Pooled::take(client));
                Err(StoreError(format!("{}: {silent}", self.database)))
            }
        }
    }

    fn error(&self, error: &Error) -> StoreError {
        StoreError(format!("{}: {}", self.database, describe(error)))
    }
}

/// All of them or none. The rows go out together, in one round trip.
async fn insert_all(client: &mut Pooled, device: &str, samples: &[Arc<Sample>]) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    for sample in samples {
        let rows = sample.rows();
        let (transaction, t) = (&transaction, &sample.t);
        let inserts = rows.iter().map(|row| async move {
            let statement = transaction.prepare_cached(row.series.insert).await?;
            let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&device, t];
            if let Some(key) = &row.key {
                parameters.push(key);
            }
            parameters.extend(row.values.iter().map(|value| value as &(dyn ToSql + Sync)));
            transaction.execute(&statement, &parameters).await
        });
        try_join_all(inserts).await?;
    }
    transaction.commit().await
}

/// Brings the tables up to date. Others may be doing the same at the same time.
async fn migrate(client: &mut Pooled) -> Result<(), Error> {
    for _ in 1..MIGRATION_ROUNDS {
        match migrate_once(client).await {
            Err(error) if is_there(&error) => {}
            other => return other,
        }
    }
    migrate_once(client).await
}

async fn migrate_once(client: &mut Pooled) -> Result<(), Error> {
    if client.query_opt(HAS_SCHEMA, &[]).await?.is_none() {
        client.batch_execute(CREATE_SCHEMA).await?;
    }
    let mut applied: HashSet<String> = HashSet::new();
    if client.query_opt(HAS_MIGRATIONS, &[]).await?.is_some() {
        applied = client.query(tables::APPLIED, &[]).await?.iter().map(|row| row.get(0)).collect();
    }
    for (name, migration) in tables::MIGRATIONS.iter().filter(|(name, _)| !applied.contains(*name)) {
        let transaction = client.transaction().await?;
        for statement in tables::statements(migration) {
            transaction.batch_execute(&statement).await?;
        }
        transaction.execute(tables::APPLY, &[name, &berth_common::time::now()]).await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// Duplicate key, schema or table.
fn is_there(error: &Error) -> bool {
    matches!(sqlstate(error), Some("23505" | "42P06" | "42P07"))
}

/// Undefined table or schema: somebody removed them, or the server is another one.
fn misses_tables(error: &Error) -> bool {
    matches!(sqlstate(error), Some("42P01" | "3F000"))
}
