//! One job, its history, and how many there are of each kind.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use berth_common::id::JobId;
use berth_common::job::JobView;
use berth_common::problem::Problem;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::reasons;
use super::visible::{sees, sight, visible};
use crate::http::auth::Caller;
use crate::http::page::Page;
use crate::http::params::{Id, Params, limit};
use crate::http::refusal::Refusal;
use crate::http::served::Served;
use crate::store::read::events::{self, JobEventView};
use crate::store::read::jobs::{self, Place};
use crate::store::read::summary::{self, Summary};
use crate::store::read::{Session, arrays};

/// The job, with its attempts.
#[utoipa::path(get, path = "/v1/jobs/{id}", tag = "jobs", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = JobView),
        (status = 404, body = Problem, description = "no such job, or not yours, or not decided yet")))]
pub async fn show(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<JobView>, Refusal> {
    view(&served, &caller, id).await.map(Json)
}

/// A job that the caller may see, with its reason.
///
/// # Errors
/// 404 for everything else.
pub async fn view(served: &Served, caller: &Caller, id: JobId) -> Result<JobView, Refusal> {
    let mut job = {
        let db = served.reads().session().await?;
        match jobs::find(&db, id).await? {
            Some(job) if sees(&db, caller, &Place::of_view(&job)).await? => job,
            Some(_) | None => return Err(missing(&db, caller, id).await),
        }
    };
    reasons::add(served.asker(), std::slice::from_mut(&mut job)).await;
    Ok(job)
}

/// Whether the caller may see a job.
///
/// # Errors
/// 404 when not, as if it did not exist.
pub async fn require_visible(db: &Session, caller: &Caller, id: JobId) -> Result<(), Refusal> {
    if visible(db, caller, &[id]).await?.contains(&id) { Ok(()) } else { Err(missing(db, caller, id).await) }
}

/// 404, with help for whoever gave the id of an array.
async fn missing(db: &Session, caller: &Caller, id: Uuid) -> Refusal {
    let is_array = match arrays::place(db, id).await {
        Ok(Some(place)) => sees(db, caller, &place).await,
        Ok(None) => Ok(false),
        Err(error) => Err(error),
    };
    match is_array {
        Ok(true) => Refusal::new(
            404,
            format!(
                "{id} is an array, not a job: GET /v1/jobs?array={id} lists its jobs, \
                 GET /v1/jobs:summary?array={id} counts them, POST /v1/commands with \"array\" commands them"
            ),
        ),
        Ok(false) => not_found(id),
        Err(error) => error.into(),
    }
}

/// The same for a job of somebody else and for one that does not exist: ids of others are not told.
pub fn not_found(id: JobId) -> Refusal {
    Refusal::new(
        404,
        format!(
            "there is no job {id} that you may see. One that was answered with 202 appears once the \
             scheduler has decided it"
        ),
    )
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventParams {
    /// 1–1000; 100 where absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The job's history, oldest first.
#[utoipa::path(get, path = "/v1/jobs/{id}/events", tag = "jobs",
    params(("id" = uuid::Uuid, Path), EventParams),
    responses((status = 200, body = Page<JobEventView>), (status = 404, body = Problem)))]
pub async fn history(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<EventParams>,
) -> Result<Json<Page<JobEventView>>, Refusal> {
    let limit = limit(params.limit)?;
    let after = match params.cursor {
        None => i64::MIN,
        Some(cursor) => cursor
            .parse()
            .map_err(|_| Refusal::invalid("/cursor", "is not a cursor that this list has given"))?,
    };
    let db = served.reads().session().await?;
    require_visible(&db, &caller, id).await?;
    let events = events::page(&db, id, after, i64::from(limit) + 1).await?;
    Ok(Json(Page::cut(events, limit, |event| event.seq.to_string())))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SummaryParams {
    /// Only the jobs of this array.
    array: Option<Uuid>,
}

/// Counts by status and outcome, and GPUs; of the caller's own jobs, for administrators of all. Of an array
/// in a queue of which the caller is an admin, too.
#[utoipa::path(get, path = "/v1/jobs:summary", tag = "jobs", params(SummaryParams),
    responses((status = 200, body = Summary), (status = 422, body = Problem)))]
pub async fn count(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Params(SummaryParams { array }): Params<SummaryParams>,
) -> Result<Json<Summary>, Refusal> {
    let db = served.reads().session().await?;
    let mut sight = sight(&db, &caller).await?;
    if let (None, Some(sight)) = (array, &mut sight) {
        sight.queues.clear();
    }
    Ok(Json(summary::summary(&db, sight.as_ref(), array).await?))
}
