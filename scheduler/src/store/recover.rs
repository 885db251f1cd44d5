//! After a restore from a backup: what was given out since the backup was made must not be given out
//! again.
//!
//! A restored database believes numbers to be free that workers have seen already: they would drop
//! messages under them, and take an old container for a new attempt. So every number is raised by
//! [`RAISE`]. And it does not know what was started since: without a session nothing is started on a
//! device before its worker has told what it has, and `recovering` has people see that before any of
//! it is stopped. The lease is given up, so that a scheduler leads at once and one that still runs is
//! deposed.

use std::time::Duration;

use berth_common::database::{Connected, TimedOut, with_timeout};
use berth_common::time::plus_ms;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use super::lease::{LeaseRow, has_leader, read_lease};
use super::{CALL_LIMIT, MigrateError, StoreError, limited, migrate};

pub const STATEMENTS: &[(&str, &str)] =
    &[("TABLE", TABLE), ("RAISE_ALL", RAISE_ALL), ("END_SESSIONS", END_SESSIONS), ("RAISED", RAISED)];

const TABLE: &str = "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = 'sched' AND tablename = 'leader'";
const RAISE_ALL: &str = "UPDATE sched.leader SET epoch = epoch + $4::BIGINT, next_id = next_id + $4::BIGINT, \
    attempt_floor = attempt_floor + $5::INTEGER, recovering = TRUE, holder = NULL, backend = NULL, \
    renewed_at = $6 WHERE cell_id = $1 AND epoch = $2 AND renewed_at = $3";
const END_SESSIONS: &str = "UPDATE sched.device_state SET session = 0 WHERE cell_id = $1";
const RAISED: &str = "SELECT epoch, next_id, attempt_floor FROM sched.leader WHERE cell_id = $1";

/// More than was given out since any sensible backup: a job takes about ten numbers.
pub const RAISE: i32 = 1 << 20;
/// A leader renews its row every second, and a standby takes over one that has stood still for 5 s:
/// a row that does not change for longer has nobody.
pub const WATCH: Duration = Duration::from_secs(6);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Where the numbers go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raised {
    pub epoch: i64,
    pub next_id: i64,
    pub attempt_floor: i32,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error("there is nothing to recover in this database: restore the backup into it first")]
    Empty,
    #[error("a scheduler still leads ({holder}): stop every scheduler first, then run this again")]
    Led { holder: String },
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Raises every number of a cell, unless its lease is seen to change within `watch`. Brings the schema
/// up to date before: the backup may be of an older program.
pub async fn recover(
    connected: &mut Connected,
    cell: i32,
    watch: Duration,
    now: Timestamp,
) -> Result<Raised, RecoverError> {
    let table = limited(connected, async {
        connected.client.query_opt(TABLE, &[]).await.map_err(|error| StoreError::unknown(&error))
    });
    if table.await?.is_none() || !has_leader(&connected.client, cell).await? {
        return Err(RecoverError::Empty);
    }
    let seen = unchanged(connected, cell, watch).await?;
    migrate(&mut connected.client, connected.engine).await?;
    raise(connected, cell, &seen, now).await
}

/// The lease, once it has stood still for so long.
async fn unchanged(connected: &Connected, cell: i32, watch: Duration) -> Result<LeaseRow, RecoverError> {
    let began = Instant::now();
    let seen = read_lease(connected, cell).await?;
    while began.elapsed() < watch {
        tokio::time::sleep(LOOK_EVERY).await;
        let lease = read_lease(connected, cell).await?;
        if lease != seen {
            return Err(led_by(lease));
        }
    }
    Ok(seen)
}

fn led_by(lease: LeaseRow) -> RecoverError {
    RecoverError::Led { holder: lease.holder.unwrap_or_else(|| "it has just ended".into()) }
}

async fn raise(
    connected: &mut Connected,
    cell: i32,
    seen: &LeaseRow,
    now: Timestamp,
) -> Result<Raised, RecoverError> {
    // Later than the row's own time, whatever this host's clock says.
    let at = now.max(plus_ms(seen.renewed_at, 1));
    let raised = with_timeout(&connected.cancel, CALL_LIMIT, async {
        let transaction = connected.client.transaction().await?;
        let from: [&(dyn ToSql + Sync); 3] = [&cell, &seen.epoch, &seen.renewed_at];
        let to: [&(dyn ToSql + Sync); 3] = [&i64::from(RAISE), &RAISE, &at];
        if transaction.execute(RAISE_ALL, &[from, to].concat()).await? == 0 {
            return Ok(None);
        }
        transaction.execute(END_SESSIONS, &[&cell]).await?;
        let row = transaction.query_one(RAISED, &[&cell]).await?;
        transaction.commit().await?;
        Ok(Some(Raised { epoch: row.get(0), next_id: row.get(1), attempt_floor: row.get(2) }))
    });
    let silent = |error: TimedOut| StoreError::Unknown { text: error.to_string() };
    match raised.await.map_err(silent)?.map_err(|error: Error| StoreError::judge(&error))? {
        Some(raised) => Ok(raised),
        None => Err(led_by(read_lease(connected, cell).await?)),
    }
}
