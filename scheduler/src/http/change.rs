//! What administrators change in the cluster: told to the leader, because it decides by it.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use berth_common::message::{AdminRequest, Reply};
use serde_json::{Value, json};

use super::auth::Caller;
use super::refusal::Refusal;
use super::request::{self, Patience};
use super::served::Served;
use crate::ask::AskError;

/// What became of a change.
pub enum Changed {
    /// With the status and the body of the answer.
    Done(StatusCode, Value),
    /// The broker has it, and nobody has decided yet.
    Accepted,
}

/// Changes the cluster in an administrator's name.
///
/// # Errors
/// As the leader refuses, or 503.
pub async fn change(served: &Served, caller: &Caller, request: &AdminRequest) -> Result<Changed, Refusal> {
    let message = request::admin(&caller.name, request);
    match request::decide(served.asker(), message, Patience::Decision).await {
        Ok(Reply { status: status @ 200..=299, body }) => {
            Ok(Changed::Done(StatusCode::from_u16(status).expect("200 to 299 are statuses"), body))
        }
        Ok(reply) => Err(request::problem_of(reply).into()),
        Err(AskError::NoAnswer) => Ok(Changed::Accepted),
        Err(error) => Err(error.into()),
    }
}

impl Changed {
    /// The response about what has this name.
    pub fn of(self, name: &str) -> Response {
        match self {
            Self::Done(StatusCode::NO_CONTENT, _) => StatusCode::NO_CONTENT.into_response(),
            Self::Done(status, body) => (status, Json(body)).into_response(),
            Self::Accepted => {
                (StatusCode::ACCEPTED, Json(json!({"name": name, "status": "accepted"}))).into_response()
            }
        }
    }
}
