//! Queues: everybody may read them, administrators change them. A change goes to the leader as a
//! message, because it decides by them.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use berth_common::message::AdminRequest;
use berth_common::problem::Problem;
use berth_common::queue::Queue;
use serde_json::{Value, json};

use super::auth::Caller;
use super::body;
use super::change::change;
use super::page::{ListParams, Page};
use super::params::{Name, Params, limit};
use super::refusal::Refusal;
use super::served::Served;
use crate::store::read::queues;

/// Queues by name.
#[utoipa::path(get, path = "/v1/queues", tag = "queues", params(ListParams),
    responses((status = 200, body = Page<Queue>)))]
pub async fn list(
    State(served): State<Arc<Served>>,
    _caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<Queue>>, Refusal> {
    let limit = limit(params.limit)?;
    let db = served.reads().session().await?;
    let mut found = queues::list(&db).await?;
    found.retain(|queue| params.cursor.as_ref().is_none_or(|after| queue.name > *after));
    Ok(Json(Page::cut(found, limit, |queue| queue.name.clone())))
}

/// One queue.
#[utoipa::path(get, path = "/v1/queues/{name}", tag = "queues", params(("name" = String, Path)),
    responses((status = 200, body = Queue), (status = 404, body = Problem)))]
pub async fn show(
    State(served): State<Arc<Served>>,
    _caller: Caller,
    Name(name): Name,
) -> Result<Json<Queue>, Refusal> {
    let db = served.reads().session().await?;
    let found = queues::find(&db, &name).await?;
    found.map(Json).ok_or_else(|| Refusal::new(404, format!("there is no queue {name:?}")))
}

/// Make a queue (administrators).
#[utoipa::path(post, path = "/v1/queues", tag = "queues", request_body = Queue,
    responses((status = 201, body = Queue, headers(("Location"))),
        (status = 202, body = Object, description = "`{\"name\", \"status\": \"accepted\"}`: taken, and decided later"),
        (status = 403, body = Problem), (status = 409, body = Problem, description = "there is one of this name"),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn create(
    State(served): State<Arc<Served>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    caller.require_admin()?;
    let queue = Queue::from_value(body::json(&headers, body).await?)?;
    let name = queue.name.clone();
    let location = [(header::LOCATION, format!("/v1/queues/{name}"))];
    let request = AdminRequest::CreateQueue { queue: Box::new(queue) };
    let changed = change(&served, &caller, &request).await?;
    Ok((location, changed.of(&name)).into_response())
}

/// Replace a queue (administrators): what the body leaves out is as for a new one. Jobs that are
/// already there are judged by the new rules from now on.
#[utoipa::path(put, path = "/v1/queues/{name}", tag = "queues", params(("name" = String, Path)),
    request_body = Queue,
    responses((status = 200, body = Queue),
        (status = 202, body = Object, description = "`{\"name\", \"status\": \"accepted\"}`: taken, and decided later"),
        (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)))]
pub async fn replace(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Name(name): Name,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    caller.require_admin()?;
    let mut body = body::json(&headers, body).await?;
    if let Value::Object(fields) = &mut body {
        fields.entry("name").or_insert_with(|| json!(name));
    }
    let queue = Queue::from_value(body)?;
    if queue.name != name {
        return Err(Refusal::invalid("/name", format!("is not {name:?}: a queue keeps its name")));
    }
    let request = AdminRequest::ReplaceQueue { queue: Box::new(queue) };
    Ok(change(&served, &caller, &request).await?.of(&name))
}

/// Delete a queue (administrators).
#[utoipa::path(delete, path = "/v1/queues/{name}", tag = "queues", params(("name" = String, Path)),
    responses((status = 204),
        (status = 202, body = Object, description = "`{\"name\", \"status\": \"accepted\"}`: taken, and decided later"),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem, description = "it has jobs, or is the default one"),
        (status = 503, body = Problem)))]
pub async fn remove(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Name(name): Name,
) -> Result<Response, Refusal> {
    caller.require_admin()?;
    let request = AdminRequest::DeleteQueue { name: name.clone() };
    Ok(change(&served, &caller, &request).await?.of(&name))
}
