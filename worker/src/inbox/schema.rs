//! The inbox's file: its lock, its tables, and how those of earlier versions become the present ones.

use std::time::Duration;

use rusqlite::Connection;
use uuid::Uuid;

/// `PRAGMA user_version` of a file that has [`SCHEMA`].
pub(super) const VERSION: i64 = 3;
const SCHEMA: &str = include_str!("schema.sql");
/// From each version to the next, the first being 1.
const CHANGES: [&str; 2] = [
    "ALTER TABLE attempt ADD COLUMN fenced INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE attempt ADD COLUMN timed_out INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE command (
        id         TEXT    PRIMARY KEY,
        begun      INTEGER NOT NULL DEFAULT 0,
        result     TEXT,
        done_at_us INTEGER,
        reported   INTEGER NOT NULL DEFAULT 0,
        CHECK ((result IS NULL) = (done_at_us IS NULL)),
        CHECK (reported = 0 OR result IS NOT NULL)
    ) WITHOUT ROWID;",
];

/// Locks the file, makes the tables, and gives the worker its id, at the first time. A file of a newer
/// version is left as it is.
pub(super) fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    // Nobody waits here: the only other user is another worker, which stays.
    connection.busy_timeout(Duration::ZERO)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        transaction.execute_batch(SCHEMA)?;
        transaction
            .execute("INSERT INTO station (one, worker_id) VALUES (1, ?1)", [Uuid::new_v4().to_string()])?;
    }
    for (from, change) in (1..).zip(CHANGES) {
        if (1..=from).contains(&version) {
            transaction.execute_batch(change)?;
        }
    }
    if version < VERSION {
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    // An exclusive lock is taken by the first write only; this one changes nothing.
    transaction.execute("UPDATE station SET one = 1", [])?;
    transaction.commit()
}
