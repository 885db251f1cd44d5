//! `berth simulate --snapshot`: what the API tells, played to its end.

use serde_json::{Value, json};

use crate::berth::{command, done, run};
use crate::job::{A, B, job};
use crate::server::{Asked, Server, json, problem};

const C: &str = "aa92abcd-1234-7000-8000-00000000000c";
const D: &str = "bb92abcd-1234-7000-8000-00000000000d";

/// Two T4, of which `busy` are in use: by whose job, where that may be seen.
fn device(busy: &[(i64, Option<&str>)]) -> Value {
    let gpu = |id: i64| {
        let holder = busy.iter().find(|(of, _)| *of == id);
        json!({"id": id, "idx": id - 1, "type": "T4", "uuid": "u", "memory_mb": 16384, "free": holder.is_none(),
               "job": holder.and_then(|(_, job)| *job)})
    };
    json!({
        "name": "dev-1", "state": "up", "note": null, "ip": "10.0.0.1", "cpus": 8.0, "cpu_name": "CPU", "memory_mb": 16384,
        "cpus_used": busy.len(), "memory_used_mb": 1024 * busy.len(), "gpus_declared": true, "engine": "Docker",
        "labels": {}, "session": 1, "last_seen_at": "2027-01-01T00:00:00Z", "gpus": [gpu(1), gpu(2)],
    })
}

fn wants(mut job: Value, gpus: u32, timeout_s: u64) -> Value {
    job["spec"] = json!({"image": "i", "resources": {"gpus": gpus}, "timeout_s": timeout_s});
    job
}

/// It began at this moment, and has these GPUs.
fn runs(id: &str, gpus: &[i64], timeout_s: u64) -> Value {
    let mut job = wants(job(id, "running"), u32::try_from(gpus.len()).expect("few"), timeout_s);
    job["started_at"] = jiff::Timestamp::now().to_string().into();
    let gpus: Vec<Value> = gpus.iter().map(|id| json!({"id": id, "type": "T4"})).collect();
    job["attempts"] = json!([{
        "attempt": 1, "replica": 0, "device": "dev-1", "session": 1, "status": "running", "gpus": gpus, "ports": {},
        "exit_code": null, "oom": false, "error": null, "scheduled_at": "2027-01-01T00:00:00Z",
        "started_at": "2027-01-01T00:00:00Z", "exited_at": null,
    }]);
    job
}

/// What is told of a cluster of one device; whoever is no admin may not list users.
fn answer(asked: &Asked, devices: &Value, jobs: &[Value], admin: bool) -> axum::response::Response {
    let list = |items: Value| json(200, &json!({"items": items, "next_cursor": null}));
    match asked.what.as_str() {
        "GET /v1/jobs" => {
            // Page by page, one job each.
            let place = asked.query.split("cursor=").nth(1).map_or(0, |place| place.parse().expect("ours"));
            let next = (place + 1 < jobs.len()).then(|| (place + 1).to_string());
            json(200, &json!({"items": jobs.get(place).into_iter().collect::<Vec<_>>(), "next_cursor": next}))
        }
        "GET /v1/devices" => list(json!([devices])),
        "GET /v1/queues" => list(json!([{"name": "default", "policy": "fifo-backfill"}])),
        "GET /v1/users" if admin => list(json!([])),
        "GET /v1/users" => problem(403, "for administrators"),
        other => panic!("{other} is asked for"),
    }
}

#[tokio::test]
async fn when_each_job_would_start_and_when_with_more_hosts() {
    let mut held = wants(job(D, "pending"), 1, 60);
    held["held"] = true.into();
    let mut first = wants(job(A, "pending"), 2, 1000);
    first["submitted_at"] = "2026-12-31T23:00:00.000000Z".into();
    let jobs = [runs(C, &[1, 2], 3600), wants(job(B, "pending"), 1, 1000), first, held];
    let server =
        Server::start(move |asked, _| answer(asked, &device(&[(1, Some(C)), (2, Some(C))]), &jobs, true))
            .await;
    let shown = run(&server, &["simulate", "--snapshot", "--add", "1x2"]).await;
    assert_eq!(shown.code, 0, "{}", shown.err);
    shown.says("left out: 1 held, 0 unapproved").says("run to their limits");
    assert!(!shown.err.contains("your own jobs only"), "{}", shown.err);
    let lines: Vec<&str> = shown.out.lines().collect();
    assert!(lines[0].starts_with("ID        NAME") && lines[0].ends_with("WITH MORE"), "{}", lines[0]);
    assert!(lines[1].starts_with("0192abcd") && lines[1].ends_with("0s"), "{}", shown.out);
    assert!(lines[2].starts_with("ff92abcd"), "{}", shown.out);
    assert!(lines[5].starts_with("as it is") && lines[6].starts_with("with 1x2 more"), "{}", shown.out);
    assert!(server.asked()[0].query.contains("status=unapproved&status=pending"), "{:?}", server.asked()[0]);
    assert_eq!(server.asked_for("GET /v1/jobs").len(), 4, "all pages");

    let told = run(&server, &["--json", "simulate", "--snapshot", "--add", "1x2"]).await;
    let told: Value = serde_json::from_str(&told.out).expect("one document");
    assert_eq!((&told["complete"], &told["left_out"]["held"]), (&json!(true), &json!(1)));
    let starts = |place: usize, cluster: usize| told["jobs"][place]["starts_in"][cluster].as_f64();
    let around = |seconds: Option<f64>, wanted: f64| {
        assert!(seconds.is_some_and(|seconds| (wanted - 60.0..=wanted).contains(&seconds)), "{told:#}");
    };
    // The first waits for both GPUs, the second for the first; on two more GPUs the first starts at once.
    around(starts(0, 0), 3600.0);
    around(starts(1, 0), 4600.0);
    assert_eq!(starts(0, 1), Some(0.0));
    around(starts(1, 1), 1000.0);
}

#[tokio::test]
async fn whoever_sees_only_own_jobs_is_told_so() {
    let jobs = [wants(job(A, "pending"), 2, 1000), wants(job(B, "pending"), 1, 1000)];
    let server = Server::start(move |asked, _| answer(asked, &device(&[(2, None)]), &jobs, false)).await;
    let shown = run(&server, &["simulate", "--snapshot"]).await;
    assert_eq!(shown.code, 0, "{}", shown.err);
    shown.says("you see your own jobs only: 1 GPUs of others count as busy for ever");
    let lines: Vec<&str> = shown.out.lines().collect();
    assert!(lines[1].starts_with("ff92abcd") && lines[1].ends_with("0s"), "{}", shown.out);
    assert!(lines[2].starts_with("0192abcd") && lines[2].ends_with("never"), "{}", shown.out);
}

#[tokio::test]
async fn it_fails_like_every_other_command() {
    let server = Server::start(|_, _| problem(401, "no such token")).await;
    run(&server, &["simulate", "--snapshot"]).await.assert(1, "").says("no such token").says("BERTH_TOKEN");
    let mut nobody = command(&["simulate", "--snapshot", "--url", "http://127.0.0.1:1"]);
    done(nobody.spawn().expect("starts")).await.assert(1, "").says("cannot reach the scheduler");
    let mut wrong = command(&["simulate", "--snapshot", "--add", "many"]);
    done(wrong.spawn().expect("starts")).await.assert(2, "").says("2x8xA100-80GB");
}
