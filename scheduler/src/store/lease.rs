//! Who leads a cell: a row that the leader renews, and that a standby takes over when it has stood
//! still for long enough.
//!
//! Taking is a compare-and-set that raises the epoch; every write of a leader names its epoch, so
//! one that was deposed writes nothing, however late it wakes up.

use berth_common::database::{Connected, Engine};
use jiff::Timestamp;
use rand::RngCore;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::pipeline::Prepared;
use super::statistics::Growth;
use super::{StoreError, limited};

/// Those that a leader runs again and again.
pub const LEADERS: &[(&str, &str)] = &[("RENEW", RENEW), ("RELEASE", RELEASE)];

pub const STATEMENTS: &[(&str, &str)] = &[
    ("SELECT_CELL", SELECT_CELL),
    ("INSERT_CELL", INSERT_CELL),
    ("SELECT_LEADER", SELECT_LEADER),
    ("INSERT_LEADER", INSERT_LEADER),
    ("SELECT_QUEUE", SELECT_QUEUE),
    ("INSERT_QUEUE", INSERT_QUEUE),
    ("READ", READ),
    ("BACKEND", BACKEND),
    ("END_FROZEN", END_FROZEN),
    ("TAKE", TAKE),
    ("RENEW", RENEW),
    ("RELEASE", RELEASE),
];

const SELECT_CELL: &str = "SELECT 1 FROM core.cells WHERE cell_id = $1";
const INSERT_CELL: &str = "INSERT INTO core.cells (cell_id, name) VALUES ($1, $2)";
const SELECT_LEADER: &str = "SELECT 1 FROM sched.leader WHERE cell_id = $1";
const INSERT_LEADER: &str = "INSERT INTO sched.leader \
    (cell_id, epoch, next_id, renewed_at, instance, secret) VALUES ($1, 0, $2, $3, $4, $5)";
const SELECT_QUEUE: &str = "SELECT 1 FROM core.queues WHERE name = $1";
const INSERT_QUEUE: &str = "INSERT INTO core.queues \
    (name, cell_id, weight, default_timeout_s, approval, created_at) VALUES ($1, $2, 1, $3, FALSE, $4)";

const READ: &str = "SELECT epoch, holder, backend, renewed_at FROM sched.leader WHERE cell_id = $1";
const BACKEND: &str = "SELECT pg_backend_pid()::BIGINT";
const END_FROZEN: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
    WHERE pid = $1 AND usename = current_user AND state = 'idle in transaction'";
const TAKE: &str = "UPDATE sched.leader \
    SET epoch = epoch + 1, holder = $4, backend = $5, renewed_at = $6 \
    WHERE cell_id = $1 AND epoch = $2 AND renewed_at = $3";
const RENEW: &str = "UPDATE sched.leader SET renewed_at = $3 WHERE cell_id = $1 AND epoch = $2";
const RELEASE: &str =
    "UPDATE sched.leader SET holder = NULL, renewed_at = $3 WHERE cell_id = $1 AND epoch = $2";

/// Numbers of cell n lie from n·2^40 on, so that those of two cells never meet.
const IDS_PER_CELL_BITS: u32 = 40;
/// The queue that jobs go to that name none, with a limit for those that set none.
const DEFAULT_QUEUE: &str = "default";
const DEFAULT_TIMEOUT_S: i64 = 7 * 86_400;
/// Bytes of the secret from which the containers' passwords are derived.
const SECRET_BYTES: usize = 32;

/// The lease as a standby sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    pub epoch: i64,
    /// Nobody, when the last leader released it.
    pub holder: Option<String>,
    /// The server's process or thread that served the holder.
    pub backend: Option<i64>,
    pub renewed_at: Timestamp,
}

/// The leader's hold of a cell, on a connection of its own. After any [`StoreError::Unknown`] it
/// must be dropped.
pub struct Lead {
    pub(super) connected: Connected,
    pub(super) statements: Prepared,
    pub(super) cell: i32,
    pub(super) epoch: i64,
    taken_at: Timestamp,
    pub(super) growth: Growth,
}

/// Makes what a cell needs before it can be led: its rows, and in it the queue `default`. Makes
/// nothing that is there.
pub async fn ensure_cell(client: &Client, cell: i32, now: Timestamp) -> Result<(), StoreError> {
    let name = format!("cell-{cell}");
    if absent(client, SELECT_CELL, &[&cell]).await? {
        insert(client, INSERT_CELL, &[&cell, &name]).await?;
    }
    if absent(client, SELECT_LEADER, &[&cell]).await? {
        let next_id = (i64::from(cell) << IDS_PER_CELL_BITS) + 1;
        let mut secret = [0; SECRET_BYTES];
        rand::rng().fill_bytes(&mut secret);
        let instance = Uuid::new_v4();
        insert(client, INSERT_LEADER, &[&cell, &next_id, &now, &instance, &hex::encode(secret)]).await?;
    }
    if absent(client, SELECT_QUEUE, &[&DEFAULT_QUEUE]).await? {
        insert(client, INSERT_QUEUE, &[&DEFAULT_QUEUE, &cell, &DEFAULT_TIMEOUT_S, &now]).await?;
    }
    Ok(())
}

