//! Commands, as they were asked and how they ended.

use berth_common::command::CommandView;
use berth_common::id::{CELL, JobId};
use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{ReadError, Session, get, json, word};

pub const STATEMENTS: &[(&str, &str)] = &[("FIND", FIND), ("PAGE_OF_JOB", PAGE_OF_JOB)];

const FIND: &str = "
SELECT c.id, c.job_id, c.device, c.verb, c.argument, c.actor, c.reason, c.status, c.exit_code, c.output,
    c.truncated, c.asked_at, c.done_at
FROM sched.commands AS c WHERE c.cell_id = $1 AND c.id = $2";

const PAGE_OF_JOB: &str = "
SELECT c.id, c.job_id, c.device, c.verb, c.argument, c.actor, c.reason, c.status, c.exit_code, c.output,
    c.truncated, c.asked_at, c.done_at
FROM sched.commands AS c WHERE c.cell_id = $1 AND c.job_id = $2 AND (c.asked_at, c.id) < ($3, $4)
ORDER BY c.asked_at DESC, c.id DESC LIMIT $5";

/// One command.
///
/// # Errors
/// See [`ReadError`].
pub async fn find(db: &Session, id: Uuid) -> Result<Option<CommandView>, ReadError> {
    db.row(FIND, &[&CELL, &id]).await?.map(|row| view(&row)).transpose()
}

/// At most `limit` commands of `job` before (`before`, an id), newest first.
///
/// # Errors
/// See [`ReadError`].
pub async fn page_of_job(
    db: &Session,
    job: JobId,
    before: (Timestamp, Uuid),
    limit: i64,
) -> Result<Vec<CommandView>, ReadError> {
    let rows = db.rows(PAGE_OF_JOB, &[&CELL, &job, &before.0, &before.1, &limit]).await?;
    rows.iter().map(view).collect()
}

fn view(row: &Row) -> Result<CommandView, ReadError> {
    Ok(CommandView {
        id: get(row, "id")?,
        job: get(row, "job_id")?,
        device: get(row, "device")?,
        command: word(row, "verb")?,
        argument: json("argument", get(row, "argument")?)?,
        actor: get(row, "actor")?,
        reason: get(row, "reason")?,
        status: word(row, "status")?,
        exit_code: get(row, "exit_code")?,
        output: get(row, "output")?,
        truncated: get(row, "truncated")?,
        asked_at: get(row, "asked_at")?,
        done_at: get(row, "done_at")?,
    })
}
