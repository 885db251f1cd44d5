//! Forgetting: ends that are too old to be asked for, and logs that are too old or too many.
//!
//! What must always hold: a log goes before the row that knows it, so that a crash in between leaves
//! nothing behind; nothing of an attempt goes before its end was reported and its log is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use berth_common::id::Replica;
use jiff::{SignedDuration, Timestamp};

use crate::inbox::{InboxError, Remembered};
use crate::worker::Worker;

/// How long an attempt's end is remembered; a leader that was away longer than that has forgotten too.
const KEEP: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Often enough that the logs written meanwhile are few beside those that are kept.
const EVERY: Duration = Duration::from_secs(600);

/// Why a round did not come to its end; the next one begins anew.
#[derive(Debug, thiserror::Error)]
enum TidyError {
    #[error(transparent)]
    Inbox(#[from] InboxError),
    #[error("the folder of the logs cannot be read: {0}")]
    Logs(#[source] std::io::Error),
}

/// `limit`: bytes kept of all logs together.
pub async fn run(worker: Arc<Worker>, limit: u64) {
    let mut tick = tokio::time::interval(EVERY);
    while worker.tasks.stop.run_until_cancelled(tick.tick()).await.is_some() {
        if let Err(error) = round(&worker, limit).await {
            tracing::warn!(%error, "cannot forget what ended long ago");
        }
    }
}

async fn round(worker: &Worker, limit: u64) -> Result<(), TidyError> {
    // The logs first: whatever has one by now stands in the inbox already.
    let logs = worker.logs.clone();
    let kept = blocking(move || logs.kept()).await.map_err(TidyError::Logs)?;
    let mut rows = worker.inbox.remembered().await?;
    // Docker may still give the rest of a log whose end has been reported.
    for row in &mut rows {
        row.over = row.over.filter(|_| !worker.attempts.attends(row.replica));
    }
    let before = Timestamp::now().saturating_sub(KEEP).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut gone = plan(&kept, &rows, limit, before);
    let logs = worker.logs.clone();
    let failed = blocking(move || {
        let mut failed = BTreeSet::new();
        for replica in gone.logs {
            if let Err(error) = logs.forget(replica) {
                tracing::warn!(%replica, %error, "its log cannot be removed");
                failed.insert(replica);
            }
        }
        failed
    })
    .await;
    gone.rows.retain(|replica| !failed.contains(replica));
    worker.inbox.forget(gone.rows).await?;
    Ok(worker.inbox.forget_commands(before).await?)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.expect("the work does not panic, and a runtime that ends runs no more tasks")
}

/// What is to go.
#[derive(Debug, PartialEq, Eq)]
struct Gone {
    logs: Vec<Replica>,
    rows: Vec<Replica>,
}

/// `rows`: those first that ended first.
fn plan(kept: &BTreeMap<Replica, u64>, rows: &[Remembered], limit: u64, before: Timestamp) -> Gone {
    let known: BTreeSet<Replica> = rows.iter().map(|row| row.replica).collect();
    let (ours, strange): (Vec<_>, Vec<_>) = kept.iter().partition(|(replica, _)| known.contains(replica));
    let mut total: u64 = ours.iter().map(|(_, bytes)| **bytes).sum();
    let mut gone = Gone { logs: strange.iter().map(|(replica, _)| **replica).collect(), rows: Vec::new() };
    for row in rows {
        let Some(over) = row.over else { continue };
        let old = over < before;
        if let Some(bytes) = kept.get(&row.replica).filter(|_| old || total > limit) {
            gone.logs.push(row.replica);
            total -= bytes;
        }
        if old {
            gone.rows.push(row.replica);
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn replica(attempt: u32) -> Replica {
        Replica { job: Uuid::from_u128(3), attempt, replica: 0 }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn what_is_old_goes_then_the_oldest_logs_beyond_the_limit_and_what_nobody_knows() {
        let kept: BTreeMap<_, _> = [1, 2, 3, 4, 5, 9].map(|attempt| (replica(attempt), 10)).into();
        // The first has not been reported; the second is old, as is one without a log.
        let over = [(1, None), (2, Some(at(50))), (6, Some(at(60))), (3, Some(at(110))), (4, Some(at(120)))];
        let mut rows = over.map(|(attempt, over)| Remembered { replica: replica(attempt), over }).to_vec();
        rows.push(Remembered { replica: replica(5), over: Some(at(130)) });
        let gone = |limit| {
            let gone = plan(&kept, &rows, limit, at(100));
            let numbers = |of: Vec<Replica>| of.into_iter().map(|r| r.attempt).collect::<Vec<_>>();
            (numbers(gone.logs), numbers(gone.rows))
        };
        assert_eq!(gone(1000), (vec![9, 2], vec![2, 6]));
        assert_eq!(gone(40), (vec![9, 2], vec![2, 6]));
        assert_eq!(gone(39), (vec![9, 2, 3], vec![2, 6]));
        assert_eq!(gone(0), (vec![9, 2, 3, 4, 5], vec![2, 6]));
    }
}
