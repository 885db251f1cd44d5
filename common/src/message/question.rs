//! Questions that are answered at once, by a worker or by the leader, and change nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::Replica;

/// A question to a worker on `berth.rpc`, answered to `reply_to` with a [`super::Reply`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum DeviceRpc {
    Logs(LogQuery),
    Telemetry(crate::telemetry::Query),
}

/// A piece of a container's log. Answered with a [`LogPiece`], 404 when the device has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogQuery {
    #[serde(flatten)]
    pub replica: Replica,
    /// Only this stream.
    pub stream: Option<LogStream>,
    /// Only the last so many lines; with `cursor` it means nothing.
    pub tail: Option<u64>,
    /// Only lines written at or after this time.
    #[serde(with = "crate::time::option")]
    pub since: Option<Timestamp>,
    /// Where the last piece ended; none: from the beginning (or `tail`).
    pub cursor: Option<u64>,
    /// How long the worker may wait for something new before it answers with an empty piece.
    pub wait_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    Stdout,
    Stderr,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPiece {
    pub text: String,
    /// Give it with the next query.
    pub cursor: u64,
    /// The container is gone and nothing will come after this piece.
    pub end: bool,
}

/// A question to the leader of a cell on `berth.rpc`, answered to `reply_to` with a [`super::Reply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum LeaderRpc {
    /// Why these jobs wait; answered with a [`Reasons`]. At most 1000.
    Reasons { jobs: Vec<Uuid> },
    /// Why this job waits, and what would let it start; answered with a [`Why`].
    Why { job: Uuid },
}

/// By job; those that do not wait are left out.
pub type Reasons = BTreeMap<Uuid, Waiting>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    pub reason: crate::job::Reason,
    pub position: Option<u64>,
    #[serde(with = "crate::time::option")]
    pub start_by: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// None: it does not wait.
    pub waiting: Option<Waiting>,
    pub changes: Vec<crate::job::Suggestion>,
}
