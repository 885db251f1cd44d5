//! Submissions: `POST /v1/jobs:batch` of held jobs until the answer, beside two limits: the rows that
//! the same PostgreSQL takes over one connection in batches, and the messages that the same RabbitMQ
//! takes and gives through one quorum queue.
//!
//! Both limits are generous: a submission is a message through such a queue and a reply, a decision,
//! a job row and a row of its history in a transaction that also checks who leads; and the client,
//! the scheduler, the broker and the database share the processors.

mod broker;

use anyhow::{Context, ensure};
use berth_bench::report::{Figure, Goal, Report};
use berth_bench::series::Series;
use berth_common::time::now;
use berth_tests::berth::Berth;
use jiff::Timestamp;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::broker::Broker;

/// Jobs in one request, and messages in one repeat.
const JOBS: usize = 5000;
/// Rows in one repeat: as many as the jobs would be over in moments and say nothing.
const INSERTED: usize = 10 * JOBS;
/// Measured pairs.
const REPEATS: usize = 7;
const WARM_UP: usize = 1;
/// Rows in a statement: the leader's own batch.
const ROWS: usize = 500;

/// The columns of a job that a submission fills, and its key.
const TABLE: &str = "CREATE TABLE bench_rows (cell_id INTEGER NOT NULL, job_id UUID NOT NULL, \
    status TEXT NOT NULL, owner TEXT NOT NULL, spec TEXT NOT NULL, submitted_at TIMESTAMPTZ NOT NULL, \
    PRIMARY KEY (cell_id, job_id))";
const INSERT: &str = "INSERT INTO bench_rows (cell_id, job_id, status, owner, spec, submitted_at) \
    SELECT 0, unnest($1::UUID[]), 'pending', 'admin', unnest($2::TEXT[]), unnest($3::TIMESTAMPTZ[])";

fn main() -> anyhow::Result<()> {
    berth_bench::run(measure)
}

async fn measure() -> anyhow::Result<Report> {
    // Without a worker: nothing is refused for its size, and nothing runs.
    let berth = Berth::start().await;
    let client = berth.database.client().await;
    client.batch_execute(TABLE).await.context("making the scratch table")?;
    let mut broker = Broker::open(&berth.vhost.url).await?;
    let message = spec().to_string();
    let (mut jobs, mut rows, mut messages) = (Series::default(), Series::default(), Series::default());
    for repeat in 0..WARM_UP + REPEATS {
        let sample =
            [submit(&berth).await?, insert(&client).await?, broker.once(message.as_bytes(), JOBS).await?];
        if repeat >= WARM_UP {
            jobs.add(sample[0]);
            rows.add(sample[1]);
            messages.add(sample[2]);
        }
    }
    broker.close().await?;
    let about = format!("POST /v1/jobs:batch of {JOBS} held jobs, {REPEATS} repeats in turns");
    let mut report = Report::new("throughput", about);
    let submissions = |limit: &Series, limit_is: String| Figure {
        what: "submissions".into(),
        unit: "per s",
        berth: jobs.median(),
        limit: limit.median(),
        limit_is,
        goal: Goal::None,
    };
    report.figure(submissions(&rows, format!("rows by INSERT, one connection, {ROWS} a statement")));
    report.figure(submissions(&messages, "messages, confirmed, consumed, acknowledged".into()));
    report.samples("messages_per_s", &messages);
    report.samples("jobs_per_s", &jobs);
    report.samples("rows_per_s", &rows);
    report.database(&berth.database.url).await?;
    Ok(report)
}

fn spec() -> Value {
    let resources = json!({"gpus": 1, "gpu_type": "H100-80GB"});
    json!({"name": "bench", "image": "busybox", "command": ["true"], "hold": true, "resources": resources})
}

/// Jobs per second until all are answered.
async fn submit(berth: &Berth) -> anyhow::Result<f64> {
    let body = Value::Array(vec![spec(); JOBS]);
    let began = Instant::now();
    let (status, answer) = berth.post("/v1/jobs:batch", body).await;
    let passed_s = began.elapsed().as_secs_f64();
    ensure!(status == StatusCode::OK, "{status}: {answer:#}\n{}", berth.logs());
    let items = answer.as_array().context("an item for each job")?;
    let refused = items.iter().find(|item| item["id"].is_null());
    ensure!(items.len() == JOBS && refused.is_none(), "{} items, one of them {refused:?}", items.len());
    Ok(JOBS as f64 / passed_s)
}

/// Rows per second, each statement a transaction of its own.
async fn insert(client: &Client) -> anyhow::Result<f64> {
    let statement = client.prepare(INSERT).await.context("preparing the insert")?;
    let ids: Vec<Uuid> = (0..INSERTED).map(|_| Uuid::now_v7()).collect();
    let (specs, times): (_, Vec<Timestamp>) = (vec![spec().to_string(); ROWS], vec![now(); ROWS]);
    let began = Instant::now();
    for ids in ids.chunks_exact(ROWS) {
        client.execute(&statement, &[&ids, &specs, &times]).await.context("inserting")?;
    }
    Ok(INSERTED as f64 / began.elapsed().as_secs_f64())
}
