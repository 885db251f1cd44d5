//! A log as it grows, as server-sent events, over all attempts that are still to come.
//!
//! What must always hold: `end` is sent when the job has exited and its log was given to its end, and
//! only then (a `problem` before it tells what is missing, where a device did not answer any more).
//! Every piece carries what is needed to go on after it, so a reader that was cut off misses nothing
//! and sees nothing twice.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use berth_common::job::{AttemptStatus, Status};
use berth_common::message::LogPiece;
use futures_util::StreamExt;
use serde_json::json;

use super::reader::Reader;
use crate::http::refusal::Refusal;
use crate::store::read::attempts::Place;
use crate::store::read::jobs;

/// How long a device may wait for something new before it answers with an empty piece.
const DEVICE_WAIT: Duration = Duration::from_secs(5);
/// How often the database is looked at for a job that waits, or between an attempt's end and what
/// comes after it: half a second is little for a person, and one query by key little for it.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Proxies cut connections that are quiet for a minute, some for half of one.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A device that does not answer for the log of an attempt that is over: then it is given up.
const MAX_SILENCES: u32 = 3;

/// Where a reader that comes again stopped, as the `id` of an event says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    pub attempt: u32,
    pub cursor: u64,
}

impl Resume {
    pub fn parse(id: &str) -> Option<Self> {
        let (attempt, cursor) = id.split_once(':')?;
        Some(Self { attempt: attempt.parse().ok()?, cursor: cursor.parse().ok()? })
    }
}

/// Follows the log of one attempt, or of the newest one and all after it.
///
/// # Errors
/// 404 and 503 for what is wrong at once; later it is an event `problem`, and the end.
pub async fn answer(mut reader: Reader, only: Option<u32>, resume: Option<u32>) -> Result<Response, Refusal> {
    let place = reader.place(only.or(resume)).await?;
    let first = match &place {
        Some(place) => reader.next(place, Duration::ZERO).await?,
        None => match only {
            Some(n) => {
                return Err(Refusal::new(404, format!("the job has no attempt {n} with this replica")));
            }
            None => None,
        },
    };
    let stop = reader.served.shim.stop.clone().cancelled_owned();
    let at = place.map_or(At::Between { after: 0 }, At::Reading);
    let follow = Follow { reader, only, at, held: first, silences: 0 };
    let events = futures_util::stream::unfold(follow, |mut follow| async move {
        let event = follow.next().await?;
        Some((Ok::<_, Infallible>(event), follow))
    });
    let events = events.take_until(Box::pin(stop));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

struct Follow {
    reader: Reader,
    /// Only this attempt.
    only: Option<u32>,
    at: At,
    /// A piece that has been read and not been given.
    held: Option<LogPiece>,
    /// How often the device did not answer since it last did.
    silences: u32,
}

enum At {
    Reading(Place),
    /// The attempt with this number is over, or there was none yet: what comes next?
    Between {
        after: u32,
    },
    Over,
}

impl Follow {
    /// The next event, as soon as there is one; none after the last.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let event = match &self.at {
                At::Over => return None,
                At::Between { after } => self.look(*after).await,
                At::Reading(place) => self.read(place.clone()).await,
            };
            if event.is_some() {
                return event;
            }
        }
    }

    /// Between attempts: the next one, the end, or a moment of patience.
    async fn look(&mut self, after: u32) -> Option<Event> {
        if self.only.is_some() && after > 0 {
            return Some(self.end());
        }
        match self.after(after).await {
            Ok((_, Some(place))) => {
                if after > 0 {
                    self.reader.begin_anew();
                }
                self.silences = 0;
                self.at = At::Reading(place);
            }
            Ok((None | Some(Status::Exited), None)) => return Some(self.end()),
            Ok((Some(_), None)) => pause().await,
            // The database comes back; the reader may leave when it does not want to wait.
            Err(_) => pause().await,
        }
        None
    }

    /// While an attempt is read: the next piece.
    async fn read(&mut self, place: Place) -> Option<Event> {
        let began = Instant::now();
        let piece = match self.held.take() {
            Some(piece) => Ok(Some(piece)),
            None => self.reader.next(&place, DEVICE_WAIT).await,
        };
        match piece {
            Ok(Some(piece)) => {
                self.silences = 0;
                if piece.end {
                    self.at = At::Between { after: place.attempt };
                } else if piece.text.is_empty() && began.elapsed() < LOOK_EVERY {
                    pause().await;
                }
                (!piece.text.is_empty()).then(|| log(place.attempt, &piece))
            }
            // Not begun yet; or over without a log.
            Ok(None) => {
                if self.is_over(&place).await {
                    self.at = At::Between { after: place.attempt };
                } else {
                    pause().await;
                }
                None
            }
            Err(refusal) => self.silence(&place, refusal).await,
        }
    }

    /// The device did not answer: it is awaited while the attempt lasts, and a little longer.
    async fn silence(&mut self, place: &Place, refusal: Refusal) -> Option<Event> {
        self.silences += 1;
        if self.silences >= MAX_SILENCES && self.is_over(place).await {
            self.at = At::Between { after: place.attempt };
            return Some(event("problem", &json!(refusal.into_problem())));
        }
        pause().await;
        None
    }

    /// The job's status and where its next attempt is, in this order: what was placed before it
    /// exited is seen. Not the newest attempt: several may have come while a slow reader read one.
    async fn after(&self, attempt: u32) -> Result<(Option<Status>, Option<Place>), Refusal> {
        let status = {
            let db = self.reader.served.reads().session().await?;
            jobs::progress(&db, self.reader.job).await?.map(|(status, _)| status)
        };
        Ok((status, self.reader.place_after(attempt).await?))
    }

    async fn is_over(&self, place: &Place) -> bool {
        match self.reader.place(Some(place.attempt)).await {
            Ok(Some(now)) => now.status == AttemptStatus::Exited,
            Ok(None) => true,
            Err(_) => false, // asked again in a moment
        }
    }

    fn end(&mut self) -> Event {
        self.at = At::Over;
        event("end", &json!({}))
    }
}

async fn pause() {
    tokio::time::sleep(LOOK_EVERY).await;
}

fn log(attempt: u32, piece: &LogPiece) -> Event {
    let data = json!({"text": piece.text, "cursor": piece.cursor, "attempt": attempt});
    event("log", &data).id(format!("{attempt}:{}", piece.cursor))
}

/// JSON has no line breaks, so a piece is one line of the stream.
fn event(name: &str, data: &serde_json::Value) -> Event {
    Event::default().event(name).data(data.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_comes_again_says_where_it_was() {
        assert_eq!(Resume::parse("3:17"), Some(Resume { attempt: 3, cursor: 17 }));
        for bad in ["", "3", "3:", ":7", "a:b", "-1:2"] {
            assert_eq!(Resume::parse(bad), None, "{bad}");
        }
    }
}
