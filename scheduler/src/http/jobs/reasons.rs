//! Why jobs wait: only the leader knows, so it is asked, and not for long.

use std::time::Duration;

use berth_common::id::JobId;
use berth_common::job::{JobView, Reason, Status};
use berth_common::message::{LeaderRpc, Reasons, Reply, Waiting, Why};

use crate::ask::Asker;
use crate::http::request::ask_leader;

/// Somebody looks at a list: it is better without reasons than late.
const WAIT: Duration = Duration::from_secs(1);
/// What one question may name.
const MAX_JOBS: usize = 1000;

/// Adds the reason, the position and the promised start to those jobs that wait.
pub async fn add(asker: &Asker, jobs: &mut [JobView]) {
    let mut waiting: Vec<&mut JobView> = jobs.iter_mut().filter(|job| waits(job.status)).collect();
    for some in waiting.chunks_mut(MAX_JOBS) {
        let question = LeaderRpc::Reasons { jobs: some.iter().map(|job| job.id).collect() };
        match ask_leader(asker, &question, WAIT).await {
            Ok(Reply { status: 200, body }) => match serde_json::from_value::<Reasons>(body) {
                Ok(reasons) => fill(some, reasons),
                Err(error) => tracing::warn!(%error, "the leader's reasons cannot be read"),
            },
            Ok(Reply { status, .. }) => tracing::warn!(status, "the leader gives no reasons"),
            Err(error) => {
                tracing::debug!(%error, "nobody knows why jobs wait");
                some.iter_mut().for_each(|job| job.reason = Some(no_leader()));
            }
        }
    }
}

/// Why one job waits, and what would help.
pub async fn why(asker: &Asker, job: JobId) -> Why {
    let nothing = Why { waiting: None, changes: Vec::new() };
    match ask_leader(asker, &LeaderRpc::Why { job }, WAIT).await {
        Ok(Reply { status: 200, body }) => serde_json::from_value(body).unwrap_or_else(|error| {
            tracing::warn!(%error, "the leader's reason cannot be read");
            nothing
        }),
        Ok(Reply { status, .. }) => {
            tracing::warn!(status, "the leader gives no reason");
            nothing
        }
        Err(error) => {
            tracing::debug!(%error, "nobody knows why a job waits");
            Why { waiting: Some(Waiting { reason: no_leader(), position: None, start_by: None }), ..nothing }
        }
    }
}

fn waits(status: Status) -> bool {
    match status {
        Status::Unapproved | Status::Pending | Status::Scheduled => true,
        Status::Running | Status::Exited => false,
    }
}

/// A job of which the leader says nothing has begun or ended in the meantime.
fn fill(jobs: &mut [&mut JobView], mut reasons: Reasons) {
    for job in jobs {
        if let Some(waiting) = reasons.remove(&job.id) {
            job.reason = Some(waiting.reason);
            job.position = waiting.position;
            job.start_by = waiting.start_by;
        }
    }
}

fn no_leader() -> Reason {
    Reason {
        code: "NO_LEADER".into(),
        text: "No scheduler leads at the moment; it goes on as soon as one does.".into(),
        numbers: serde_json::Map::new(),
    }
}
