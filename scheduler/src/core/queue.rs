//! Who is next: the order in which waiting jobs are looked at.
//!
//! Priority (larger first), then the time of submission, then the id, where the elements of an array
//! follow each other: total and deterministic. A job that was stopped keeps its place, because its
//! time of submission does not change.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use berth_common::id::JobId;
use jiff::Timestamp;
use uuid::Uuid;

use super::rows::JobRow;

/// A job's place among the waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    priority: Reverse<i32>,
    submitted_at: Timestamp,
    /// The array, or the job itself.
    submission: Uuid,
    index: u32,
    pub job: JobId,
}

impl Place {
    #[must_use]
    pub fn of(job: &JobRow) -> Self {
        Self {
            priority: Reverse(job.priority),
            submitted_at: job.life.submitted_at,
            submission: job.array.map_or(job.id, |place| place.id),
            index: job.array.map_or(0, |place| place.index),
            job: job.id,
        }
    }
}

/// All pending jobs, held ones too.
#[derive(Debug, Clone, Default)]
pub struct Pending {
    places: BTreeSet<Place>,
}

impl Pending {
    pub fn insert(&mut self, place: Place) {
        self.places.insert(place);
    }

    pub fn remove(&mut self, place: &Place) {
        self.places.remove(place);
    }

    /// In the order in which they are to be placed.
    pub fn iter(&self) -> impl Iterator<Item = &Place> {
        self.places.iter()
    }

    #[must_use]
    pub fn contains(&self, place: &Place) -> bool {
        self.places.contains(place)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}
