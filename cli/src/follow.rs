//! Follows a job: tells why it waits, then writes its log, attempt by attempt, until it is over.
//!
//! What must always hold: nothing of the log is lost or written twice when the connection breaks (the
//! server's cursor says where to go on), and a server that is away for a while ends nothing.

use std::time::Duration;

use berth_common::id::JobId;
use berth_common::job::{JobView, Status};
use reqwest::Response;
use serde::Deserialize;

use crate::client::{Client, Query, RequestError};
use crate::failure::Failure;
use crate::outcome;
use crate::output::escape;
use crate::patience::{self, Kind, Patience};
use crate::progress::{LogSink, Stream};
use crate::sse::{Event, Parser};

/// Between two looks at a job that waits or is about to end.
const LOOK: Duration = Duration::from_secs(1);

/// Which log.
pub struct Wanted {
    pub job: JobId,
    /// This attempt alone; none: from the newest on to the last.
    pub attempt: Option<u32>,
    /// `tail`, `since` and `stream` as the API takes them.
    pub query: Query,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Write this attempt's log.
    Log(u32),
    Wait,
    Over,
}

/// What to do about `job`, when the logs of the attempts before `first` are done or not wanted.
fn next(job: &JobView, first: u32, only: bool, done: bool) -> Next {
    if done && only {
        return Next::Over;
    }
    let has_log = match job.status {
        Status::Running | Status::Exited => job.attempt >= first,
        // The attempts before the present one are over.
        Status::Unapproved | Status::Pending => job.attempt >= first,
        Status::Scheduled => job.attempt > first,
    };
    match (has_log, job.status) {
        (true, _) => Next::Log(first),
        (false, Status::Exited) => Next::Over,
        (false, Status::Unapproved | Status::Pending | Status::Scheduled | Status::Running) => Next::Wait,
    }
}

/// # Errors
/// A refusal that will not pass, or a log that cannot be written.
pub async fn follow(client: &Client, wanted: &Wanted, sink: &mut LogSink) -> Result<JobView, Failure> {
    let mut first = wanted.attempt;
    let mut done = false;
    let mut told = String::new();
    loop {
        let job = look(client, wanted.job).await?;
        tell(&job, &mut told, sink);
        let attempt = *first.get_or_insert(job.attempt.max(1));
        match next(&job, attempt, wanted.attempt.is_some(), done) {
            Next::Over if wanted.attempt.is_some() && !done => {
                return Err(Failure::Unmet(format!("the job is over and had no attempt {attempt}")));
            }
            Next::Over => {
                sink.finish()?;
                return Ok(job);
            }
            Next::Wait => tokio::time::sleep(LOOK).await,
            Next::Log(attempt) => {
                let over = job.status == Status::Exited || job.attempt > attempt;
                match write_log(client, wanted, attempt, sink).await? {
                    End::Whole => {}
                    End::None if over => sink.note(&format!("berth: there is no log of attempt {attempt}")),
                    End::None => {
                        tokio::time::sleep(LOOK).await;
                        continue;
                    }
                }
                first = Some(attempt + 1);
                done = true;
            }
        }
    }
}

/// The job as it is now, however long the server takes to answer.
///
/// # Errors
/// A refusal that will not pass.
pub async fn look(client: &Client, job: JobId) -> Result<JobView, RequestError> {
    let id = job.to_string();
    let mut patience = Patience::until(None);
    loop {
        match client.get(&["v1", "jobs", &id], &Query::new()).await {
            Ok(answer) => return answer.read(),
            Err(error) if patience::kind(&error) == Kind::Final => return Err(error),
            Err(error) => patience.pause(error).await?,
        }
    }
}

