//! Why one job waits, in full: the leader's reason, what would help, and all of it in plain words.
//!
//! A job that does not wait is told with what it does instead; of an array it is the first job that waits.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use berth_common::job::{JobView, Outcome, Status, WhyView};
use berth_common::message::{Waiting, Why};
use berth_common::problem::Problem;
use uuid::Uuid;

use super::reasons;
use super::show::not_found;
use super::visible::sees;
use crate::http::auth::Caller;
use crate::http::params::Id;
use crate::http::refusal::Refusal;
use crate::http::served::Served;
use crate::store::read::arrays::{self, Element};
use crate::store::read::jobs::{self, Place};
use crate::store::read::{ReadError, Session};

/// Why a job waits: the reason in full, in plain words, with what could be changed. With the id of an array
/// it is about the first of its jobs that waits.
#[utoipa::path(get, path = "/v1/jobs/{id}/why", tag = "jobs", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = WhyView),
        (status = 404, body = Problem, description = "no such job, or not yours, or not decided yet")))]
pub async fn why(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<WhyView>, Refusal> {
    let Found { job, array } = {
        let db = served.reads().session().await?;
        find(&db, &caller, id).await?.ok_or_else(|| not_found(id))?
    };
    let Why { waiting, changes } = match job.status {
        Status::Unapproved | Status::Pending | Status::Scheduled => {
            reasons::why(served.asker(), job.id).await
        }
        Status::Running | Status::Exited => Why { waiting: None, changes: Vec::new() },
    };
    let text = format!("{}{}", array.unwrap_or_default(), words(&job, waiting.as_ref()));
    let (id, status) = (job.id, job.status);
    let (position, start_by) = waiting.as_ref().map_or((None, None), |w| (w.position, w.start_by));
    let reason = waiting.map(|waiting| waiting.reason);
    Ok(Json(WhyView { id, status, reason, position, start_by, text, changes }))
}

/// The job that is explained, and what is to be said of the array that was asked about.
struct Found {
    job: JobView,
    array: Option<String>,
}

/// None: there is nothing of this id that the caller may see.
async fn find(db: &Session, caller: &Caller, id: Uuid) -> Result<Option<Found>, ReadError> {
    if let Some(job) = jobs::find(db, id).await? {
        let seen = sees(db, caller, &Place::of_view(&job)).await?;
        return Ok(seen.then_some(Found { job, array: None }));
    }
    let Some(place) = arrays::place(db, id).await? else { return Ok(None) };
    if !sees(db, caller, &place).await? {
        return Ok(None);
    }
    let elements = arrays::elements(db, id).await?;
    let Some((which, element)) = first(&elements) else { return Ok(None) };
    let Some(job) = jobs::find(db, element.job).await? else { return Ok(None) };
    let index = job.array_index.unwrap_or_default();
    let array = format!("{}. The {which} has index {index}. ", counts(&elements));
    Ok(Some(Found { job, array: Some(array) }))
}

/// The element that says most about why an array is not over: the first one that waits, else that starts,
/// else that runs; of an array that is over the last one.
fn first(elements: &[Element]) -> Option<(&'static str, &Element)> {
    let with = |wanted: &[Status]| elements.iter().find(|element| wanted.contains(&element.status));
    with(&[Status::Unapproved, Status::Pending])
        .map(|element| ("first one that waits", element))
        .or_else(|| with(&[Status::Scheduled]).map(|element| ("first one that starts", element)))
        .or_else(|| with(&[Status::Running]).map(|element| ("first one that runs", element)))
        .or_else(|| elements.last().map(|element| ("last one", element)))
}

/// `An array of 100 jobs: 60 wait, 8 start or run, 32 are over`.
fn counts(elements: &[Element]) -> String {
    let (mut wait, mut placed, mut over) = (0, 0, 0);
    for element in elements {
        match element.status {
            Status::Unapproved | Status::Pending => wait += 1,
            Status::Scheduled | Status::Running => placed += 1,
            Status::Exited => over += 1,
        }
    }
    format!("An array of {} jobs: {wait} wait, {placed} start or run, {over} are over", elements.len())
}

fn words(job: &JobView, waiting: Option<&Waiting>) -> String {
    match job.status {
        Status::Unapproved | Status::Pending | Status::Scheduled => match waiting {
            Some(waiting) => of_waiting(&job.queue, waiting),
            // Between the row that was read and the leader's answer.
            None => "It has just begun or ended; ask again.".to_owned(),
        },
        Status::Running => of_running(job),
        Status::Exited => of_exited(job),
    }
}

fn of_waiting(queue: &str, waiting: &Waiting) -> String {
    let mut text = waiting.reason.text.clone();
    if let Some(position) = waiting.position {
        let _ = write!(text, " Its place in the queue {queue} is {position}."); // to a String
    }
    if let Some(start_by) = waiting.start_by {
        let _ = write!(text, " It starts by {start_by:.0} at the latest.");
    }
    text
}

fn of_running(job: &JobView) -> String {
    let on = job.device.as_ref().map(|device| format!(" on {device}")).unwrap_or_default();
    let since = job.started_at.map(|at| format!(" since {at:.0}")).unwrap_or_default();
    match job.stopping {
        Some(stopping) => format!("It runs{on}{since}, and is being stopped ({stopping})."),
        None => format!("It does not wait: it runs{on}{since}."),
    }
}

fn of_exited(job: &JobView) -> String {
    let code = job.exit_code.map(|code| format!("exit code {code}"));
    let at = job.exited_at.map(|at| format!(" at {at:.0}")).unwrap_or_default();
    let how = match job.outcome {
        Some(Outcome::Succeeded) | None => "it has succeeded",
        Some(Outcome::Failed) => "it has failed",
        Some(Outcome::Killed) => "it was killed",
        Some(Outcome::TimedOut) => "it ran for as long as it might, and was stopped",
        Some(Outcome::Error) => "it could not be run to its end",
    };
    // A container's ending is told as "exit code 3", which stands there already.
    let error = job.error.as_ref().filter(|&error| Some(error) != code.as_ref());
    let error = error.map(|error| format!(": {error}")).unwrap_or_default();
    let with = code.map(|code| format!(" with {code}")).unwrap_or_default();
    format!("It is over: {how}{with}{at}{error}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(status: Status) -> Element {
        Element { job: Uuid::nil(), status, outcome: None }
    }

    #[test]
    fn of_an_array_the_first_one_that_waits_is_told() {
        use Status::{Exited, Pending, Running, Scheduled};
        for (statuses, which) in [
            (vec![Exited, Running, Scheduled, Pending, Pending], Some("first one that waits")),
            (vec![Exited, Running, Scheduled], Some("first one that starts")),
            (vec![Exited, Running], Some("first one that runs")),
            (vec![Exited, Exited], Some("last one")),
            (vec![], None),
        ] {
            let elements: Vec<Element> = statuses.into_iter().map(element).collect();
            assert_eq!(first(&elements).map(|(which, _)| which), which);
        }
        let elements = [Exited, Running, Scheduled, Pending].map(element);
        assert_eq!(counts(&elements), "An array of 4 jobs: 1 wait, 2 start or run, 1 are over");
    }
}
