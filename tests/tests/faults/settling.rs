//! After the last fault was mended: waiting, with a limit, until nothing is left to do.
//!
//! What is still there when the time is over is said here, and found and counted by the audit.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::audit::{PENDING, containers, count};
use crate::cluster::Cluster;

/// For everything that was submitted: the longest jobs may have to run once more from their beginning.
const ENDED: Duration = Duration::from_secs(180);
/// A container is removed after its end was confirmed.
const TIDIED: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(250);

const UNFINISHED: &str = "SELECT count(*) FROM sched.jobs WHERE status <> 'exited'";

pub async fn settle(cluster: &Cluster) {
    cluster.devices_up().await;
    let database = cluster.database.client().await;
    until_nothing(ENDED, async || {
        let unfinished = count(&database, UNFINISHED).await;
        (unfinished > 0).then(|| format!("{unfinished} jobs that have not ended"))
    })
    .await;
    until_nothing(TIDIED, async || {
        let (left, pending) = (containers(cluster).await, count(&database, PENDING).await);
        (!left.is_empty() || pending > 0).then(|| format!("{pending} pending commands, containers: {left:?}"))
    })
    .await;
}

/// `look` says what is left.
async fn until_nothing(limit: Duration, mut look: impl AsyncFnMut() -> Option<String>) {
    let began = Instant::now();
    while let Some(left) = look().await {
        if began.elapsed() > limit {
            eprintln!("after {limit:?} there are still {left}");
            return;
        }
        sleep(LOOK_EVERY).await;
    }
}
