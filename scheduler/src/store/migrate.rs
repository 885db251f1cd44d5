//! The schema's history: numbered files that are applied once, in order, each in one transaction
//! with its row in `core.schema_migrations`.
//!
//! Two schedulers that migrate at the same moment both end well: the row is written first, its key
//! makes the second one wait, and then read again what is there.

use berth_common::database::{Engine, sqlstate};
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error};

pub const STATEMENTS: &[(&str, &str)] =
    &[("EXISTS", EXISTS), ("VERSION", VERSION), ("SCHEMA", SCHEMA), ("RECORD", RECORD)];

const EXISTS: &str = "SELECT 1 FROM pg_catalog.pg_tables \
    WHERE schemaname = 'core' AND tablename = 'schema_migrations'";
const VERSION: &str = "SELECT COALESCE(max(version), 0)::BIGINT FROM core.schema_migrations";
const SCHEMA: &str = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1";
const RECORD: &str = "INSERT INTO core.schema_migrations (version, name, applied_at) VALUES ($1, $2, $3)";

struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

/// What all others stand on; recorded nowhere.
const BOOTSTRAP: Migration = Migration {
    version: 0,
    name: "0000_migrations",
    sql: include_str!("../../../sql/controller/0000_migrations.sql"),
};

macro_rules! migrations {
    ($($version:literal $name:literal),+ $(,)?) => {
        &[$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../../sql/controller/", $name, ".sql")),
        }),+]
    };
}

/// All files but the first, in order.
const MIGRATIONS: &[Migration] = migrations![
    1 "0001_core",
    2 "0002_sched",
    3 "0003_hist",
    4 "0004_foreign_keys",
    5 "0005_gangs_arrays_recovery",
    6 "0006_queue_usage",
];

/// Each collision means that another scheduler has brought the schema a file further.
const ATTEMPTS: usize = MIGRATIONS.len() + 2;

#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error(
        "the database has schema version {database}, this program knows only {binary}: start the newer \
         berth-scheduler that migrated it"
    )]
    Newer { database: i64, binary: i64 },
    #[error("the schema's version cannot be read")]
    Read(#[source] Error),
    #[error("sql/controller/{file}.sql cannot be applied")]
    Apply { file: &'static str, source: Error },
}

/// Brings the schema to the version of this program; answers which files it applied.
pub async fn migrate(client: &mut Client, engine: Engine) -> Result<Vec<u64>, MigrateError> {
    let mut applied = Vec::new();
    for _ in 1..ATTEMPTS {
        match advance(client, engine, &mut applied).await {
            Err(MigrateError::Apply { source, .. }) if is_collision(&source) => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(applied),
        }
    }
    advance(client, engine, &mut applied).await.map(|()| applied)
}

async fn advance(client: &mut Client, engine: Engine, applied: &mut Vec<u64>) -> Result<(), MigrateError> {
    let version = version(client).await?;
    let binary = MIGRATIONS.last().map_or(0, |m| m.version);
    if let Some(database) = version.filter(|&v| v > binary) {
        return Err(MigrateError::Newer { database, binary });
    }
    if version.is_none() {
        apply(client, &BOOTSTRAP, None).await?;
    }
    for migration in MIGRATIONS.iter().filter(|m| Some(m.version) > version) {
        apply(client, migration, Some(berth_common::time::now())).await?;
        tracing::info!(file = migration.name, ?engine, "the database was migrated");
        applied.extend(u64::try_from(migration.version));
    }
    Ok(())
}

/// The newest file that was applied; none where not even their table is there.
async fn version(client: &Client) -> Result<Option<i64>, MigrateError> {
    if client.query_opt(EXISTS, &[]).await.map_err(MigrateError::Read)?.is_none() {
        return Ok(None);
    }
    let row = client.query_one(VERSION, &[]).await.map_err(MigrateError::Read)?;
    Ok(Some(row.get(0)))
}

async fn apply(
    client: &mut Client,
    migration: &Migration,
    record: Option<Timestamp>,
) -> Result<(), MigrateError> {
    let failed = |source| MigrateError::Apply { file: migration.name, source };
    let transaction = client.transaction().await.map_err(failed)?;
    if let Some(now) = record {
        let params: [&(dyn ToSql + Sync); 3] = [&migration.version, &migration.name, &now];
        transaction.execute(RECORD, &params).await.map_err(failed)?;
    }
    for statement in split(migration.sql) {
        if let Some(schema) = statement.strip_prefix("CREATE SCHEMA ") {
            // An administrator may have made it for a role that may not.
            if transaction.query_opt(SCHEMA, &[&schema]).await.map_err(failed)?.is_some() {
                continue;
            }
        }
        transaction.batch_execute(&statement).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}

/// The statements of a file: each ends with a semicolon at the end of a line; comments stand on lines
/// of their own.
fn split(sql: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    for line in sql.lines().filter(|line| !line.trim_start().starts_with("--")) {
        let last = statements.last_mut().expect("it begins with one and only grows");
        match line.trim_end().strip_suffix(';') {
            Some(end) => {
                last.push_str(end);
                statements.push(String::new());
            }
            None => {
                last.push_str(line);
                last.push('\n');
            }
        }
    }
    statements.iter().map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect()
}

/// Whether another program was faster with the same file.
fn is_collision(error: &Error) -> bool {
    // Unique violation, duplicate schema, table, object; serialization, deadlock.
    matches!(sqlstate(error), Some("23505" | "42P06" | "42P07" | "42710" | "40001" | "40P01"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_known_under_its_number() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../sql/controller");
        let files = std::fs::read_dir(folder).expect("the folder is there");
        let mut found: Vec<String> =
            files.map(|file| file.expect("readable").file_name().into_string().expect("ASCII")).collect();
        found.sort();
        let known: Vec<String> =
            std::iter::once(&BOOTSTRAP).chain(MIGRATIONS).map(|m| format!("{}.sql", m.name)).collect();
        assert_eq!(known, found);
        for (number, migration) in (1..).zip(MIGRATIONS) {
            assert_eq!(migration.version, number);
            assert!(migration.name.starts_with(&format!("{number:04}_")), "{}", migration.name);
        }
    }

    #[test]
    fn statements_are_told_apart_by_semicolons_at_the_ends_of_lines() {
        let sql = "-- One; and more.\nA b;\n\nC d (\n    -- within;\n    e\n);\n";
        assert_eq!(split(sql), ["A b", "C d (\n    e\n)"]);
    }
}
