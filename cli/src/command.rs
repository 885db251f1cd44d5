//! `berth kill`, `hold`, `release`, `retry`: one command to each of several jobs.
//!
//! What must always hold: every job is asked, whatever the others answer, and each answer is told.

use berth_common::command::{CommandBody, CommandStatus, CommandView, Verb};
use berth_common::id::JobId;
use berth_common::problem::Problem;
use serde_json::{Value, json};

use crate::args::{JobsArgs, StopArgs};
use crate::client::Client;
use crate::deliver::{self, Delivered};
use crate::failure::{Failure, REQUEST_FAILED};
use crate::output;
use crate::request_error::RequestError;
use crate::resolve::{self, JobRef};

/// # Errors
/// When standard output cannot be written.
pub async fn kill(client: &Client, args: &StopArgs, json: bool) -> Result<u8, Failure> {
    stop(client, Verb::Kill, args, json).await
}

/// # Errors
/// As [`kill`].
pub async fn hold(client: &Client, args: &StopArgs, json: bool) -> Result<u8, Failure> {
    stop(client, Verb::Hold, args, json).await
}

/// # Errors
/// As [`kill`].
pub async fn release(client: &Client, args: &JobsArgs, json: bool) -> Result<u8, Failure> {
    let body = CommandBody { reason: args.reason.clone(), ..CommandBody::new(Verb::Release) };
    to_each(client, &args.jobs, &body, json).await
}

/// # Errors
/// As [`kill`].
pub async fn retry(client: &Client, args: &JobsArgs, json: bool) -> Result<u8, Failure> {
    let body = CommandBody { reason: args.reason.clone(), ..CommandBody::new(Verb::Retry) };
    to_each(client, &args.jobs, &body, json).await
}

/// The kill of a `berth run` that was interrupted.
///
/// # Errors
/// When it is refused.
pub async fn kill_interrupted(client: &Client, job: JobId) -> Result<(), RequestError> {
    let body = CommandBody { reason: Some("Ctrl-C at berth run".into()), ..CommandBody::new(Verb::Kill) };
    send(client, job, &body).await.map(drop)
}

async fn stop(client: &Client, verb: Verb, args: &StopArgs, json: bool) -> Result<u8, Failure> {
    let body = CommandBody {
        reason: args.jobs.reason.clone(),
        grace_s: args.grace.map(|grace| grace.as_secs()),
        ..CommandBody::new(verb)
    };
    to_each(client, &args.jobs.jobs, &body, json).await
}

async fn to_each(client: &Client, jobs: &[JobRef], body: &CommandBody, json: bool) -> Result<u8, Failure> {
    let mut code = 0;
    let mut items = Vec::new();
    for job in jobs {
        let (item, told) = match to_one(client, job, body).await {
            Ok((id, delivered)) => {
                let command: Value = delivered.answer().read()?;
                (json!({"job": id, "command": command}), Ok(told(id, body.command, &delivered)?))
            }
            Err(failure) => {
                code = REQUEST_FAILED;
                let line = format!("berth: {}: {failure}", typed(job));
                (json!({"job": typed(job), "error": problem(&failure)}), Err(line))
            }
        };
        items.push(item);
        match told {
            Ok(line) if !json => output::print(&line)?,
            Ok(_) => {}
            Err(line) => output::say(&line),
        }
    }
    if json {
        output::print_json(&items)?;
    }
    Ok(code)
}

async fn to_one(client: &Client, job: &JobRef, body: &CommandBody) -> Result<(JobId, Delivered), Failure> {
    let id = resolve::resolve(client, job).await?;
    Ok((id, send(client, id, body).await?))
}

async fn send(client: &Client, job: JobId, body: &CommandBody) -> Result<Delivered, RequestError> {
    let id = job.to_string();
    deliver::deliver(client, &["v1", "jobs", &id, "commands"], &json!(body), &deliver::random_key()).await
}

fn told(id: JobId, verb: Verb, delivered: &Delivered) -> Result<String, RequestError> {
    let how = match delivered {
        Delivered::Accepted(_) => "accepted, no scheduler has decided on it yet",
        Delivered::Decided(answer) => match answer.read::<CommandView>()?.status {
            CommandStatus::Pending => "under way",
            CommandStatus::Done => "done",
            CommandStatus::Failed => "failed",
            CommandStatus::Unknown => "unknown how it ended",
        },
    };
    Ok(format!("{id} {verb}: {how}"))
}

fn typed(job: &JobRef) -> String {
    match job {
        JobRef::Whole(id) => id.to_string(),
        JobRef::Beginning(beginning) => beginning.clone(),
    }
}

/// As the API tells it; what did not come from the API has no status.
fn problem(failure: &Failure) -> Problem {
    match failure {
        Failure::Request(RequestError::Refused { problem, .. }) => Problem::clone(problem),
        Failure::Request(_) | Failure::Usage(_) | Failure::Unmet(_) | Failure::Output(_) => {
            Problem { title: "Not asked".into(), ..Problem::new(0, failure.to_string()) }
        }
    }
}
