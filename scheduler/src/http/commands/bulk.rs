//! One command for many jobs: those that are named, or those of an array.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use berth_common::command::{CommandBody, Verb};
use berth_common::id::JobId;
use berth_common::job::{Outcome, Status};
use berth_common::message::Target;
use berth_common::problem::Problem;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Given, ask, id_for};
use crate::http::auth::Caller;
use crate::http::body;
use crate::http::jobs::show::not_found;
use crate::http::jobs::visible::{sees, visible};
use crate::http::refusal::Refusal;
use crate::http::request::{Patience, idempotency_key};
use crate::http::served::Served;
use crate::store::read::Session;
use crate::store::read::arrays::{self, Element};

/// Jobs that one request names: as many as a page of the list has at most.
const MAX_JOBS: usize = 1000;
/// Commands of one request on their way: enough to fill the leader's batches.
const IN_FLIGHT: usize = 1000;

/// One command for several jobs, as it stands in a request's body: `jobs` or `array`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct BulkBody {
    /// At most 1000.
    #[serde(default)]
    jobs: Option<Vec<Uuid>>,
    /// All jobs of this array that have not exited; of a retry, all that have without success.
    #[serde(default)]
    array: Option<Uuid>,
    /// The other fields, those of a command.
    #[serde(flatten)]
    #[schema(value_type = CommandBody)]
    command: serde_json::Map<String, Value>,
}

/// What became of it for one job: `command`, or `error`.
#[derive(Debug, Serialize, ToSchema)]
pub struct BulkItem {
    job: Uuid,
    #[serde(flatten)]
    result: BulkResult,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BulkResult {
    /// A command as `POST /v1/jobs/{id}/commands` answers it, or `{"id", "status": "accepted"}`.
    Command(Value),
    /// As the command for this job alone would be refused: 403, 404, 409, 422, 429 or 503.
    Error(Problem),
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Bulk {
    items: Vec<BulkItem>,
}

/// The same command for several jobs; the answer has an item for each, in the same order (of an
/// array: in order of the index).
#[utoipa::path(post, path = "/v1/commands", tag = "commands", request_body = BulkBody,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, body = Bulk,
            description = "an item's `error` has the status of its own: 403, 404, 409, 422, 429 or 503"),
        (status = 404, body = Problem, description = "no such array"),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn to_many(
    State(served): State<Arc<Served>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Bulk>, Refusal> {
    let key = idempotency_key(&headers, 0)?;
    let BulkBody { jobs, array, command } = body::read(&headers, body).await?;
    let command = CommandBody::from_value(Value::Object(command))?;
    let targets = {
        let db = served.reads().session().await?;
        match (jobs, array) {
            (Some(jobs), None) => named(&db, &caller, jobs).await?,
            (None, Some(array)) => elements(&db, &caller, array, command.command).await?,
            (Some(_), Some(_)) => return Err(Refusal::invalid("/array", "give either jobs or an array")),
            (None, None) => return Err(Refusal::invalid("/jobs", "give the jobs, or an array")),
        }
    };
    // When the leader was silent for one, the others are left to the broker without waiting again.
    let silent = AtomicBool::new(false);
    let results = futures_util::stream::iter(targets).map(|(job, visible)| {
        let (served, caller, command, silent) = (&served, &caller, &command, &silent);
        async move {
            let result = if visible {
                one(served, caller, job, key, command, silent).await
            } else {
                Err(not_found(job))
            };
            let result = match result {
                Ok(view) => BulkResult::Command(view),
                Err(refusal) => BulkResult::Error(refusal.into_problem()),
            };
            BulkItem { job, result }
        }
    });
    Ok(Json(Bulk { items: results.buffered(IN_FLIGHT).collect().await }))
}

async fn one(
    served: &Served,
    caller: &Caller,
    job: JobId,
    key: Option<&str>,
    command: &CommandBody,
    silent: &AtomicBool,
) -> Result<Value, Refusal> {
    let target = Target::Job(job);
    let id = id_for(caller, &target, key);
    let patience = if silent.load(Ordering::Relaxed) { Patience::Confirm } else { Patience::Decision };
    let given = ask(served.asker(), caller, id, target, command, patience).await?;
    match &given {
        Given::Accepted(_) => silent.store(true, Ordering::Relaxed),
        Given::Decided(_) => {}
    }
    Ok(given.into_view())
}

/// The jobs of a request, and whether the caller may see each.
async fn named(db: &Session, caller: &Caller, jobs: Vec<JobId>) -> Result<Vec<(JobId, bool)>, Refusal> {
    if jobs.len() > MAX_JOBS {
        return Err(Refusal::invalid("/jobs", format!("at most {MAX_JOBS}")));
    }
    let seen = visible(db, caller, &jobs).await?;
    Ok(jobs.into_iter().map(|job| (job, seen.contains(&job))).collect())
}

/// The jobs of an array that `verb` is for.
async fn elements(
    db: &Session,
    caller: &Caller,
    array: Uuid,
    verb: Verb,
) -> Result<Vec<(JobId, bool)>, Refusal> {
    let seen = match arrays::place(db, array).await? {
        Some(place) => sees(db, caller, &place).await?,
        None => false,
    };
    if !seen {
        return Err(Refusal::new(404, format!("there is no array {array} that you may see")));
    }
    let elements = arrays::elements(db, array).await?;
    Ok(elements.iter().filter(|element| is_for(verb, element)).map(|element| (element.job, true)).collect())
}

fn is_for(verb: Verb, element: &Element) -> bool {
    match verb {
        Verb::Retry => element.outcome.is_some_and(|outcome| outcome != Outcome::Succeeded),
        Verb::Kill
        | Verb::Hold
        | Verb::Release
        | Verb::Approve
        | Verb::Priority
        | Verb::Timeout
        | Verb::Exec
        | Verb::Drain
        | Verb::Resume => element.status != Status::Exited,
    }
}
