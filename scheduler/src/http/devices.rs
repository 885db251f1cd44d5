//! Devices, and the telemetry that each of them keeps itself.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use berth_common::device::{DeviceState, DeviceView};
use berth_common::message::{AdminRequest, DeviceRpc, Reply};
use berth_common::problem::Problem;
use berth_common::telemetry::{Query, Table};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::auth::Caller;
use super::change::change;
use super::page::{ListParams, Page};
use super::params::{Name, Params, limit};
use super::refusal::Refusal;
use super::request::{self, ask_device};
use super::served::Served;
use crate::ask::AskError;
use crate::store::read::devices;

/// A device that needs longer to read its own store has more to do than to answer.
const TELEMETRY_WAIT: Duration = Duration::from_secs(8);

/// Devices by name. Which job has a GPU is shown to those who may see the job.
#[utoipa::path(get, path = "/v1/devices", tag = "devices", params(ListParams),
    responses((status = 200, body = Page<DeviceView>)))]
pub async fn list(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<DeviceView>>, Refusal> {
    let limit = limit(params.limit)?;
    let db = served.reads().session().await?;
    let sees = |owner: &str| caller.sees(owner);
    let found = devices::page(&db, params.cursor.as_deref(), i64::from(limit) + 1, sees).await?;
    Ok(Json(Page::cut(found, limit, |device| device.name.clone())))
}

/// One device.
#[utoipa::path(get, path = "/v1/devices/{name}", tag = "devices", params(("name" = String, Path)),
    responses((status = 200, body = DeviceView), (status = 404, body = Problem)))]
pub async fn show(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Name(name): Name,
) -> Result<Json<DeviceView>, Refusal> {
    find(&served, &caller, &name).await.map(Json)
}

/// Delete a device (administrators): what ran there ends as a fault, its queues go. It is a new device
/// when its worker comes back.
#[utoipa::path(delete, path = "/v1/devices/{name}", tag = "devices", params(("name" = String, Path)),
    responses((status = 204),
        (status = 202, body = Object, description = "`{\"name\", \"status\": \"accepted\"}`: taken, and decided later"),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem, description = "it is up"), (status = 503, body = Problem)))]
pub async fn remove(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Name(name): Name,
) -> Result<Response, Refusal> {
    caller.require_admin()?;
    let request = AdminRequest::DeleteDevice { name: name.clone() };
    Ok(change(&served, &caller, &request).await?.of(&name))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TelemetryParams {
    #[param(inline)]
    table: Table,
    /// An hour before `to` where absent.
    from: Option<Timestamp>,
    /// Now where absent.
    to: Option<Timestamp>,
    /// Means over so many seconds instead of single samples.
    step: Option<u64>,
}

/// A range of one table of a device's telemetry, asked of the device itself: `{"items": […]}`.
#[utoipa::path(get, path = "/v1/devices/{name}/telemetry", tag = "devices",
    params(("name" = String, Path), TelemetryParams),
    responses((status = 200, body = Object), (status = 404, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem, description = "the device does not answer")))]
pub async fn telemetry(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Name(name): Name,
    Params(params): Params<TelemetryParams>,
) -> Result<Json<Value>, Refusal> {
    let TelemetryParams { table, from, to, step } = params;
    if step == Some(0) {
        return Err(Refusal::invalid("/step", "at least 1 second"));
    }
    if from.zip(to).is_some_and(|(from, to)| from > to) {
        return Err(Refusal::invalid("/from", "is after to"));
    }
    find(&served, &caller, &name).await?;
    let question = DeviceRpc::Telemetry(Query { table, from, to, step });
    match ask(&served, &caller, &name, &question, TELEMETRY_WAIT).await? {
        Reply { status: 200, body } => Ok(Json(body)),
        reply => Err(request::problem_of(reply).into()),
    }
}

/// # Errors
/// 404 when there is none.
pub async fn find(served: &Served, caller: &Caller, name: &str) -> Result<DeviceView, Refusal> {
    let db = served.reads().session().await?;
    let found = devices::find(&db, name, |owner| caller.sees(owner)).await?;
    found.ok_or_else(|| Refusal::new(404, format!("there is no device {name:?}")))
}

/// Asks a device. The queue of one that lives may be missing: it has just registered, or somebody has
/// deleted it, and no order is on its way that would miss it too; then it is made, and asked again.
///
/// # Errors
/// 503 when it does not answer, with what is known of it.
pub async fn ask(
    served: &Served,
    caller: &Caller,
    name: &str,
    question: &DeviceRpc,
    wait: Duration,
) -> Result<Reply, Refusal> {
    let error = match ask_device(served.asker(), name, question, wait).await {
        Ok(reply) => return Ok(reply),
        Err(error) => error,
    };
    if error == AskError::Unroutable && find(served, caller, name).await?.state == DeviceState::Up {
        served.asker().make_queues(name).await;
        return match ask_device(served.asker(), name, question, wait).await {
            Ok(reply) => Ok(reply),
            Err(error) => Err(silent(served, caller, name, error).await),
        };
    }
    Err(silent(served, caller, name, error).await)
}

async fn silent(served: &Served, caller: &Caller, name: &str, error: AskError) -> Refusal {
    match error {
        AskError::Unroutable | AskError::NoAnswer => {}
        AskError::BrokerAway(_) | AskError::Unconfirmed(_) | AskError::Busy => return error.into(),
    }
    let device = match find(served, caller, name).await {
        Ok(device) => device,
        Err(refusal) => return refusal,
    };
    let seen = device.last_seen_at.map(|at| format!(", last seen at {at:.0}")).unwrap_or_default();
    let note = device.note.map(|note| format!(" ({note})")).unwrap_or_default();
    Refusal::new(503, format!("device {name} does not answer; it is {}{note}{seen}", device.state))
}
