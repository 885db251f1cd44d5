//! Counts over all jobs, or over those that somebody may see, or over an array.

use std::collections::BTreeMap;

use berth_common::id::CELL;
use berth_common::job::{Outcome, Status};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::jobs::Sight;
use super::{ReadError, Session, get, word, word_opt};

pub const STATEMENTS: &[(&str, &str)] =
    &[("COUNTS", COUNTS), ("GPUS_IN_USE", GPUS_IN_USE), ("GPUS_WAITING", GPUS_WAITING)];

const COUNTS: &str = "
SELECT j.status, j.outcome, count(*)::BIGINT AS n FROM sched.jobs AS j
WHERE j.cell_id = $1 AND ($2::TEXT IS NULL OR j.owner = $2 OR j.queue = ANY($4::TEXT[])) AND ($3::UUID IS NULL OR j.array_id = $3)
GROUP BY j.status, j.outcome";

const GPUS_IN_USE: &str = "
SELECT count(*)::BIGINT AS n
FROM sched.reservation AS r JOIN sched.jobs AS j ON j.cell_id = r.cell_id AND j.job_id = r.job_id
WHERE r.cell_id = $1 AND ($2::TEXT IS NULL OR j.owner = $2 OR j.queue = ANY($4::TEXT[])) AND ($3::UUID IS NULL OR j.array_id = $3)";

const GPUS_WAITING: &str = "
SELECT sum(j.gpus)::BIGINT AS n FROM sched.jobs AS j
WHERE j.cell_id = $1 AND j.exited_at IS NULL AND j.status = 'pending'
    AND ($2::TEXT IS NULL OR j.owner = $2 OR j.queue = ANY($4::TEXT[])) AND ($3::UUID IS NULL OR j.array_id = $3)";

/// How many jobs are where, and GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Summary {
    /// Every status, also those that no job has.
    pub status: BTreeMap<Status, i64>,
    /// Every outcome, also those that no job has.
    pub outcome: BTreeMap<Outcome, i64>,
    pub gpus: GpuSummary,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GpuSummary {
    /// Reserved for jobs.
    pub in_use: i64,
    /// Asked for by pending jobs.
    pub waiting: i64,
}

/// Counts the jobs that are in sight, or all; only those of `array` where one is given.
///
/// # Errors
/// See [`ReadError`].
pub async fn summary(db: &Session, sight: Option<&Sight>, array: Option<Uuid>) -> Result<Summary, ReadError> {
    let mut status: BTreeMap<Status, i64> = Status::ALL.iter().map(|&status| (status, 0)).collect();
    let mut outcome: BTreeMap<Outcome, i64> = Outcome::ALL.iter().map(|&outcome| (outcome, 0)).collect();
    let (user, queues) = Sight::parameters(sight);
    for row in db.rows(COUNTS, &[&CELL, &user, &array, &queues]).await? {
        let n: i64 = get(&row, "n")?;
        *status.entry(word(&row, "status")?).or_default() += n;
        if let Some(of) = word_opt(&row, "outcome")? {
            *outcome.entry(of).or_default() += n;
        }
    }
    let gpus = GpuSummary {
        in_use: sum(db, GPUS_IN_USE, sight, array).await?,
        waiting: sum(db, GPUS_WAITING, sight, array).await?,
    };
    Ok(Summary { status, outcome, gpus })
}

async fn sum(db: &Session, sql: &str, sight: Option<&Sight>, array: Option<Uuid>) -> Result<i64, ReadError> {
    let (user, queues) = Sight::parameters(sight);
    let row = db.row(sql, &[&CELL, &user, &array, &queues]).await?;
    Ok(row.map(|row| get::<Option<i64>>(&row, "n")).transpose()?.flatten().unwrap_or_default())
}
