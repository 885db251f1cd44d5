//! What became of a schedule, seen from outside: by the API, in the database, at Docker, in the kernel.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use berth_tests::recording::Sighting;
use jiff::Timestamp;
use reqwest::StatusCode;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::evidence;
use crate::lives::{alive_together, double_starts, lives, most_alive_at_once};
use crate::load::Submitted;
use crate::plan::Fault;
use crate::report::Report;

/// More faults than this end a job in `error`.
const MAX_FAULTS: i64 = 5;

const JOBS: &str = "SELECT job_id::text, status, outcome FROM sched.jobs";
const STARTED: &str = "SELECT job_id::text, attempt, replica FROM sched.containers";
const RESERVED: &str = "SELECT count(*) FROM sched.reservation";
const LIVE: &str = "SELECT count(*) FROM sched.containers WHERE status <> 'exited'";
const USED: &str = "SELECT count(*) FROM sched.container_gpu WHERE used <> 0";
pub const PENDING: &str = "SELECT count(*) FROM sched.commands WHERE status = 'pending'";

/// Everything that can be counted.
pub async fn look(
    cluster: &Cluster,
    submitted: &[Submitted],
    faults: &[Fault],
    sightings: &[Sighting],
    folder: &Path,
) -> Report {
    let mut report = Report { answered: submitted.len(), ..Report::default() };
    for fault in faults {
        *report.faults.entry(fault.to_string()).or_default() += 1;
    }
    let mut jobs = HashMap::new();
    for job in submitted {
        let (status, shown) = cluster.api.read(&format!("/v1/jobs/{}", job.id)).await;
        if status == StatusCode::OK {
            judge(job, &shown, &mut report);
            jobs.insert(job.id.clone(), shown);
        } else {
            report.note("jobs answered and not found", format!("{} {status}", job.id));
        }
    }
    compare_database(cluster, &jobs, &mut report).await;
    compare_docker(cluster, sightings, &mut report).await;
    leftovers(cluster, &mut report).await;
    for program in cluster.programs() {
        report.revived += program.lock().await.revived;
    }
    for panic in evidence::panics(folder) {
        report.note("panics", panic);
    }
    report
}

/// A job's end against what was planned and wished.
fn judge(job: &Submitted, shown: &Value, report: &mut Report) {
    let outcome = shown["outcome"].as_str().unwrap_or("none");
    *report.outcomes.entry(outcome.to_owned()).or_default() += 1;
    let line = || format!("{} {} ({}): {shown}", job.planned.key, job.id, job.planned.spec["command"][2]);
    if shown["status"] != "exited" {
        report.note("jobs that did not end", line());
        return;
    }
    report.faults_charged += shown["faults"].as_i64().unwrap_or(0);
    let asked = job.kill.as_ref().map(|kill| kill.status);
    let fits = match outcome {
        "killed" => asked.is_some_and(|status| status.is_success()),
        "succeeded" => job.planned.exit_code == 0,
        "failed" => job.planned.exit_code != 0,
        "error" => shown["faults"].as_i64() > Some(MAX_FAULTS),
        _ => false,
    };
    if !fits {
        report.note("outcomes that nothing explains", line());
    }
    judge_kill(job, shown, report);
}

/// 202 is a promise; 409 says that it was over already, and then it must have been.
fn judge_kill(job: &Submitted, shown: &Value, report: &mut Report) {
    let Some(kill) = &job.kill else { return };
    report.kills_asked += 1;
    let exited_at: Option<Timestamp> = shown["exited_at"].as_str().and_then(|at| at.parse().ok());
    if kill.status.is_success() {
        report.kills_accepted += 1;
        if shown["outcome"] != "killed" {
            report.note(
                "kills accepted and not done",
                format!("{} {} at {}: {shown}", kill.status, kill.body, kill.at),
            );
        }
    } else if exited_at.is_none_or(|at| at > kill.at) {
        report.note(
            "kills refused while the job was not over",
            format!("{} {} at {}: {shown}", kill.status, kill.body, kill.at),
        );
    }
}

async fn compare_database(cluster: &Cluster, jobs: &HashMap<String, Value>, report: &mut Report) {
    let database = cluster.database.client().await;
    for row in database.query(JOBS, &[]).await.expect("the database answers") {
        let (id, status, outcome): (String, String, Option<String>) = (row.get(0), row.get(1), row.get(2));
        match jobs.get(&id) {
            Some(shown) if shown["status"] == status && shown["outcome"].as_str() == outcome.as_deref() => {}
            Some(shown) => {
                report.note("rows that the API shows otherwise", format!("{status} {outcome:?} {shown}"));
            }
            None => report.note("jobs that nobody submitted", id),
        }
    }
    for (what, statement) in [
        ("reservations left", RESERVED),
        ("containers that did not end in the database", LIVE),
        ("GPUs in use in the history", USED),
        ("commands left pending", PENDING),
    ] {
        let left = count(&database, statement).await;
        if left != 0 {
            report.note(what, left.to_string());
        }
    }
}

async fn compare_docker(cluster: &Cluster, sightings: &[Sighting], report: &mut Report) {
    let lives = lives(sightings);
    report.starts = lives.iter().map(|life| life.starts).sum();
    report.most_alive = most_alive_at_once(&lives);
    for replica in double_starts(&lives) {
        report.note("double starts", format!("{replica:?}"));
    }
    for (one, other) in alive_together(&lives) {
        report.note("containers of one job alive together", format!("{one:?} {other:?}"));
    }
    let database = cluster.database.client().await;
    let rows = database.query(STARTED, &[]).await.expect("the database answers");
    let known: BTreeMap<(String, i32, i32), ()> =
        rows.iter().map(|row| ((row.get(0), row.get(1), row.get(2)), ())).collect();
    for life in lives.iter().filter(|life| life.starts > 0) {
        let number = |n: u32| i32::try_from(n).unwrap_or(-1);
        let key = (life.replica.job.clone(), number(life.replica.attempt), number(life.replica.replica));
        if !known.contains_key(&key) {
            report.note("containers that the database does not know", format!("{life:?}"));
        }
    }
}

/// What Docker has, and what runs whether or not Docker knows of it.
async fn leftovers(cluster: &Cluster, report: &mut Report) {
    for left in containers(cluster).await {
        report.note("containers left in Docker", left);
    }
    let parent = cluster.services.cgroup_parent();
    for controller in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        // Version 1 has one tree per controller, version 2 one for all: in the latter the parent itself is met.
        let own = if controller.file_name() == *parent {
            controller.path()
        } else {
            controller.path().join(&parent)
        };
        for container in std::fs::read_dir(own).into_iter().flatten().flatten() {
            let pids = std::fs::read_to_string(container.path().join("cgroup.procs")).unwrap_or_default();
            if !pids.is_empty() {
                let pids = pids.split_whitespace().collect::<Vec<_>>().join(" ");
                report.note("processes left", format!("{}: {pids}", container.path().display()));
            }
        }
    }
}

pub async fn containers(cluster: &Cluster) -> Vec<String> {
    let mut docker = tokio::process::Command::new("docker");
    docker.env("DOCKER_HOST", &cluster.services.endpoints.docker_host);
    docker.args(["ps", "-a", "--filter", "label=berth.job", "--format", "{{.Names}} {{.Status}}"]);
    let output = docker.output().await.expect("docker's command is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

pub async fn count(database: &tokio_postgres::Client, statement: &str) -> i64 {
    database.query_one(statement, &[]).await.expect("the database answers").get(0)
}
