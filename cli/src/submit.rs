//! `berth submit`: one job in, one id out.
//!
//! What must always hold: however often the request had to be sent, one job comes of it, because
//! every copy carries the same idempotency key.

use berth_common::id::JobId;
use reqwest::StatusCode;
use serde::Deserialize;
use uuid::Uuid;

use crate::client::{Answer, Client, RequestError};
use crate::failure::Failure;
use crate::output;
use crate::patience::{self, Kind, Patience};
use crate::spec_args::SpecArgs;
use crate::spec_body;

#[derive(Deserialize)]
struct Submitted {
    id: JobId,
}

/// # Errors
/// A specification that cannot be read or is refused, a server that cannot be reached.
pub async fn submit(client: &Client, args: &SpecArgs, json: bool) -> Result<u8, Failure> {
    let (id, answer) = send(client, args).await?;
    if answer.status == StatusCode::ACCEPTED {
        output::say("berth: accepted, but no scheduler has decided on it yet; `berth show` will tell");
    }
    output::print(if json { answer.text } else { id.to_string() }.as_str())?;
    Ok(0)
}

/// Sends the job until it is decided, or as long as that is reasonable.
///
/// # Errors
/// As [`submit`].
pub async fn send(client: &Client, args: &SpecArgs) -> Result<(JobId, Answer), Failure> {
    let body = spec_body::body(args)?;
    let key = match args.idempotency_key.clone() {
        Some(key) if key.is_empty() || !key.bytes().all(|c| c == b' ' || c.is_ascii_graphic()) => {
            return Err(Failure::Usage("an idempotency key has visible ASCII characters".into()));
        }
        Some(key) => key,
        None => Uuid::new_v4().to_string(),
    };
    let answer = until_decided(client, &body, &key).await?;
    let id = answer.read::<Submitted>()?.id;
    Ok((id, answer))
}

/// A 202 says that the broker has it and no leader has answered; the same again asks for the answer.
async fn until_decided(client: &Client, body: &serde_json::Value, key: &str) -> Result<Answer, RequestError> {
    let mut patience = Patience::lasting(patience::SUBMIT);
    let mut sent_before = false;
    let mut accepted: Option<Answer> = None;
    loop {
        let error = match client.post(&["v1", "jobs"], body, Some(key)).await {
            Ok(answer) if answer.status != StatusCode::ACCEPTED => return Ok(answer),
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
            return accepted.ok_or(error);
        }
    }
}

fn not_decided() -> RequestError {
    let problem =
        berth_common::problem::Problem::new(503, "the job is accepted, no scheduler has decided on it yet");
    RequestError::Refused { problem: Box::new(problem), hint: None, retry_after: None }
}
