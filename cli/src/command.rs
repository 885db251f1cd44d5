//! `berth kill`, `hold`, `release`, `retry`, `approve`, `priority`, `timeout`: one command to each of several jobs.
//!
//! What must always hold: every job is asked, whatever the others answer, and each answer is told. An id
//! that is an array's stands for its jobs.

use berth_common::command::{CommandBody, CommandStatus, CommandView, Verb};
use berth_common::id::JobId;
use berth_common::problem::Problem;
use serde_json::{Value, json};

use crate::array;
use crate::client::Client;
use crate::command_args::{JobsArgs, PriorityArgs, RetryArgs, StopArgs, TimeoutArgs};
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
pub async fn retry(client: &Client, args: &RetryArgs, json: bool) -> Result<u8, Failure> {
    let set = (!args.set.is_empty()).then(|| args.set.iter().cloned().collect());
    let body = CommandBody { reason: args.jobs.reason.clone(), set, ..CommandBody::new(Verb::Retry) };
    to_each(client, &args.jobs.jobs, &body, json).await
}

/// # Errors
/// As [`kill`].
pub async fn approve(client: &Client, args: &JobsArgs, json: bool) -> Result<u8, Failure> {
    let body = CommandBody { reason: args.reason.clone(), ..CommandBody::new(Verb::Approve) };
    to_each(client, &args.jobs, &body, json).await
}

/// # Errors
/// As [`kill`].
pub async fn priority(client: &Client, args: &PriorityArgs, json: bool) -> Result<u8, Failure> {
    let body = CommandBody {
        reason: args.reason.clone(),
        value: Some(args.priority),
        ..CommandBody::new(Verb::Priority)
    };
    to_each(client, std::slice::from_ref(&args.job), &body, json).await
}

/// # Errors
/// As [`kill`].
pub async fn timeout(client: &Client, args: &TimeoutArgs, json: bool) -> Result<u8, Failure> {
    let value = i64::try_from(args.time.as_secs()).unwrap_or(i64::MAX);
    let body =
        CommandBody { reason: args.reason.clone(), value: Some(value), ..CommandBody::new(Verb::Timeout) };
    to_each(client, std::slice::from_ref(&args.job), &body, json).await
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
        let told = match to_one(client, job, body).await {
            Ok(told) => told,
            Err(failure) => Told::failed(
                &typed(job),
                &failure.to_string(),
                json!({"job": typed(job), "error": problem(&failure)}),
            ),
        };
        items.extend(told.items);
        code = code.max(told.code);
        for line in &told.errors {
            output::say(line);
        }
        if let Some(line) = told.line.filter(|_| !json) {
            output::print(&line)?;
        }
    }
    if json {
        output::print_json(&items)?;
    }
    Ok(code)
}

/// What is to be told of one id.
pub struct Told {
    /// For standard output.
    pub line: Option<String>,
    pub errors: Vec<String>,
    /// As the API tells it.
    pub items: Vec<Value>,
    pub code: u8,
}

impl Told {
    fn failed(of: &str, why: &str, item: Value) -> Self {
        let errors = vec![format!("berth: {of}: {why}")];
        Self { line: None, errors, items: vec![item], code: REQUEST_FAILED }
    }
}

async fn to_one(client: &Client, job: &JobRef, body: &CommandBody) -> Result<Told, Failure> {
    let id = resolve::resolve(client, job).await?;
    match send(client, id, body).await {
        Ok(delivered) => {
            let command: Value = delivered.answer().read()?;
            let line = Some(told(&id.to_string(), body.command, &delivered)?);
            Ok(Told {
                line,
                errors: Vec::new(),
                items: vec![json!({"job": id, "command": command})],
                code: 0,
            })
        }
        Err(error) if is_missing(&error) && array::exists(client, id).await? => {
            array::command(client, id, body).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether there is nothing of that id.
#[must_use]
pub fn is_missing(error: &RequestError) -> bool {
    matches!(error, RequestError::Refused { problem, .. } if problem.status == 404)
}

async fn send(client: &Client, job: JobId, body: &CommandBody) -> Result<Delivered, RequestError> {
    let id = job.to_string();
    deliver::deliver(client, &["v1", "jobs", &id, "commands"], &json!(body), &deliver::random_key()).await
}

/// How a command stands that was given to a job or a device.
///
/// # Errors
/// When the answer has another shape.
pub fn told(target: &str, verb: Verb, delivered: &Delivered) -> Result<String, RequestError> {
    let how = match delivered {
        Delivered::Accepted(_) => "accepted, no scheduler has decided on it yet",
        Delivered::Decided(answer) => word(answer.read::<CommandView>()?.status),
    };
    Ok(format!("{target} {verb}: {how}"))
}

/// Where a command stands, in words.
#[must_use]
pub fn word(status: CommandStatus) -> &'static str {
    match status {
        CommandStatus::Pending => "under way",
        CommandStatus::Done => "done",
        CommandStatus::Failed => "failed",
        CommandStatus::Unknown => "unknown how it ended",
    }
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
