//! SQL in and out: the schema's migrations, the lease of the leader, the state it loads and the
//! batches it commits; the shim's queries are in `read`.
//!
//! **Convention.** Every statement is a constant beside its one caller, `const NAME: &str`,
//! keywords in capitals, names in small letters, values bound (`$1`), types of arrays and of what
//! stands in a `SELECT` list said with `::`. Every module that has statements lists them all in
//! `pub const STATEMENTS: &[(&str, &str)]` (name, text), and [`statements`] lists the modules. Two
//! tests see to the rest: no string of this crate begins like SQL without standing in such a list,
//! and every listed one keeps to the subset that openGauss, PostgreSQL and Citus share and is
//! prepared against the test database (`tests/store/check_sql.rs`, `dev/check-sql`).
//!
//! Empty texts are stored as NULL (openGauss takes `''` for NULL) and come back empty.

mod columns;
mod commit;
mod facts;
mod lease;
mod load;
mod migrate;
mod pipeline;
pub mod read;
mod recover;
mod row;
mod statistics;

use berth_common::database::{Connected, TimedOut, sqlstate, with_timeout};

pub use lease::{Lead, LeaseRow, ensure_cell, read_lease, renew_lease, take_lease};
pub use migrate::{MigrateError, migrate};
pub use recover::{Raised, RecoverError, WATCH, recover};

/// Why the database did not do what the leader asked. They differ in what has to happen next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody else leads. Nothing was written.
    #[error("another scheduler leads this cell now")]
    Deposed,
    /// It fails for what is in it, and would again. Nothing was written.
    #[error("the database refuses it: {text}")]
    Poison { text: String },
    /// It collided with another transaction, twice. Nothing was written.
    #[error("the transaction collided with another one, twice: {text}")]
    Retry { text: String },
    /// Nobody knows whether it was written: take the lease on a new connection and load again.
    #[error("the database did not answer as expected: {text}")]
    Unknown { text: String },
}

impl StoreError {
    fn unknown(error: &tokio_postgres::Error) -> Self {
        Self::Unknown { text: chain(error) }
    }

    /// What an error of a statement means, by its SQLSTATE alone: names of constraints and tables
    /// are not the same on all engines.
    fn judge(error: &tokio_postgres::Error) -> Self {
        let text = chain(error);
        match sqlstate(error) {
            Some("40001" | "40P01") => Self::Retry { text },
            Some(state) if state.starts_with("22") || state.starts_with("23") => Self::Poison { text },
            Some(_) => Self::Unknown { text },
            None if pipeline::is_unbindable(error) => Self::Poison { text },
            None => Self::Unknown { text },
        }
    }
}

/// Every statement of the scheduler, by module.
#[must_use]
pub fn statements() -> Vec<(&'static str, &'static str, &'static str)> {
    let modules: [(&str, &[(&str, &str)]); 11] = [
        ("migrate", migrate::STATEMENTS),
        ("lease", lease::STATEMENTS),
        ("load", load::STATEMENTS),
        ("facts", facts::STATEMENTS),
        ("commit", commit::STATEMENTS),
        ("commit::jobs", commit::JOBS),
        ("commit::containers", commit::CONTAINERS),
        ("commit::devices", commit::DEVICES),
        ("commit::queues", commit::QUEUES),
        ("recover", recover::STATEMENTS),
        ("statistics", statistics::STATEMENTS),
    ];
    let of = |(module, list): (&'static str, &'static [(&'static str, &'static str)])| {
        list.iter().map(move |&(name, sql)| (module, name, sql))
    };
    modules.into_iter().chain(read::STATEMENTS.iter().copied()).flat_map(of).collect()
}

/// The server itself gives up after [`STATEMENT_TIMEOUT`](berth_common::database::STATEMENT_TIMEOUT);
/// a little later it counts as silent.
const CALL_LIMIT: std::time::Duration = std::time::Duration::from_secs(35);

/// One exchange with the database, with a limit on our side too.
async fn limited<T>(
    connected: &Connected,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let silent = |error: TimedOut| StoreError::Unknown { text: error.to_string() };
    with_timeout(&connected.cancel, CALL_LIMIT, call).await.map_err(silent)?
}

/// An error and what caused it, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
