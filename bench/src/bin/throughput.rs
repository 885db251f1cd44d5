//! Submissions: `POST /v1/jobs:batch` of held jobs until the answer, beside the rows that the same
//! PostgreSQL takes over one connection in batches.
//!
//! The limit is generous: a submission is two messages over the broker, a decision, a job row and a
//! row of its history, in a transaction that also checks who leads.

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

/// Jobs in one request, and rows in one repeat of the limit.
const JOBS: usize = 5000;
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
    let (mut jobs, mut rows) = (Series::default(), Series::default());
    for repeat in 0..WARM_UP + REPEATS {
        let (ours, theirs);
        if repeat % 2 == 0 {
            ours = submit(&berth).await?;
            theirs = insert(&client).await?;
        } else {
            theirs = insert(&client).await?;
            ours = submit(&berth).await?;
        }
        if repeat >= WARM_UP {
            jobs.add(ours);
            rows.add(theirs);
        }
    }
    let about = format!("POST /v1/jobs:batch of {JOBS} held jobs, {REPEATS} repeats in turns");
    let mut report = Report::new("throughput", about);
    report.figure(Figure {
        what: "submissions".into(),
        unit: "per s",
        berth: jobs.median(),
        limit: rows.median(),
        limit_is: format!("rows by INSERT, one connection, {ROWS} a statement"),
        goal: Goal::None,
    });
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
    let ids: Vec<Uuid> = (0..JOBS).map(|_| Uuid::now_v7()).collect();
    let specs = vec![spec().to_string(); ROWS];
    let times: Vec<Timestamp> = vec![now(); ROWS];
    let began = Instant::now();
    for ids in ids.chunks(ROWS) {
        let n = ids.len();
        client.execute(&statement, &[&ids, &&specs[..n], &&times[..n]]).await.context("inserting")?;
    }
    Ok(JOBS as f64 / began.elapsed().as_secs_f64())
}
