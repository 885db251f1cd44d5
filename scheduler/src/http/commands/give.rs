//! A command for one job, or for one device.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_common::command::{CommandBody, CommandView};
use berth_common::message::Target;
use berth_common::problem::Problem;

use super::{ask, id_for};
use crate::http::auth::Caller;
use crate::http::body;
use crate::http::devices;
use crate::http::jobs::show::require_visible;
use crate::http::params::{Id, Name};
use crate::http::refusal::Refusal;
use crate::http::request::{Patience, idempotency_key};
use crate::http::served::Served;

/// Command a job: kill, hold, release, retry, approve, priority, timeout, exec.
#[utoipa::path(post, path = "/v1/jobs/{id}/commands", tag = "commands", request_body = CommandBody,
    params(("id" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 202, body = CommandView, headers(("Location"))),
        (status = 403, body = Problem, description = "whoever may see the job may not give it this command"),
        (status = 404, body = Problem),
        (status = 409, body = Problem, description = "it makes no sense in the job's status, or another command had this key"),
        (status = 422, body = Problem),
        (status = 429, body = Problem, description = "`retry`: the queue has as many jobs as it may have"),
        (status = 503, body = Problem)))]
pub async fn to_job(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Id(job): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let key = idempotency_key(&headers, 0)?;
    let command = CommandBody::from_value(body::json(&headers, body).await?)?;
    require_visible(&served.reads().session().await?, &caller, job).await?;
    give(&served, &caller, Target::Job(job), key, &command).await
}

/// Command a device: drain, resume (administrators).
#[utoipa::path(post, path = "/v1/devices/{name}/commands", tag = "commands", request_body = CommandBody,
    params(("name" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 202, body = CommandView, headers(("Location"))), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)))]
pub async fn to_device(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Name(name): Name,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    caller.require_admin()?;
    let key = idempotency_key(&headers, 0)?;
    let command = CommandBody::from_value(body::json(&headers, body).await?)?;
    devices::find(&served, &caller, &name).await?;
    give(&served, &caller, Target::Device(name), key, &command).await
}

async fn give(
    served: &Served,
    caller: &Caller,
    target: Target,
    key: Option<&str>,
    command: &CommandBody,
) -> Result<Response, Refusal> {
    let id = id_for(caller, &target, key);
    let given = ask(served.asker(), caller, id, target, command, Patience::Decision).await?;
    let location = [(header::LOCATION, format!("/v1/commands/{id}"))];
    Ok((StatusCode::ACCEPTED, location, Json(given.into_view())).into_response())
}
