//! The jobs of a schedule: submitted, killed and held through whatever happens, each question repeated
//! until it is answered.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cluster::Cluster;
use crate::plan::{Plan, PlannedJob, Wish};

/// Between two questions whether a hold has worked.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// A kill gives this long; what is deaf is killed after it.
const GRACE_S: u64 = 1;

/// A job that Berth has answered for.
#[derive(Debug)]
pub struct Submitted {
    pub id: String,
    pub planned: PlannedJob,
    pub kill: Option<Kill>,
}

/// How a kill was answered.
#[derive(Debug)]
pub struct Kill {
    pub status: StatusCode,
    pub body: Value,
    pub at: Timestamp,
}

/// Returns when each job was answered and each wish told.
pub async fn run(cluster: &Arc<Cluster>, plan: &Plan, began: Instant) -> Vec<Submitted> {
    let mut jobs = JoinSet::new();
    for planned in plan.jobs.clone() {
        jobs.spawn(job(Arc::clone(cluster), planned, began));
    }
    jobs.join_all().await
}

async fn job(cluster: Arc<Cluster>, planned: PlannedJob, began: Instant) -> Submitted {
    sleep_until(began + planned.at).await;
    let mut spec = planned.spec.clone();
    spec["image"] = json!(cluster.services.endpoints.image);
    let (status, body) = cluster.api.post("/v1/jobs", &planned.key, &spec).await;
    assert!(status.is_success(), "a valid job was refused: {status} {body:#}");
    let id = body["id"].as_str().expect("a job has an id").to_owned();
    let kill = match planned.wish {
        Wish::Nothing => None,
        Wish::Kill { after } => {
            sleep(after).await;
            Some(kill(&cluster, &id).await)
        }
        Wish::Hold { after, lasts } => {
            sleep(after).await;
            hold(&cluster, &id, lasts).await;
            None
        }
    };
    Submitted { id, planned, kill }
}

async fn command(cluster: &Cluster, id: &str, key: &str, body: Value) -> (StatusCode, Value) {
    cluster.api.post(&format!("/v1/jobs/{id}/commands"), key, &body).await
}

async fn kill(cluster: &Cluster, id: &str) -> Kill {
    let (status, body) = command(cluster, id, "kill", json!({"command": "kill", "grace_s": GRACE_S})).await;
    Kill { status, body, at: Timestamp::now() }
}

/// And lets it go again, which is refused while the hold still stops it.
async fn hold(cluster: &Cluster, id: &str, lasts: Duration) {
    let (held, _) = command(cluster, id, "hold", json!({"command": "hold", "grace_s": GRACE_S})).await;
    if !held.is_success() {
        return; // it was over
    }
    sleep(lasts).await;
    for n in 0.. {
        let (released, _) =
            command(cluster, id, &format!("release-{n}"), json!({"command": "release"})).await;
        let (_, job) = cluster.api.read(&format!("/v1/jobs/{id}")).await;
        if released.is_success() || job["status"] == "exited" {
            return;
        }
        sleep(LOOK_AGAIN).await;
    }
}
