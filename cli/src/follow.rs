//! Follows a job: tells why it waits, then writes its log, attempt by attempt, until it is over.
//!
//! What must always hold: a server that is away for a while ends nothing, and a log that cannot be had
//! (its device is lost) holds up neither the next attempt's log nor the job's end.

use std::time::Duration;

use berth_common::id::JobId;
use berth_common::job::{JobView, Status};
use jiff::Zoned;
use tokio::time::Instant;

use crate::client::{Client, Query};
use crate::failure::Failure;
use crate::log_stream::{Reading, Stop};
use crate::outcome;
use crate::output::{self, escape};
use crate::patience::{self, Kind, Patience};
use crate::progress::LogSink;
use crate::request_error::RequestError;
use crate::why;

/// Between two looks at a job that waits or is about to end.
const LOOK: Duration = Duration::from_secs(1);
/// The log of an attempt that is over is given up when nothing of it could be had for so long.
const GIVE_UP: Duration = Duration::from_secs(20);

/// Which log.
pub struct Wanted {
    pub job: JobId,
    /// This attempt alone; none: from the newest on to the last.
    pub attempt: Option<u32>,
    /// `tail`, `since` and `stream` as the API takes them.
    pub query: Query,
}

pub struct Followed {
    /// The job at its end; with one attempt alone, after that attempt's log.
    pub job: JobView,
    /// Whether every log could be had.
    pub complete: bool,
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
        // Of a job that waits (again), every attempt is over.
        Status::Running | Status::Exited | Status::Unapproved | Status::Pending => job.attempt >= first,
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
pub async fn follow(client: &Client, wanted: &Wanted, sink: &mut LogSink) -> Result<Followed, Failure> {
    let only = wanted.attempt.is_some();
    let mut first = wanted.attempt;
    let (mut done, mut complete) = (false, true);
    let mut told = String::new();
    let mut current: Option<Current> = None;
    loop {
        let job = look(client, wanted.job).await?;
        tell(&job, &mut told);
        let attempt = *first.get_or_insert(job.attempt.max(1));
        match next(&job, attempt, only, done) {
            Next::Over if only && !done => {
                return Err(Failure::Unmet(format!("the job is over and had no attempt {attempt}")));
            }
            Next::Over => {
                sink.finish()?;
                return Ok(Followed { job, complete });
            }
            Next::Wait => tokio::time::sleep(LOOK).await,
            Next::Log(attempt) => {
                let reading = current.get_or_insert_with(|| Current::of(attempt));
                if let Some(whole) = reading.go_on(client, wanted, &job, sink).await? {
                    complete &= whole;
                    done = true;
                    first = Some(attempt + 1);
                    current = None;
                }
            }
        }
    }
}

/// The attempt whose log is being written.
struct Current {
    reading: Reading,
    patience: Patience,
    /// Since when the attempt is over and nothing could be had.
    failing_since: Option<Instant>,
}

impl Current {
    fn of(attempt: u32) -> Self {
        Self { reading: Reading::of(attempt), patience: Patience::until(None), failing_since: None }
    }

    /// Some at the end of the log: whether all of it could be had. None: look at the job, come again.
    async fn go_on(
        &mut self,
        client: &Client,
        wanted: &Wanted,
        job: &JobView,
        sink: &mut LogSink,
    ) -> Result<Option<bool>, Failure> {
        let attempt = self.reading.attempt;
        let over = match job.status {
            Status::Exited | Status::Pending | Status::Unapproved => true,
            Status::Scheduled | Status::Running => job.attempt > attempt,
        };
        let (stop, came) = self.reading.go_on(client, wanted, sink).await?;
        if came {
            self.patience.restored();
            self.failing_since = None;
        }
        match stop {
            Stop::Whole => return Ok(Some(true)),
            Stop::NoLog if over => {
                output::say(&format!("berth: there is no log of attempt {attempt}"));
                return Ok(Some(false));
            }
            Stop::NoLog => tokio::time::sleep(LOOK).await,
            Stop::Broken(error)
                if over && self.failing_since.get_or_insert_with(Instant::now).elapsed() > GIVE_UP =>
            {
                output::say(&format!("berth: the log of attempt {attempt} cannot be had: {error}"));
                return Ok(Some(false));
            }
            Stop::Broken(error) => self.patience.pause(error).await?,
        }
        Ok(None)
    }
}

/// The job as it is now, however long the server takes to answer.
///
/// # Errors
/// A refusal that will not pass.
async fn look(client: &Client, job: JobId) -> Result<JobView, RequestError> {
    let mut patience = Patience::until(None);
    loop {
        match look_once(client, job).await {
            Err(error) if patience::kind(&error) != Kind::Final => patience.pause(error).await?,
            other => return other,
        }
    }
}

/// # Errors
/// See [`RequestError`].
pub async fn look_once(client: &Client, job: JobId) -> Result<JobView, RequestError> {
    client.get(&["v1", "jobs", &job.to_string()], &Query::new()).await?.read()
}

/// Says where the job is, whenever that has changed.
fn tell(job: &JobView, told: &mut String) {
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
        // Its position changes all the time, and is told when something else has changed.
        let now = Zoned::now();
        let shown = if job.position.is_some() { why::line(job, &now) } else { line.clone() };
        output::say(&format!("berth: {shown}"));
        *told = line;
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
