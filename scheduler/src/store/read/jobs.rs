//! Jobs as their users see them: one, or a page of those that a filter leaves.

use std::collections::HashMap;

use berth_common::id::{CELL, JobId};
use berth_common::job::{JobView, Outcome, Status};
use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{ReadError, Session, attempts, count, get, json, text, word, word_opt};

pub const STATEMENTS: &[(&str, &str)] = &[
    ("FIND", FIND),
    ("PLACES", PLACES),
    ("PROGRESS", PROGRESS),
    ("PAGE", PAGE),
    ("PAGE_OF_OWNER", PAGE_OF_OWNER),
    ("PAGE_OF_ARRAY", PAGE_OF_ARRAY),
    ("PAGE_OF_IDS", PAGE_OF_IDS),
];

const FIND: &str = "
SELECT j.job_id, j.name, j.owner, j.queue, j.priority, j.array_id, j.array_index, j.spec, j.status,
    j.outcome, j.held, j.stopping, j.attempt, j.failures, j.faults, j.exit_code, j.error,
    j.submitted_at, j.scheduled_at, j.started_at, j.exited_at
FROM sched.jobs AS j WHERE j.cell_id = $1 AND j.job_id = ANY($2::UUID[])";

const PLACES: &str = "
SELECT j.job_id, j.owner, j.queue FROM sched.jobs AS j WHERE j.cell_id = $1 AND j.job_id = ANY($2::UUID[])";

const PROGRESS: &str = "
SELECT j.status, j.attempt FROM sched.jobs AS j WHERE j.cell_id = $1 AND j.job_id = $2";

/// A statement that lists jobs by [`Filter`]. All take the same values, and differ in the index that
/// serves them.
macro_rules! page {
    ($range:literal) => {
        concat!(
            "SELECT j.job_id FROM sched.jobs AS j WHERE j.cell_id = $1 ",
            $range,
            " AND (j.submitted_at, j.job_id) < ($2, $3)
            AND ($4::TEXT[] IS NULL OR j.status = ANY($4)) AND ($5::TEXT[] IS NULL OR j.outcome = ANY($5))
            AND ($6::TEXT IS NULL OR j.owner = $6) AND ($7::TEXT IS NULL OR j.queue = $7)
            AND ($8::UUID IS NULL OR j.array_id = $8)
            AND ($9::TIMESTAMPTZ IS NULL OR j.submitted_at >= $9)
            AND ($10::TIMESTAMPTZ IS NULL OR j.submitted_at < $10)
            AND ($11::TEXT IS NULL OR position(lower($11) IN lower(j.name)) > 0)
            AND ($12::TEXT IS NULL OR EXISTS (
                SELECT 1 FROM sched.containers AS c JOIN core.device AS d ON d.did = c.did
                WHERE c.cell_id = j.cell_id AND c.job_id = j.job_id AND c.attempt = j.attempt AND d.name = $12))
            AND ($15::BIGINT = 0 OR $15 = (
                SELECT count(*) FROM sched.job_labels AS l
                JOIN (SELECT unnest($13::TEXT[]) AS key, unnest($14::TEXT[]) AS value) AS w
                ON w.key = l.key AND w.value = l.value WHERE l.cell_id = j.cell_id AND l.job_id = j.job_id))
            AND ($16::UUID IS NULL OR j.job_id >= $16) AND ($17::UUID IS NULL OR j.job_id <= $17)
            AND ($19::TEXT IS NULL OR j.owner = $19 OR j.queue = ANY($20::TEXT[]))
            ORDER BY j.submitted_at DESC, j.job_id DESC LIMIT $18"
        )
    };
}

/// By time.
const PAGE: &str = page!("");
/// One owner's by time.
const PAGE_OF_OWNER: &str = page!("AND j.owner = $6");
/// One array's.
const PAGE_OF_ARRAY: &str = page!("AND j.array_id = $8");
/// Those in a range of ids.
const PAGE_OF_IDS: &str = page!("AND j.job_id >= $16 AND j.job_id <= $17");

/// What is left of the list; absent and empty parts leave everything.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub statuses: Vec<Status>,
    pub outcomes: Vec<Outcome>,
    pub owner: Option<String>,
    pub queue: Option<String>,
    /// The device of the newest attempt.
    pub device: Option<String>,
    pub array: Option<Uuid>,
    /// All of them.
    pub labels: Vec<(String, String)>,
    pub since: Option<Timestamp>,
    /// Exclusive.
    pub until: Option<Timestamp>,
    pub name_contains: Option<String>,
    /// First and last id.
    pub ids: Option<(Uuid, Uuid)>,
    /// None: of everybody.
    pub sight: Option<Sight>,
}

/// What somebody may see who is no administrator: the own jobs, and all of some queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    pub user: String,
    pub queues: Vec<String>,
}

impl Sight {
    /// As statements take it.
    pub(super) fn parameters(sight: Option<&Self>) -> (Option<&str>, &[String]) {
        sight.map_or((None, &[]), |sight| (Some(&sight.user), &sight.queues))
    }
}