/// Whether the cell was made.
pub(super) async fn has_leader(client: &Client, cell: i32) -> Result<bool, StoreError> {
    absent(client, SELECT_LEADER, &[&cell]).await.map(|absent| !absent)
}

type Params<'a> = &'a [&'a (dyn tokio_postgres::types::ToSql + Sync)];

async fn absent(client: &Client, sql: &str, params: Params<'_>) -> Result<bool, StoreError> {
    let row = client.query_opt(sql, params).await.map_err(|e| StoreError::unknown(&e))?;
    Ok(row.is_none())
}

/// A duplicate key means that somebody else was faster, and it is there.
async fn insert(client: &Client, sql: &str, params: Params<'_>) -> Result<(), StoreError> {
    match client.execute(sql, params).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => Ok(()),
        Err(error) => Err(StoreError::unknown(&error)),
    }
}

/// The lease of a cell as it is now. A standby that has seen the same row for long enough by its own
/// clock, or one without a holder, takes it.
pub async fn read_lease(connected: &Connected, cell: i32) -> Result<LeaseRow, StoreError> {
    limited(connected, async {
        let row = connected.client.query_one(READ, &[&cell]).await.map_err(|e| StoreError::unknown(&e))?;
        Ok(LeaseRow { epoch: row.get(0), holder: row.get(1), backend: row.get(2), renewed_at: row.get(3) })
    })
    .await
}

/// Takes the lease if it still is as it was `seen`; `None`: somebody was faster. `now` must be later
/// than `seen.renewed_at`, or others might not see the change.
pub async fn take_lease(
    connected: Connected,
    cell: i32,
    seen: &LeaseRow,
    holder: &str,
    now: Timestamp,
) -> Result<Option<Lead>, StoreError> {
    let taken = limited(&connected, async {
        let client = &connected.client;
        let taken = take(client, connected.engine, cell, seen, holder, now).await;
        if taken.map_err(|e| StoreError::unknown(&e))? {
            return Prepared::new(client).await.map(Some).map_err(|e| StoreError::unknown(&e));
        }
        Ok(None)
    });
    let taken = taken.await?;
    Ok(taken.map(|statements| Lead {
        connected,
        statements,
        cell,
        epoch: seen.epoch + 1,
        taken_at: now,
        growth: Growth::default(),
    }))
}

/// [`Lead::renew`] on another connection, for as long as the leader's own one is busy with one thing.
pub async fn renew_lease(
    connected: &Connected,
    cell: i32,
    epoch: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    limited(connected, async {
        let changed = connected.client.execute(RENEW, &[&cell, &epoch, &now]).await;
        match changed.map_err(|e| StoreError::unknown(&e))? {
            0 => Err(StoreError::Deposed),
            _ => Ok(()),
        }
    })
    .await
}

async fn take(
    client: &Client,
    engine: Engine,
    cell: i32,
    seen: &LeaseRow,
    holder: &str,
    now: Timestamp,
) -> Result<bool, tokio_postgres::Error> {
    if let (Engine::OpenGauss, Some(backend)) = (engine, seen.backend) {
        // A leader that froze in the middle of a batch holds the row's lock. PostgreSQL ends its
        // session by itself (`idle_in_transaction_session_timeout`).
        client.execute(END_FROZEN, &[&backend]).await?;
    }
    let backend: i64 = client.query_one(BACKEND, &[]).await?.get(0);
    let params: Params<'_> = &[&cell, &seen.epoch, &seen.renewed_at, &holder, &backend, &now];
    Ok(client.execute(TAKE, params).await? == 1)
}

impl Lead {
    /// Under which number it leads; only growing in a cell.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The time that was written when the lease was taken: later than that of any leader before.
    #[must_use]
    pub fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    #[must_use]
    pub fn cell(&self) -> i32 {
        self.cell
    }

    /// Shows the standbys that the leader lives. `now` must be later than at the last renewal.
    pub async fn renew(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.write_lease(RENEW, now).await
    }

    /// Gives the lease up, so that a standby takes over at once.
    pub async fn release(self, now: Timestamp) -> Result<(), StoreError> {
        self.write_lease(RELEASE, now).await
    }

    async fn write_lease(&self, sql: &'static str, now: Timestamp) -> Result<(), StoreError> {
        limited(&self.connected, async {
            let statement = self.statements.get(sql);
            let changed = self.connected.client.execute(statement, &[&self.cell, &self.epoch, &now]).await;
            match changed.map_err(|e| StoreError::unknown(&e))? {
                0 => Err(StoreError::Deposed),
                _ => Ok(()),
            }
        })
        .await
    }
}
