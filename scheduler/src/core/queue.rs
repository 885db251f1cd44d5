//! The order of equals: by the time of submission, then the id, where the elements of an array follow each other.
//!
//! Total and deterministic. A job that was stopped keeps its place, because its time of submission does not
//! change. Who is next among those that differ is the policy's affair.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use berth_common::id::JobId;
use jiff::Timestamp;
use uuid::Uuid;

use super::rows::JobRow;

/// A job among those submitted at the same moment; never another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat {
    /// The array, or the job itself.
    submission: Uuid,
    index: u32,
    pub job: JobId,
}

impl Seat {
    #[must_use]
    pub fn of(job: &JobRow) -> Self {
        Self {
            submission: job.array.map_or(job.id, |place| place.id),
            index: job.array.map_or(0, |place| place.index),
            job: job.id,
        }
    }
}

/// A job's place among the waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    priority: Reverse<i32>,
    submitted_at: Timestamp,
    pub seat: Seat,
}

impl Place {
    #[must_use]
    pub fn of(job: &JobRow) -> Self {
        Self { priority: Reverse(job.priority), submitted_at: job.life.submitted_at, seat: Seat::of(job) }
    }
}

/// All pending jobs, held ones too.
pub type Pending = BTreeSet<Place>;