/// One job, without what only the leader knows.
///
/// # Errors
/// See [`ReadError`].
pub async fn find(db: &Session, id: JobId) -> Result<Option<JobView>, ReadError> {
    Ok(find_all(db, &[id]).await?.pop())
}

/// Where a job belongs, which decides who may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub owner: String,
    pub queue: String,
}

impl Place {
    /// Of a job that was read.
    #[must_use]
    pub fn of_view(job: &JobView) -> Self {
        Self { owner: job.owner.clone(), queue: job.queue.clone() }
    }

    pub(super) fn of(row: &Row) -> Result<Self, ReadError> {
        Ok(Self { owner: get(row, "owner")?, queue: get(row, "queue")? })
    }
}

/// Where these jobs belong; those that do not exist are left out.
///
/// # Errors
/// See [`ReadError`].
pub async fn places(db: &Session, ids: &[JobId]) -> Result<HashMap<JobId, Place>, ReadError> {
    let rows = db.rows(PLACES, &[&CELL, &ids]).await?;
    rows.iter().map(|row| Ok((get(row, "job_id")?, Place::of(row)?))).collect()
}

/// Its status and the number of its newest attempt.
///
/// # Errors
/// See [`ReadError`].
pub async fn progress(db: &Session, id: JobId) -> Result<Option<(Status, u32)>, ReadError> {
    let Some(row) = db.row(PROGRESS, &[&CELL, &id]).await? else { return Ok(None) };
    Ok(Some((word(&row, "status")?, count(&row, "attempt")?)))
}

/// At most `limit` jobs after (`before`, an id), newest first.
///
/// # Errors
/// See [`ReadError`].
pub async fn page(
    db: &Session,
    filter: &Filter,
    before: (Timestamp, Uuid),
    limit: i64,
) -> Result<Vec<JobView>, ReadError> {
    fn words<T: Copy>(of: &[T], word: impl Fn(T) -> &'static str) -> Option<Vec<&'static str>> {
        (!of.is_empty()).then(|| of.iter().map(|&value| word(value)).collect())
    }
    let sql = match (&filter.ids, &filter.array, &filter.owner) {
        (Some(_), _, _) => PAGE_OF_IDS,
        (None, Some(_), _) => PAGE_OF_ARRAY,
        (None, None, Some(_)) => PAGE_OF_OWNER,
        (None, None, None) => PAGE,
    };
    let statuses = words(&filter.statuses, Status::as_str);
    let outcomes = words(&filter.outcomes, Outcome::as_str);
    let (keys, values): (Vec<&str>, Vec<&str>) =
        filter.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).unzip();
    let labels = i64::try_from(keys.len()).unwrap_or(i64::MAX);
    let (first, last) = filter.ids.unzip();
    let (viewer, queues) = Sight::parameters(filter.sight.as_ref());
    let rows = db
        .rows(
            sql,
            &[
                &CELL,
                &before.0,
                &before.1,
                &statuses,
                &outcomes,
                &filter.owner,
                &filter.queue,
                &filter.array,
                &filter.since,
                &filter.until,
                &filter.name_contains,
                &filter.device,
                &keys,
                &values,
                &labels,
                &first,
                &last,
                &limit,
                &viewer,
                &queues,
            ],
        )
        .await?;
    let ids = rows.iter().map(|row| get(row, "job_id")).collect::<Result<Vec<JobId>, _>>()?;
    find_all(db, &ids).await
}

/// Those of `ids` that exist, newest first.
async fn find_all(db: &Session, ids: &[JobId]) -> Result<Vec<JobView>, ReadError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = db.rows(FIND, &[&CELL, &ids]).await?;
    let mut jobs = rows.iter().map(view).collect::<Result<Vec<_>, _>>()?;
    jobs.sort_unstable_by_key(|job| std::cmp::Reverse((job.submitted_at, job.id)));
    attempts::add(db, &mut jobs).await?;
    Ok(jobs)
}

fn view(row: &Row) -> Result<JobView, ReadError> {
    Ok(JobView {
        id: get(row, "job_id")?,
        name: text(row, "name")?,
        owner: get(row, "owner")?,
        queue: get(row, "queue")?,
        status: word(row, "status")?,
        outcome: word_opt(row, "outcome")?,
        held: get(row, "held")?,
        stopping: word_opt(row, "stopping")?,
        reason: None,
        position: None,
        start_by: None,
        priority: get(row, "priority")?,
        array: get(row, "array_id")?,
        array_index: get::<Option<i32>>(row, "array_index")?.and_then(|index| u32::try_from(index).ok()),
        attempt: count(row, "attempt")?,
        failures: count(row, "failures")?,
        faults: count(row, "faults")?,
        spec: json("spec", get(row, "spec")?)?,
        device: None,
        gpus: Vec::new(),
        exit_code: get(row, "exit_code")?,
        error: get(row, "error")?,
        submitted_at: get(row, "submitted_at")?,
        scheduled_at: get(row, "scheduled_at")?,
        started_at: get(row, "started_at")?,
        exited_at: get(row, "exited_at")?,
        attempts: Vec::new(),
    })
}
