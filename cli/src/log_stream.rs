//! One attempt's log as the server sends it while it grows.
//!
//! What must always hold: nothing is lost or written twice when the connection breaks; the server's
//! cursor says where to go on.

use berth_common::problem::Problem;
use serde::Deserialize;

use crate::client::{Client, Query};
use crate::failure::Failure;
use crate::follow::Wanted;
use crate::patience::{self, Kind};
use crate::progress::{LogSink, Stream};
use crate::request_error::RequestError;
use crate::sse::{Event, Parser};

/// How far an attempt's log has been read.
pub struct Reading {
    pub attempt: u32,
    cursor: Option<u64>,
}

/// Why reading stopped.
#[derive(Debug)]
pub enum Stop {
    /// That was all of it.
    Whole,
    /// The server has no such log (yet).
    NoLog,
    /// It may go on later.
    Broken(RequestError),
}

/// The data of an event `log`.
#[derive(Debug, Deserialize)]
struct Piece {
    text: String,
    cursor: u64,
    /// Where the server tells it.
    stream: Option<String>,
}

impl Reading {
    #[must_use]
    pub fn of(attempt: u32) -> Self {
        Self { attempt, cursor: None }
    }

    /// Writes what comes, until the end of the log or of the connection. Answers with whether
    /// anything came.
    ///
    /// # Errors
    /// A refusal that will not pass, or a log that cannot be written.
    pub async fn go_on(
        &mut self,
        client: &Client,
        wanted: &Wanted,
        sink: &mut LogSink,
    ) -> Result<(Stop, bool), Failure> {
        let before = self.cursor;
        let stop = match self.read(client, wanted, sink).await {
            Ok(stop) => stop,
            Err(Failure::Request(error)) => sort(error)?,
            Err(other) => return Err(other),
        };
        Ok((stop, self.cursor != before))
    }

    async fn read(&mut self, client: &Client, wanted: &Wanted, sink: &mut LogSink) -> Result<Stop, Failure> {
        let id = wanted.job.to_string();
        let path = ["v1", "jobs", &id, "logs"];
        let mut response = client.stream(&path, &self.query(wanted), "text/event-stream").await?;
        let mut parser = Parser::default();
        while let Some(bytes) = client.next_piece(&mut response).await? {
            for event in parser.push(&bytes).map_err(|error| client.nonsense(&error.to_string()))? {
                if let Some(stop) = self.take(client, &event, sink)? {
                    return Ok(stop);
                }
            }
        }
        Ok(Stop::Broken(client.cut_off("the log's stream ended early")))
    }

    fn query(&self, wanted: &Wanted) -> Query {
        let mut query = wanted.query.clone();
        query.extend([("attempt", self.attempt.to_string()), ("follow", "true".to_owned())]);
        query.extend(self.cursor.map(|cursor| ("cursor", cursor.to_string())));
        query
    }

    fn take(&mut self, client: &Client, event: &Event, sink: &mut LogSink) -> Result<Option<Stop>, Failure> {
        let nonsense = |error: serde_json::Error| client.nonsense(&error.to_string());
        match event.name.as_str() {
            "log" => {
                let piece: Piece = serde_json::from_str(&event.data).map_err(nonsense)?;
                let stream =
                    if piece.stream.as_deref() == Some("stderr") { Stream::Err } else { Stream::Out };
                sink.log(stream, &piece.text)?;
                self.cursor = Some(piece.cursor);
                Ok(None)
            }
            "end" => Ok(Some(Stop::Whole)),
            // What would have been the answer's status, had it been known before the first byte.
            "problem" => {
                let problem: Problem = serde_json::from_str(&event.data).map_err(nonsense)?;
                let refused =
                    RequestError::Refused { problem: Box::new(problem), hint: None, retry_after: None };
                Ok(Some(sort(refused)?))
            }
            // What a later version adds.
            _ => Ok(None),
        }
    }
}

fn sort(error: RequestError) -> Result<Stop, RequestError> {
    if matches!(&error, RequestError::Refused { problem, .. } if problem.status == 404) {
        return Ok(Stop::NoLog);
    }
    match patience::kind(&error) {
        Kind::Final => Err(error),
        Kind::NotNow | Kind::NobodyThere | Kind::Unknown => Ok(Stop::Broken(error)),
    }
}
