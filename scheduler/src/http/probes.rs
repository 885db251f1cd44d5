//! Liveness and readiness.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::served::Served;

/// The process lives, whatever may be missing around it: restarting it would not help.
#[utoipa::path(get, path = "/healthz", tag = "operation", security(()),
    responses((status = 200, description = "the process lives", body = Object)))]
pub async fn healthz() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

/// Whether requests can be served, and what is missing. Asks the database now.
#[utoipa::path(get, path = "/readyz", tag = "operation", security(()),
    responses(
        (status = 200, description = "`role` is leader or standby; both serve requests", body = Object),
        (status = 503, description = "`missing` lists what is missing, where it was looked for, and what to do", body = Object),
    ))]
pub async fn readyz(State(served): State<Arc<Served>>) -> (StatusCode, Json<Value>) {
    let health = &served.shim.health;
    health.set_database(served.reads().check().await);
    let (ready, report) = health.report();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report))
}
