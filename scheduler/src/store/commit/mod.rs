//! A batch: everything that one step wants written, in one transaction and one flush.
//!
//! Its first statement locks the leader's row if the epoch still is ours, and fails otherwise. Then
//! one statement per table and kind, over arrays. An UPDATE that would miss a row must not be
//! committed, and COMMIT has left before its count comes back: so a guard goes before it, which fails
//! in the same way unless every row is there. Nobody else writes these rows while ours is locked.

mod containers;
mod devices;
mod jobs;
mod queues;

use berth_common::database::sqlstate;
use jiff::Timestamp;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::columns::Columns;
use super::lease::Lead;
use super::pipeline::{Sent, Step, transaction};
use super::{StoreError, limited};
use crate::core::rows::{OutboxRow, Rows};

pub use containers::STATEMENTS as CONTAINERS;
pub use devices::STATEMENTS as DEVICES;
pub use jobs::STATEMENTS as JOBS;
pub use queues::STATEMENTS as QUEUES;

pub const STATEMENTS: &[(&str, &str)] = &[
    ("LOCK", LOCK),
    ("SET_NEXT_ID", SET_NEXT_ID),
    ("SET_RECOVERED", SET_RECOVERED),
    ("DELETE_OUTBOX", DELETE_OUTBOX),
    ("INSERT_OUTBOX", INSERT_OUTBOX),
];

/// Divides by zero (22012) when the row is not ours.
const LOCK: &str = "SELECT 1/count(*) FROM \
    (SELECT 1 FROM sched.leader WHERE cell_id = $1 AND epoch = $2 FOR UPDATE) AS l";
const SET_NEXT_ID: &str =
    "UPDATE sched.leader SET next_id = $3 WHERE cell_id = $1 AND epoch = $2 AND next_id <= $3";
const SET_RECOVERED: &str = "UPDATE sched.leader SET recovering = FALSE WHERE cell_id = $1 AND epoch = $2";
const DELETE_OUTBOX: &str = "DELETE FROM sched.outbox WHERE cell_id = $1 AND id = ANY($2::BIGINT[])";
const INSERT_OUTBOX: &str = "INSERT INTO sched.outbox (cell_id, id, device, body, created_at) \
    SELECT $1::INTEGER, unnest($2::BIGINT[]), unnest($3::TEXT[]), unnest($4::TEXT[]), unnest($5::TIMESTAMPTZ[])";

/// A transaction that collided with another is sent once more before anybody hears of it.
const SENDS: u32 = 2;

impl Lead {
    /// Writes `rows` and deletes the messages `published` from the outbox, all or nothing.
    pub async fn commit(&mut self, rows: &Rows, published: &[i64], now: Timestamp) -> Result<(), StoreError> {
        let batch = Batch::of(self, rows, published, now)?;
        if batch.steps.len() == 1 {
            return Ok(());
        }
        let mut result = self.send(&batch).await;
        for _ in 1..SENDS {
            if !matches!(result, Err(StoreError::Retry { .. })) {
                break;
            }
            result = self.send(&batch).await;
        }
        if result.is_ok() {
            self.grown(rows).await;
        }
        result
    }

    async fn send(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        limited(&self.connected, async {
            match transaction(&self.connected.client, &self.statements, &batch.steps).await {
                Sent::Committed => Ok(()),
                Sent::RolledBack { sql, error } => Err(judge(sql, &error)),
                Sent::Miscounted { sql, expected, changed } => Err(StoreError::Unknown {
                    text: format!("{changed} rows changed instead of {expected} by {sql}"),
                }),
                Sent::Lost(error) => Err(StoreError::unknown(&error)),
            }
        })
        .await
    }
}

fn judge(sql: &str, error: &Error) -> StoreError {
    if sql == LOCK && error.code() == Some(&SqlState::DIVISION_BY_ZERO) {
        return StoreError::Deposed;
    }
    match (StoreError::judge(error), sqlstate(error)) {
        (StoreError::Poison { .. }, Some("22012")) => {
            StoreError::Poison { text: format!("a row that should be changed is not there: {sql}") }
        }
        (judged, _) => judged,
    }
}

/// The statements of a transaction, in the order in which keys and references allow them.
struct Batch<'a> {
    cell: i32,
    steps: Vec<Step<'a>>,
}

impl<'a> Batch<'a> {
    fn of(lead: &Lead, rows: &'a Rows, published: &'a [i64], now: Timestamp) -> Result<Self, StoreError> {
        let (cell, epoch) = (lead.cell, lead.epoch);
        let mut batch = Self { cell, steps: Vec::new() };
        batch.push(LOCK, Columns::default().one(cell).one(epoch))?;
        if let Some(next_id) = rows.next_id {
            batch.push_counted(SET_NEXT_ID, 1, Columns::default().one(cell).one(epoch).one(next_id))?;
        }
        if rows.recovered {
            batch.push_counted(SET_RECOVERED, 1, Columns::default().one(cell).one(epoch))?;
        }
        if !published.is_empty() {
            batch.push(DELETE_OUTBOX, Columns::default().one(cell).one(published))?;
        }
        queues::write(&mut batch, rows, now)?;
        devices::write(&mut batch, rows, now)?;
        jobs::write(&mut batch, rows)?;
        containers::write(&mut batch, rows)?;
        outbox(&mut batch, &rows.outbox)?;
        Ok(batch)
    }

    fn push(&mut self, sql: &'static str, columns: Columns<'a>) -> Result<(), StoreError> {
        let params = columns.done().map_err(|bad| StoreError::Poison { text: bad.0 })?;
        self.steps.push(Step { sql, params, expect: None });
        Ok(())
    }

    /// A statement that changes so many rows, no more and no less.
    fn push_counted(
        &mut self,
        sql: &'static str,
        rows: usize,
        columns: Columns<'a>,
    ) -> Result<(), StoreError> {
        self.push(sql, columns)?;
        if let Some(step) = self.steps.last_mut() {
            step.expect = u64::try_from(rows).ok();
        }
        Ok(())
    }

    /// Fails the transaction unless all these rows are there, each once.
    fn guard<Id>(
        &mut self,
        sql: &'static str,
        ids: impl ExactSizeIterator<Item = Id>,
    ) -> Result<(), StoreError>
    where
        Id: ToSql + Sync + Send + 'a,
    {
        let rows = ids.len();
        self.push(sql, self.columns().each(ids).count(rows))
    }

    /// Columns that begin with the cell.
    fn columns(&self) -> Columns<'a> {
        Columns::default().one(self.cell)
    }
}

fn outbox<'a>(batch: &mut Batch<'a>, rows: &'a [OutboxRow]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let columns = batch
        .columns()
        .each(rows.iter().map(|r| r.message.id))
        .texts(rows.iter().map(|r| r.device.as_str()))
        .json(rows.iter().map(|r| &r.message))
        .each(rows.iter().map(|r| r.created_at));
    batch.push(INSERT_OUTBOX, columns)
}
