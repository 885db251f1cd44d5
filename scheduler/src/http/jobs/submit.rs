//! Submitting one job: it is told to the leader by a message, and the leader's answer is awaited.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_common::id::{JobId, job_id_for_key};
use berth_common::job::JobView;
use berth_common::message::Reply;
use berth_common::problem::Problem;
use berth_common::spec::{self, JobSpec};
use berth_common::validate::USER_PRIORITY;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::show;
use crate::ask::{AskError, Asker};
use crate::http::auth::Caller;
use crate::http::body;
use crate::http::refusal::Refusal;
use crate::http::request::{self, Patience, idempotency_key};
use crate::http::served::Served;

/// What became of a submission.
#[derive(Debug)]
pub enum Verdict {
    Created,
    /// The same key with the same body: the job was there.
    Seen,
    /// The broker has it, and nobody has decided yet.
    Accepted,
    Refused(Problem),
}

/// The jobs of an array or a matrix that was submitted.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubmittedArray {
    /// Its id, and that of every one of its jobs in their `array`.
    pub array: Uuid,
    /// In order of their index.
    pub jobs: Vec<Uuid>,
}

/// Submit a job, or an array of them.
#[utoipa::path(post, path = "/v1/jobs", tag = "jobs", request_body = JobSpec,
    params(("Idempotency-Key" = Option<String>, Header,
        description = "1–255 visible ASCII characters: repeating a request with its key makes no second job")),
    responses(
        (status = 201, body = JobView, headers(("Location")),
            description = "with `array` or `matrix`: `{\"array\": id, \"jobs\": [ids in order]}`"),
        (status = 200, body = JobView, description = "the key was seen before, with the same body"),
        (status = 202, body = Object, headers(("Location")),
            description = "`{\"id\", \"status\": \"accepted\"}`: taken, and decided later"),
        (status = 403, body = Problem, description = "the queue has members, and the caller is none"),
        (status = 409, body = Problem, description = "the key was seen before, with another body"),
        (status = 413, body = Problem), (status = 422, body = Problem),
        (status = 429, body = Problem, description = "the queue has as many jobs as it may have"),
        (status = 503, body = Problem)))]
pub async fn submit(
    State(served): State<Arc<Served>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let key = idempotency_key(&headers, 0)?;
    let spec = spec::parse(&body::json_bytes(&headers, body).await?)?;
    check(&caller, &spec)?;
    let id = id_for(&caller, &spec, key);
    let is_array = spec.element_count().is_some();
    let path = if is_array { format!("/v1/jobs?array={id}") } else { format!("/v1/jobs/{id}") };
    let location = [(header::LOCATION, path)];
    // While the database is away nobody can decide: then nothing is sent either.
    served.reads().session().await?;
    let status = match ask(served.asker(), &caller, id, key, &spec, Patience::Decision).await {
        Verdict::Created => StatusCode::CREATED,
        Verdict::Seen => StatusCode::OK,
        Verdict::Accepted => return Ok((StatusCode::ACCEPTED, location, accepted(id)).into_response()),
        Verdict::Refused(problem) => return Err(problem.into()),
    };
    if is_array {
        let body = SubmittedArray { array: id, jobs: spec.job_ids(id) };
        return Ok((status, location, Json(body)).into_response());
    }
    match show::view(&served, &caller, id).await {
        Ok(job) => Ok((status, location, Json(job)).into_response()),
        // It is there; only to show it failed.
        Err(refusal) => {
            tracing::warn!(job.id = %id, problem = %refusal.into_problem(), "a new job could not be read back");
            Ok((StatusCode::ACCEPTED, location, accepted(id)).into_response())
        }
    }
}

/// What a valid specification may still not ask for, being this caller's. The leader knows too, but
/// a refusal must not depend on whether there is one.
///
/// # Errors
/// 422.
pub fn check(caller: &Caller, spec: &JobSpec) -> Result<(), Problem> {
    if caller.is_admin() || USER_PRIORITY.contains(&spec.priority) {
        Ok(())
    } else {
        Err(Problem::invalid_field("/priority", "users give 100–200, admins 1–1000"))
    }
}

/// The id of the job, or of the array, that a submission makes, or made before.
pub fn id_for(caller: &Caller, spec: &JobSpec, key: Option<&str>) -> JobId {
    key.map_or_else(Uuid::now_v7, |key| job_id_for_key(&caller.name, &spec.queue, key))
}

/// Tells the leader, and waits for what it says.
pub async fn ask(
    asker: &Asker,
    caller: &Caller,
    id: JobId,
    key: Option<&str>,
    spec: &JobSpec,
    patience: Patience,
) -> Verdict {
    let message = request::submission(&caller.name, id, key, spec);
    match request::decide(asker, message, patience).await {
        Ok(Reply { status: 201, .. }) => Verdict::Created,
        Ok(Reply { status: 200, .. }) => Verdict::Seen,
        Ok(reply) => Verdict::Refused(request::problem_of(reply)),
        Err(AskError::NoAnswer) => Verdict::Accepted,
        Err(error) => Verdict::Refused(Refusal::from(error).into_problem()),
    }
}

fn accepted(id: Uuid) -> Json<serde_json::Value> {
    Json(json!({"id": id, "status": "accepted"}))
}