/// Says where the job is, whenever that has changed.
fn tell(job: &JobView, told: &mut String, sink: &LogSink) {
    let mut line = match (job.status, &job.device) {
        (Status::Exited, _) => return,
        (Status::Running | Status::Scheduled, Some(device)) => {
            format!("{} on {}", outcome::status(job), escape(device))
        }
        (Status::Unapproved | Status::Pending | Status::Scheduled | Status::Running, _) => {
            outcome::status(job)
        }
    };
    if let Some(reason) = &job.reason {
        line.push_str(&format!(": {}", escape(&reason.text)));
    }
    if line != *told {
        sink.note(&format!("berth: {line}"));
        *told = line;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Whole,
    /// The server has no such log (yet).
    None,
}

/// The data of an event `log`.
#[derive(Debug, Deserialize)]
struct Piece {
    text: String,
    cursor: u64,
    /// Where the server tells it.
    stream: Option<String>,
}

async fn write_log(
    client: &Client,
    wanted: &Wanted,
    attempt: u32,
    sink: &mut LogSink,
) -> Result<End, Failure> {
    let id = wanted.job.to_string();
    let mut cursor = None;
    let mut patience = Patience::until(None);
    loop {
        let mut query = wanted.query.clone();
        query.extend([("attempt", attempt.to_string()), ("follow", "true".to_owned())]);
        query.extend(cursor.map(|cursor: u64| ("cursor", cursor.to_string())));
        let error = match client.stream(&["v1", "jobs", &id, "logs"], &query, "text/event-stream").await {
            Ok(response) => match write_events(client, response, &mut cursor, &mut patience, sink).await? {
                None => return Ok(End::Whole),
                Some(error) => error,
            },
            Err(RequestError::Refused { problem, .. }) if problem.status == 404 => return Ok(End::None),
            Err(error) => error,
        };
        if patience::kind(&error) == Kind::Final {
            return Err(error.into());
        }
        patience.pause(error).await?;
    }
}

/// Writes the log as it comes. `None` at its end, else why the stream ended before.
async fn write_events(
    client: &Client,
    mut response: Response,
    cursor: &mut Option<u64>,
    patience: &mut Patience,
    sink: &mut LogSink,
) -> Result<Option<RequestError>, Failure> {
    let mut parser = Parser::default();
    loop {
        let piece = match client.next_piece(&mut response).await {
            Ok(Some(piece)) => piece,
            Ok(None) => return Ok(Some(client.cut_off("the log's stream ended early"))),
            Err(error) => return Ok(Some(error)),
        };
        for event in parser.push(&piece).map_err(|error| client.nonsense(&error.to_string()))? {
            patience.restored();
            let Event { name, data } = event;
            match name.as_str() {
                "log" => {
                    let piece: Piece =
                        serde_json::from_str(&data).map_err(|e| client.nonsense(&e.to_string()))?;
                    let stream =
                        if piece.stream.as_deref() == Some("stderr") { Stream::Err } else { Stream::Out };
                    sink.log(stream, &piece.text)?;
                    *cursor = Some(piece.cursor);
                }
                "end" => return Ok(None),
                // What a later version adds.
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(status: &str, attempt: u32) -> JobView {
        let outcome = (status == "exited").then_some("succeeded");
        let mut job = crate::tests::job_json("0192abcd-1234-7000-8000-000000000001", status, outcome);
        job["attempt"] = attempt.into();
        serde_json::from_value(job).expect("a job")
    }

    #[test]
    fn a_job_that_waits_is_waited_for() {
        assert_eq!(next(&job("pending", 0), 1, false, false), Next::Wait);
        assert_eq!(next(&job("scheduled", 1), 1, false, false), Next::Wait);
        assert_eq!(next(&job("running", 1), 1, false, false), Next::Log(1));
        assert_eq!(next(&job("exited", 1), 1, false, false), Next::Log(1));
        assert_eq!(next(&job("exited", 0), 1, false, false), Next::Over);
    }

    #[test]
    fn after_an_attempt_comes_the_next_or_the_end() {
        assert_eq!(next(&job("running", 1), 2, false, true), Next::Wait);
        assert_eq!(next(&job("pending", 1), 2, false, true), Next::Wait);
        assert_eq!(next(&job("pending", 2), 2, false, true), Next::Log(2));
        assert_eq!(next(&job("running", 3), 2, false, true), Next::Log(2));
        assert_eq!(next(&job("scheduled", 3), 2, false, true), Next::Log(2));
        assert_eq!(next(&job("exited", 1), 2, false, true), Next::Over);
    }

    #[test]
    fn one_attempt_alone_ends_with_its_log() {
        assert_eq!(next(&job("running", 1), 1, true, false), Next::Log(1));
        assert_eq!(next(&job("running", 3), 2, true, true), Next::Over);
        assert_eq!(next(&job("pending", 1), 2, true, false), Next::Wait);
        assert_eq!(next(&job("exited", 1), 2, true, false), Next::Over);
    }
}
