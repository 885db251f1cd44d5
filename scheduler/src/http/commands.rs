//! Commands on jobs: told to the leader by a message, like a submission.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_common::command::{CommandBody, CommandView};
use berth_common::id::JobId;
use berth_common::message::{CommandRequest, Reply, Target};
use berth_common::problem::Problem;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::auth::Caller;
use super::body;
use super::jobs::show::{not_found, require_visible};
use super::page::{Page, Position};
use super::params::{Id, Params, limit};
use super::refusal::Refusal;
use super::request::{self, LEADER_WAIT, idempotency_key};
use super::served::Served;
use crate::ask::{AskError, Asker};
use crate::store::read::{commands, jobs};

/// Under which version-5 command ids are made from idempotency keys. Fixed for ever, as for jobs.
const COMMAND_NAMESPACE: Uuid = Uuid::from_u128(0x2f2a_6d1e_90b4_4f7c_8a51_77c3_0e9b_45d2);
/// Jobs of one request: as many as a page of the list has at most. All are on their way at once, so
/// that a leader that is silent is waited for once.
const MAX_JOBS: usize = 1000;

/// Command a job: kill, hold, release, retry, priority.
#[utoipa::path(post, path = "/v1/jobs/{id}/commands", tag = "commands", request_body = CommandBody,
    params(("id" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 202, body = CommandView, headers(("Location"))), (status = 404, body = Problem),
        (status = 409, body = Problem, description = "it makes no sense in the job's status, or another command had this key"),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn command(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Id(job): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let key = idempotency_key(&headers, 0)?;
    let command = CommandBody::from_value(body::json(&headers, body).await?)?;
    require_visible(&served.reads().session().await?, &caller, job).await?;
    let id = id_for(&caller, job, key);
    let view = ask(served.asker(), &caller, id, job, &command).await?;
    let location = [(header::LOCATION, format!("/v1/commands/{id}"))];
    Ok((StatusCode::ACCEPTED, location, Json(view)).into_response())
}

/// One command for several jobs, as it stands in a request's body.
#[derive(Debug, Deserialize, ToSchema)]
pub struct BulkBody {
    /// At most 1000.
    jobs: Vec<Uuid>,
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
    /// A [`CommandView`], or `{"id", "status": "accepted"}`.
    Command(Value),
    Error(Problem),
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Bulk {
    items: Vec<BulkItem>,
}

/// The same command for several jobs; the answer has an item for each, in the same order.
#[utoipa::path(post, path = "/v1/commands", tag = "commands", request_body = BulkBody,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = Bulk), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn bulk(
    State(served): State<Arc<Served>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Bulk>, Refusal> {
    let key = idempotency_key(&headers, 0)?;
    let BulkBody { jobs, command } = body::read(&headers, body).await?;
    if jobs.len() > MAX_JOBS {
        return Err(Refusal::invalid("/jobs", format!("at most {MAX_JOBS}")));
    }
    let command = CommandBody::from_value(Value::Object(command))?;
    let owners = {
        let db = served.reads().session().await?;
        jobs::owners(&db, &jobs).await?
    };
    let results = futures_util::stream::iter(jobs).map(|job| {
        let visible = owners.get(&job).is_some_and(|owner| caller.sees(owner));
        let (served, caller, command) = (&served, &caller, &command);
        async move {
            let result = if visible {
                ask(served.asker(), caller, id_for(caller, job, key), job, command).await
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
    Ok(Json(Bulk { items: results.buffered(MAX_JOBS).collect().await }))
}

/// A command: where it stands and how it ended.
#[utoipa::path(get, path = "/v1/commands/{id}", tag = "commands", params(("id" = Uuid, Path)),
    responses((status = 200, body = CommandView), (status = 404, body = Problem)))]
pub async fn show(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<CommandView>, Refusal> {
    let db = served.reads().session().await?;
    let missing = || {
        Refusal::new(
            404,
            format!(
                "there is no command {id} that you may see. One that was answered with 202 and \
                 \"accepted\" appears once the scheduler has decided it"
            ),
        )
    };
    let command = commands::find(&db, id).await?.ok_or_else(missing)?;
    let visible = caller.sees(&command.actor)
        || match command.job {
            Some(job) => jobs::owners(&db, &[job]).await?.get(&job).is_some_and(|owner| caller.sees(owner)),
            None => false,
        };
    if visible { Ok(Json(command)) } else { Err(missing()) }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OfJobParams {
    /// 1–1000; 100 where absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The commands that a job was given, newest first.
#[utoipa::path(get, path = "/v1/jobs/{id}/commands", tag = "commands",
    params(("id" = Uuid, Path), OfJobParams),
    responses((status = 200, body = Page<CommandView>), (status = 404, body = Problem)))]
pub async fn of_job(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Id(job): Id,
    Params(params): Params<OfJobParams>,
) -> Result<Json<Page<CommandView>>, Refusal> {
    let limit = limit(params.limit)?;
    let before = params.cursor.as_deref().map(Position::from_cursor).transpose()?.unwrap_or(Position::NEWEST);
    let db = served.reads().session().await?;
    require_visible(&db, &caller, job).await?;
    let found = commands::page_of_job(&db, job, (before.at, before.id), i64::from(limit) + 1).await?;
    let position = |command: &CommandView| Position { at: command.asked_at, id: command.id }.to_cursor();
    Ok(Json(Page::cut(found, limit, position)))
}

fn id_for(caller: &Caller, job: JobId, key: Option<&str>) -> Uuid {
    key.map_or_else(Uuid::now_v7, |key| {
        Uuid::new_v5(&COMMAND_NAMESPACE, format!("{}\0{job}\0{key}", caller.name).as_bytes())
    })
}

/// Tells the leader and waits for the command as it stands then, or for `accepted`.
async fn ask(
    asker: &Asker,
    caller: &Caller,
    id: Uuid,
    job: JobId,
    command: &CommandBody,
) -> Result<Value, Refusal> {
    let body = serde_json::to_value(command).expect("a command is plain JSON");
    let message = request::command(&caller.name, id, &CommandRequest { target: Target::Job(job), body });
    match asker.ask(message, LEADER_WAIT).await {
        Ok(Reply { status: 200..=299, body }) => Ok(body),
        Ok(reply) => Err(request::problem_of(reply).into()),
        Err(AskError::NoAnswer) => Ok(json!({"id": id, "status": "accepted"})),
        Err(error) => Err(error.into()),
    }
}
