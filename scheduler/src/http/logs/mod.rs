//! Logs of jobs, asked of the device that ran them: the whole at once, or followed until the end.

mod follow;
mod reader;
mod whole;

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use berth_common::message::LogStream;
use berth_common::problem::Problem;
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Caller;
use super::jobs::show::require_visible;
use super::params::{Id, Params};
use super::refusal::Refusal;
use super::served::Served;
use follow::Resume;
use reader::Reader;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogParams {
    /// The newest where absent.
    attempt: Option<u32>,
    /// 0 where absent.
    replica: Option<u32>,
    /// Only the last so many lines.
    tail: Option<u64>,
    /// Only lines written at this time or later.
    since: Option<Timestamp>,
    /// `stdout` or `stderr`; both where absent.
    #[param(value_type = Option<String>)]
    stream: Option<LogStream>,
    /// Go on after the piece that gave this cursor; belongs to one attempt.
    cursor: Option<u64>,
    /// Server-sent events until the job has exited: `log` with `{"text", "cursor", "attempt"}`, then `end`.
    follow: Option<bool>,
}

/// The log of a job. Works while it runs and after its container is gone.
#[utoipa::path(get, path = "/v1/jobs/{id}/logs", tag = "jobs", params(("id" = uuid::Uuid, Path), LogParams),
    responses((status = 200, content((String = "text/plain"), (String = "text/event-stream"))),
        (status = 404, body = Problem),
        (status = 503, body = Problem, description = "the device does not answer")))]
pub async fn logs(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Id(job): Id,
    Params(params): Params<LogParams>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    require_visible(&served.reads().session().await?, &caller, job).await?;
    let LogParams { attempt, replica, tail, since, stream, cursor, follow } = params;
    let replica = replica.unwrap_or_default();
    let mut reader = Reader { served, caller, job, replica, stream, since, tail, cursor };
    if follow == Some(true) {
        let resume = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(Resume::parse);
        if let Some(resume) = resume {
            reader.cursor = Some(resume.cursor);
        }
        follow::answer(reader, attempt, resume.map(|resume| resume.attempt)).await
    } else {
        whole::answer(reader, attempt).await
    }
}
