//! Rows of the inbox as what they mean.

use std::time::Duration;

use berth_common::id::Replica;
use berth_common::message::{Ending, Start};
use jiff::Timestamp;
use rusqlite::Row;
use uuid::Uuid;

/// Who the worker is and how far it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Station {
    pub worker_id: Uuid,
    /// The installation that it obeys.
    pub instance: Option<Uuid>,
    /// The largest session ever welcomed; 0 before the first.
    pub session: i64,
    /// The largest id taken in that session.
    pub last: i64,
    pub fence_after: Option<Duration>,
}

/// A stop that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopTaken {
    pub at: Timestamp,
    pub grace: Duration,
    pub cause: StopCause,
}

/// Who wants it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// The leader.
    Asked,
    /// It has run for as long as it may.
    TimeLimit,
}

/// An attempt that was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    pub replica: Replica,
    pub session: i64,
    pub phase: Phase,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    Live {
        start: Box<Start>,
        /// Docker may have been asked to start it.
        launched: bool,
        /// It may have been killed because the session was lost.
        fenced: bool,
        stop: Option<StopTaken>,
    },
    Ended {
        ending: Ending,
        reported: bool,
    },
}

/// That there was an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    pub replica: Replica,
    /// When it ended; none while its end is not reported.
    pub over: Option<Timestamp>,
}

pub(super) fn remembered(row: &Row<'_>) -> rusqlite::Result<Remembered> {
    let over: Option<i64> = row.get(3)?;
    let over = over.map(|at| Timestamp::from_microsecond(at).unwrap_or(Timestamp::UNIX_EPOCH));
    Ok(Remembered { replica: replica_of(row)?, over })
}

pub(super) fn taken(row: &Row<'_>) -> rusqlite::Result<Taken> {
    let phase = match row.get::<_, Option<String>>(8)? {
        Some(ending) => Phase::Ended { ending: json(8, &ending)?, reported: row.get(9)? },
        None => Phase::Live {
            start: json(4, &row.get::<_, String>(4)?)?,
            launched: row.get(5)?,
            fenced: row.get(10)?,
            stop: stop_taken(row)?,
        },
    };
    Ok(Taken { replica: replica_of(row)?, session: row.get(3)?, phase })
}

fn stop_taken(row: &Row<'_>) -> rusqlite::Result<Option<StopTaken>> {
    let at: Option<i64> = row.get(6)?;
    let grace_ms: Option<i64> = row.get(7)?;
    let timed_out: bool = row.get(11)?;
    Ok(at.zip(grace_ms).map(|(at, grace_ms)| StopTaken {
        at: Timestamp::from_microsecond(at).unwrap_or(Timestamp::UNIX_EPOCH),
        grace: Duration::from_millis(u64::try_from(grace_ms).unwrap_or(0)),
        cause: if timed_out { StopCause::TimeLimit } else { StopCause::Asked },
    }))
}

fn replica_of(row: &Row<'_>) -> rusqlite::Result<Replica> {
    Ok(Replica { job: uuid(row, 0)?, attempt: row.get(1)?, replica: row.get(2)? })
}

pub(super) fn uuid(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    row.get::<_, String>(column)?.parse().map_err(|error| unreadable(column, error))
}

pub(super) fn json<T: serde::de::DeserializeOwned>(column: usize, text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| unreadable(column, error))
}

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}
