//! The same container as a job: `POST /v1/jobs`, and where the time goes until it runs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use berth_bench::containers::Watch;
use berth_bench::report::Report;
use berth_bench::series::Series;
use berth_bench::times::{ms, time};
use berth_common::id::Replica;
use berth_common::time::now;
use berth_tests::berth::{Berth, SHORT};
use bollard::models::ContainerInspectResponse;
use jiff::Timestamp;
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{COMMAND, CPUS, MEMORY_MB};

/// For a decision that was committed to be seen.
const SEEN: Duration = SHORT;
/// How often a worker samples when nobody says anything else, in seconds.
const TELEMETRY: &str = "10";

pub struct ByBerth {
    berth: Berth,
    image: String,
}

/// Milliseconds since the request was begun.
pub struct Sample {
    /// The leader has read the submission, and decides.
    decided: f64,
    /// The client has its answer.
    answered: f64,
    /// The worker has the order, and has written it down.
    taken: f64,
    /// Docker was asked for the container.
    created: f64,
    started: f64,
    pub inspected: ContainerInspectResponse,
}

impl Sample {
    pub fn started(&self) -> f64 {
        self.started
    }
}

impl ByBerth {
    pub async fn start(image: &str) -> Self {
        let mut berth = Berth::start().await;
        // The log tells when the worker took an order; JSON can be read without guessing.
        let more =
            [("BERTH_LOG_FORMAT", "json".to_owned()), ("BERTH_TELEMETRY_INTERVAL", TELEMETRY.to_owned())];
        berth.add_worker("1xA100-80GB", &more).await;
        Self { berth, image: image.into() }
    }

    /// A folder like the one that the worker mounts for its user.
    pub fn data_folder(&self) -> PathBuf {
        self.berth.folder.join("docker-run")
    }

    pub async fn once(&self, watch: &mut Watch) -> anyhow::Result<Sample> {
        let resources = json!({"gpus": 1, "cpus": CPUS, "memory_mb": MEMORY_MB});
        let spec = json!({"image": self.image, "command": COMMAND, "resources": resources});
        let began = now();
        let (status, job) = self.berth.post("/v1/jobs", spec).await;
        let answered = now();
        ensure!(status == StatusCode::CREATED, "{status}: {job:#}\n{}", self.berth.logs());
        let id: Uuid = job["id"].as_str().context("a job has an id")?.parse()?;
        let name = Replica { job: id, attempt: 1, replica: 0 }.container_name();
        let container = watch.running(&name).await.with_context(|| self.berth.logs())?;
        let taken = self.taken(id).context("the worker's log says when it took the order")?;
        self.end(id).await?;
        watch.gone(&name).await?;
        Ok(Sample {
            decided: ms(began, time(&job["submitted_at"])?),
            answered: ms(began, answered),
            taken: ms(began, taken),
            created: ms(began, container.created),
            started: ms(began, container.started),
            inspected: container.inspected,
        })
    }

    async fn end(&self, id: Uuid) -> anyhow::Result<()> {
        let kill = json!({"command": "kill", "grace_s": 0});
        let (status, answer) = self.berth.post(&format!("/v1/jobs/{id}/commands"), kill).await;
        ensure!(status == StatusCode::ACCEPTED, "{status}: {answer:#}");
        self.berth.job_ends(&id.to_string(), "killed", SEEN).await;
        Ok(())
    }

    fn taken(&self, id: Uuid) -> Option<Timestamp> {
        let log = self.berth.workers[0].process.output();
        let id = id.to_string();
        let lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of = |line: &Value| line["fields"]["message"] == "taken" && line["fields"]["job.id"] == id;
        time(&lines.into_iter().find(of)?["timestamp"]).ok()
    }
}

/// The way of a submission, one step after the other; the client's answer comes beside it.
pub fn steps(samples: &[Sample], report: &mut Report) {
    let mut step = |what, of: fn(&Sample) -> f64| {
        report.step(what, samples.iter().map(of).collect::<Series>().median());
    };
    step("berth: the leader has the submission", |s| s.decided);
    step("berth: committed, published, taken by the worker", |s| s.taken - s.decided);
    step("berth: the worker has asked for the container", |s| s.created - s.taken);
    step("berth: it runs", |s| s.started - s.created);
    step("berth: the client has its answer, since the request", |s| s.answered);
}
