//! Arrays: the jobs that one submission made.

use berth_common::id::{CELL, JobId};
use berth_common::job::{Outcome, Status};
use uuid::Uuid;

use super::jobs::Place;
use super::{ReadError, Session, get, word, word_opt};

pub const STATEMENTS: &[(&str, &str)] = &[("PLACE", PLACE), ("ELEMENTS", ELEMENTS)];

const PLACE: &str = "
SELECT j.owner, j.queue FROM sched.jobs AS j WHERE j.cell_id = $1 AND j.array_id = $2 LIMIT 1";

const ELEMENTS: &str = "
SELECT j.job_id, j.status, j.outcome FROM sched.jobs AS j WHERE j.cell_id = $1 AND j.array_id = $2
ORDER BY j.array_index";

/// One job of an array, and where it is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    pub job: JobId,
    pub status: Status,
    pub outcome: Option<Outcome>,
}

/// Where an array belongs; none: there is no such one.
///
/// # Errors
/// See [`ReadError`].
pub async fn place(db: &Session, array: Uuid) -> Result<Option<Place>, ReadError> {
    db.row(PLACE, &[&CELL, &array]).await?.map(|row| Place::of(&row)).transpose()
}

/// Its jobs, in order of their index.
///
/// # Errors
/// See [`ReadError`].
pub async fn elements(db: &Session, array: Uuid) -> Result<Vec<Element>, ReadError> {
    let rows = db.rows(ELEMENTS, &[&CELL, &array]).await?;
    let element = |row| {
        Ok(Element {
            job: get(row, "job_id")?,
            status: word(row, "status")?,
            outcome: word_opt(row, "outcome")?,
        })
    };
    rows.iter().map(element).collect()
}
