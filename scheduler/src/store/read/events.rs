//! The history of a job.

use berth_common::id::{CELL, JobId};
use berth_common::job::Status;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ReadError, Session, get, word, word_opt};

pub const STATEMENTS: &[(&str, &str)] = &[("PAGE", PAGE)];

const PAGE: &str = "
SELECT e.seq, e.from_status, e.to_status, e.actor, e.reason, e.at FROM hist.job_events AS e
WHERE e.cell_id = $1 AND e.job_id = $2 AND e.seq > $3 ORDER BY e.seq LIMIT $4";

/// A change of a job's status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobEventView {
    /// Grows with time.
    pub seq: i64,
    /// Null: it was submitted.
    pub from: Option<Status>,
    pub to: Status,
    /// A user's name, `scheduler`, or `device:<name>`.
    pub actor: String,
    pub reason: Option<String>,
    #[serde(with = "berth_common::time")]
    pub time: Timestamp,
}

/// At most `limit` events of `job` after the one numbered `after`, oldest first.
///
/// # Errors
/// See [`ReadError`].
pub async fn page(db: &Session, job: JobId, after: i64, limit: i64) -> Result<Vec<JobEventView>, ReadError> {
    let rows = db.rows(PAGE, &[&CELL, &job, &after, &limit]).await?;
    let view = |row| {
        Ok(JobEventView {
            seq: get(row, "seq")?,
            from: word_opt(row, "from_status")?,
            to: word(row, "to_status")?,
            actor: get(row, "actor")?,
            reason: get(row, "reason")?,
            time: get(row, "at")?,
        })
    };
    rows.iter().map(view).collect()
}
