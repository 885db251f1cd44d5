//! `berth run`: submit, follow the log, exit with the job's exit code.
//!
//! What must always hold: the first Ctrl-C kills the job and waits for its end, the second leaves at
//! once; an interrupted submission is never forgotten half-way without saying so.

use berth_common::id::JobId;
use berth_common::job::{JobView, Outcome};
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::{Client, Query};
use crate::command;
use crate::failure::Failure;
use crate::follow::{self, Wanted};
use crate::outcome;
use crate::output;
use crate::progress::{LogSink, Stream};
use crate::spec_args::SpecArgs;
use crate::spec_body;
use crate::submit;

/// What a shell reports of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 128 + 2;

/// # Errors
/// As [`submit::submit`] and [`follow::follow`].
pub async fn run(client: &Client, args: &SpecArgs, json: bool) -> Result<u8, Failure> {
    let body = spec_body::body(args)?;
    if spec_body::makes_array(&body) {
        return Err(Failure::Usage("berth run follows one job; submit an array with berth submit".into()));
    }
    let mut interrupts = signal(SignalKind::interrupt())?;
    let Some((job, kill_at_once)) = submit_or_leave(client, args, body, &mut interrupts).await? else {
        return Ok(INTERRUPTED);
    };
    output::say(&format!("berth: job {job}"));
    // With --json standard output has one document, the job at its end.
    let mut sink = LogSink::new(if json { Stream::Err } else { Stream::Out });
    let Some(job) = follow_or_leave(client, job, kill_at_once, &mut interrupts, &mut sink).await? else {
        return Ok(INTERRUPTED);
    };
    if json {
        output::print_json(&job)?;
    }
    tell_ending(&job);
    Ok(outcome::exit_code(&job))
}

/// The job, and whether Ctrl-C was pressed meanwhile; `None` when it was pressed twice.
async fn submit_or_leave(
    client: &Client,
    args: &SpecArgs,
    body: Value,
    interrupts: &mut Signal,
) -> Result<Option<(JobId, bool)>, Failure> {
    let mut sending = std::pin::pin!(submit::send(client, args, body));
    tokio::select! {
        sent = &mut sending => return Ok(Some((sent?.0, false))),
        _ = interrupts.recv() => output::say("berth: the job is being submitted and will be killed; Ctrl-C again leaves"),
    }
    tokio::select! {
        sent = &mut sending => Ok(Some((sent?.0, true))),
        _ = interrupts.recv() => {
            output::say("berth: left; the job may have been submitted: see berth ls");
            Ok(None)
        }
    }
}

/// The job at its end; `None` when the person left it.
async fn follow_or_leave(
    client: &Client,
    job: JobId,
    kill_at_once: bool,
    interrupts: &mut Signal,
    sink: &mut LogSink,
) -> Result<Option<JobView>, Failure> {
    let wanted = Wanted { job, attempt: None, query: Query::new() };
    let mut following = std::pin::pin!(follow::follow(client, &wanted, sink));
    if !kill_at_once {
        tokio::select! {
            ended = &mut following => return ended.map(|followed| Some(followed.job)),
            _ = interrupts.recv() => {}
        }
    }
    output::say("berth: killing the job and waiting for its end; Ctrl-C again leaves");
    let kill = async {
        if let Err(error) = command::kill_interrupted(client, job).await {
            output::say(&format!("berth: the job could not be killed: {error}"));
        }
    };
    tokio::select! {
        ((), ended) = async { tokio::join!(kill, following) } => ended.map(|followed| Some(followed.job)),
        _ = interrupts.recv() => {
            output::say(&format!("berth: left; look after it with berth show {job}, berth kill {job}"));
            Ok(None)
        }
    }
}

fn tell_ending(job: &JobView) {
    match job.outcome {
        Some(Outcome::Succeeded) => {}
        Some(Outcome::Failed | Outcome::Killed | Outcome::TimedOut | Outcome::Error) | None => {
            output::say(&format!("berth: job {} {}", job.id, outcome::ending(job)));
        }
    }
}
