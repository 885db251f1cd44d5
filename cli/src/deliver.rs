//! Sends what must be done once: a job, a command.
//!
//! What must always hold: however often the request had to be sent, one thing comes of it, because
//! every copy carries the same idempotency key.

use berth_common::problem::Problem;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::client::{Answer, Client, Path};
use crate::patience::{self, Kind, Patience};
use crate::request_error::RequestError;

/// Decided, or only taken: no leader has answered, and patience is at its end.
pub enum Delivered {
    Decided(Answer),
    Accepted(Answer),
}

impl Delivered {
    #[must_use]
    pub fn answer(&self) -> &Answer {
        match self {
            Self::Decided(answer) | Self::Accepted(answer) => answer,
        }
    }
}

/// A key that nobody used before.
#[must_use]
pub fn random_key() -> String {
    Uuid::new_v4().to_string()
}

/// Posts `body` until it is decided, or for as long as that is reasonable. `accepted` in an answer
/// says that the broker has it and no leader has answered yet; the same again asks for that answer.
///
/// # Errors
/// A refusal, or the last failure when patience ends before anything was accepted.
pub async fn deliver(
    client: &Client,
    path: Path<'_>,
    body: &Value,
    key: &str,
) -> Result<Delivered, RequestError> {
    let mut patience = Patience::lasting(patience::DELIVER);
    let mut sent_before = false;
    let mut accepted: Option<Answer> = None;
    loop {
        let error = match client.post(path, body, Some(key)).await {
            Ok(answer) if !only_accepted(&answer) => return Ok(Delivered::Decided(answer)),
            Ok(answer) => {
                accepted = Some(answer);
                not_decided()
            }
            Err(error) => error,
        };
        let again = match patience::kind(&error) {
            Kind::Final => false,
            // Whoever was never reached is at the wrong address; whoever was will come back.
            Kind::NobodyThere => sent_before,
            Kind::NotNow | Kind::Unknown => true,
        };
        if !again {
            return Err(error);
        }
        sent_before = true;
        if let Err(error) = patience.pause(error).await {
            return accepted.map(Delivered::Accepted).ok_or(error);
        }
    }
}

fn only_accepted(answer: &Answer) -> bool {
    #[derive(Deserialize)]
    struct Taken {
        status: String,
    }
    answer.read::<Taken>().is_ok_and(|taken| taken.status == "accepted")
}

fn not_decided() -> RequestError {
    let problem = Problem::new(503, "it is accepted, and no scheduler has decided on it yet");
    RequestError::Refused { problem: Box::new(problem), hint: None, retry_after: None }
}
