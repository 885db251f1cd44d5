//! What its owner could change so that a waiting job starts sooner.
//!
//! What must always hold: a suggestion is found by trying, with the very predicates that place jobs, and never
//! by guessing: whoever follows it gets what it says, as long as nobody else is faster.

use berth_common::id::JobId;
use berth_common::job::Suggestion;
use jiff::Timestamp;

use super::Core;

impl Core {
    /// Single changes of a waiting job's specification that would let it start, the most useful one first;
    /// none for a job that does not wait.
    // What is tried here comes with the order in which jobs are placed.
    #[must_use]
    #[allow(clippy::unused_self)]
    pub fn changes_that_help(&self, _id: JobId, _now: Timestamp) -> Vec<Suggestion> {
        Vec::new()
    }
}
