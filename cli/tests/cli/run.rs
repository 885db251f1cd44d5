//! `berth run`: the job's log and exit code are the command's own; Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::response::Response;
use serde_json::Value;
use tokio::sync::watch;

use crate::berth::{at, done, interrupt, run};
use crate::job::{A, command, exited, job};
use crate::server::{Asked, END, Server, events, events_gated, json, log_event};

const LOGS: &str = "GET /v1/jobs/0192abcd-1234-7000-8000-00000000000a/logs";
const COMMANDS: &str = "POST /v1/jobs/0192abcd-1234-7000-8000-00000000000a/commands";

async fn ended_as(end: Value) -> Server {
    let answer = move |asked: &Asked, before: usize| -> Response {
        match asked.what.as_str() {
            "POST /v1/jobs" => json(201, &job(A, "pending")),
            LOGS => events(
                log_event("out\n", 4)
                    + "event: log\ndata: {\"text\":\"err\\n\",\"cursor\":8,\"stream\":\"stderr\"}\n\n"
                    + END,
            ),
            _ if before == 0 => json(200, &job(A, "running")),
            _ => json(200, &end),
        }
    };
    Server::start(answer).await
}

#[tokio::test]
async fn the_jobs_exit_code_is_the_commands() {
    let of = |outcome, code| ended_as(exited(A, outcome, code));
    let args = &["run", "--image", "i", "--", "true"];
    let done = run(&of("succeeded", Some(0)).await, args).await;
    done.assert(0, "out\n").says(&format!("berth: job {A}\n")).says("\nerr\n");
    run(&of("failed", Some(42)).await, args).await.assert(42, "out\n").says("failed with exit code 42");
    run(&of("killed", None).await, args).await.assert(137, "out\n").says("killed");
    let mut end = exited(A, "error", None);
    end["error"] = "image not found".into();
    run(&ended_as(end).await, args).await.assert(1, "out\n").says("image not found");
}

#[tokio::test]
async fn with_json_standard_output_is_the_job_at_its_end() {
    let server = ended_as(exited(A, "succeeded", Some(0))).await;
    let done = run(&server, &["run", "--json", "--image", "i"]).await;
    let job: Value = serde_json::from_str(&done.out).expect("one document");
    assert_eq!((done.code, &job["outcome"]), (0, &Value::from("succeeded")));
    done.says("out\nerr\n");
}

/// A job that runs until it is killed, if `obeys`.
async fn runs_until_killed(obeys: bool) -> Server {
    let (open, gate) = watch::channel(false);
    let killed = Arc::new(AtomicBool::new(false));
    Server::start(move |asked, _| match asked.what.as_str() {
        "POST /v1/jobs" => json(201, &job(A, "pending")),
        LOGS => events_gated(log_event("working\n", 8), gate.clone(), log_event("stopping\n", 17) + END),
        COMMANDS => {
            assert_eq!(asked.body["command"], "kill");
            killed.store(obeys, Ordering::SeqCst);
            open.send_replace(obeys);
            json(202, &command(A, "kill"))
        }
        _ if killed.load(Ordering::SeqCst) => json(200, &exited(A, "killed", Some(143))),
        _ => json(200, &job(A, "running")),
    })
    .await
}

#[tokio::test]
async fn ctrl_c_kills_the_job_and_waits_for_its_end() {
    let server = runs_until_killed(true).await;
    let child = at(&server, &["run", "--image", "i"]).spawn().expect("starts");
    server.until_asked(LOGS).await;
    interrupt(&child).await;
    done(child)
        .await
        .assert(143, "working\nstopping\n")
        .says("killing the job")
        .says("killed with exit code 143");
}

#[tokio::test]
async fn ctrl_c_twice_leaves() {
    let server = runs_until_killed(false).await;
    let child = at(&server, &["run", "--image", "i"]).spawn().expect("starts");
    server.until_asked(LOGS).await;
    interrupt(&child).await;
    server.until_asked(COMMANDS).await;
    interrupt(&child).await;
    let done = done(child).await;
    assert_eq!(done.code, 130, "{done:?}");
    done.says("left").says(&format!("berth show {A}"));
}
