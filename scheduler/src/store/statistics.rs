//! The planner's statistics, refreshed by the leader itself while the tables are young.
//!
//! A plan that was made when a table was empty reads the whole cell for each batch, or even for each
//! row, and stays until somebody analyzes the table: a minute on PostgreSQL, ten on openGauss. So the
//! leader does it each time its rows have become ten times as many; later the server's own round
//! suffices.

use super::lease::Lead;
use super::{StoreError, limited};
use crate::core::rows::Rows;

pub const STATEMENTS: &[(&str, &str)] = &[
    ("JOBS", "ANALYZE sched.jobs"),
    ("LABELS", "ANALYZE sched.job_labels"),
    ("CONTAINERS", "ANALYZE sched.containers"),
    ("CONTAINER_GPUS", "ANALYZE sched.container_gpu"),
    ("RESERVATIONS", "ANALYZE sched.reservation"),
    ("COMMANDS", "ANALYZE sched.commands"),
    ("OUTBOX", "ANALYZE sched.outbox"),
    ("EVENTS", "ANALYZE hist.job_events"),
];

/// Fewer rows are read whole by any plan.
const FIRST: usize = 100;
const GROWTH: usize = 10;
/// Above it no plan is made that minds.
const LAST: usize = 1_000_000;

/// How many rows a leader has inserted, and at how many it analyzes next.
#[derive(Debug)]
pub struct Growth {
    rows: usize,
    next: usize,
}

impl Default for Growth {
    fn default() -> Self {
        Self { rows: 0, next: FIRST }
    }
}

impl Growth {
    /// Whether these new rows make the next round due.
    fn is_due(&mut self, new: usize) -> bool {
        self.rows = self.rows.saturating_add(new);
        let due = self.rows >= self.next && self.next <= LAST;
        while due && self.next <= self.rows {
            self.next *= GROWTH;
        }
        due
    }
}

impl Lead {
    /// After a commit of `rows`: analyzes, if it is time.
    pub(super) async fn grown(&mut self, rows: &Rows) {
        let new = rows.new_jobs.len() + rows.new_containers.len() + rows.new_commands.len();
        if !self.growth.is_due(new) {
            return;
        }
        for (_, sql) in STATEMENTS {
            let done = limited(&self.connected, async {
                self.connected.client.batch_execute(sql).await.map_err(|error| StoreError::judge(&error))
            });
            if let Err(error) = done.await {
                // Nothing depends on it; a connection that is gone says so at the next batch.
                tracing::warn!(%error, "the database did not analyze its tables");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_due_each_time_there_are_ten_times_as_many() {
        let mut growth = Growth::default();
        let due: Vec<usize> = (1..=300).filter(|_| growth.is_due(50)).map(|_| 1).collect();
        assert_eq!(due.len(), 3, "at 100, 1,000 and 10,000 of 15,000");
        assert!(growth.is_due(500_000));
        assert!(growth.is_due(500_000));
        assert!(!growth.is_due(1_000_000_000));
    }
}
