//! Every refusal leaves as `application/problem+json`, and says when to come again where that helps.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_common::problem::Problem;

use crate::ask::AskError;
use crate::store::read::ReadError;

/// Seconds after which a broker or a database that was away is worth another try: they come back
/// within a few, and a client that hammers helps nobody.
const RETRY_AFTER_S: u16 = 5;

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// What a handler answers instead of a result. Boxed: it is the rare case, and results are moved.
#[derive(Debug)]
pub struct Refusal(Box<Problem>);

impl Refusal {
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        Problem::new(status, detail).into()
    }

    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        Problem::invalid_field(field, message).into()
    }

    pub fn into_problem(self) -> Problem {
        *self.0
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match &error {
            ReadError::Away(why) => {
                tracing::debug!(%why, "a request found no database");
                Self::new(503, "the database is away; nothing was done. Try again")
            }
            ReadError::Duplicate(_) | ReadError::Failed(_) | ReadError::Unreadable(_) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "a request failed");
                Self::new(500, "a mistake of the scheduler; its log says more")
            }
        }
    }
}

impl From<AskError> for Refusal {
    fn from(error: AskError) -> Self {
        Self::new(
            503,
            match error {
                AskError::BrokerAway(_) | AskError::Unroutable => {
                    "the message broker is away; nothing was done. Try again"
                }
                AskError::Busy => "too many requests wait for the scheduler; nothing was done. Try again",
                AskError::Unconfirmed(_) => {
                    "the message broker did not confirm the request, so whether it was taken is not known. \
                     Repeating it is safe with the same Idempotency-Key"
                }
                AskError::NoAnswer => "nobody answered in time",
            },
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        problem_response(&self.0)
    }
}

/// Problem details as a response, with the headers that belong to their status.
pub fn problem_response(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(problem).expect("a problem has only string keys");
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
    match problem.status {
        401 => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"berth\""));
        }
        429 | 503 => {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER_S.into());
        }
        _ => {}
    }
    response
}
