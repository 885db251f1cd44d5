//! `berth logs -f`: nothing lost, nothing twice, whatever breaks.

use serde_json::json;

use crate::berth::run;
use crate::job::{A, exited, job, waiting};
use crate::server::{END, Server, events, json, log_event, lost, problem};

const LOGS: &str = "GET /v1/jobs/0192abcd-1234-7000-8000-00000000000a/logs";

#[tokio::test]
async fn a_broken_stream_goes_on_where_it_stopped() {
    let server = Server::start(|asked, before| {
        if asked.what != LOGS {
            return json(200, &exited(A, "succeeded", Some(0)));
        }
        match before {
            0 => events(log_event("one\ntw", 6) + "event: log\ndata: {\"text\": \"o\\nth"),
            1 => problem(503, "the device does not answer"),
            2 => lost(),
            _ => events(": hello\n\n".to_owned() + &log_event("o\nthree\n", 14) + END),
        }
    })
    .await;
    run(&server, &["logs", "-f", A]).await.assert(0, "one\ntwo\nthree\n").says("trying again");
    let queries: Vec<String> = server.asked_for(LOGS).into_iter().map(|asked| asked.query).collect();
    assert_eq!(queries[0], "attempt=1&follow=true");
    assert!(queries[1..].iter().all(|query| query == "attempt=1&follow=true&cursor=6"), "{queries:?}");
}

#[tokio::test]
async fn a_waiting_job_is_waited_for_and_says_why() {
    let server = Server::start(|asked, before| match (asked.what == LOGS, before) {
        (true, _) => events(log_event("hello\n", 6) + END),
        (false, 0) => json(200, &waiting(A, "waits for 2 GPUs")),
        (false, 1) => json(200, &job(A, "running")),
        (false, _) => json(200, &exited(A, "failed", Some(3))),
    })
    .await;
    let done = run(&server, &["logs", "-f", A]).await;
    done.assert(0, "hello\n").says("berth: pending: waits for 2 GPUs\nberth: running on dev-1\n");
}

#[tokio::test]
async fn every_attempt_has_its_turn() {
    let server = Server::start(|asked, before| {
        if asked.what == LOGS {
            let attempt = if asked.query.contains("attempt=1") { "first" } else { "second" };
            return events(log_event(&format!("{attempt}\n"), 7) + END);
        }
        let mut now = if before == 0 { job(A, "running") } else { exited(A, "succeeded", Some(0)) };
        now["attempt"] = json!(if before == 0 { 1 } else { 2 });
        json(200, &now)
    })
    .await;
    run(&server, &["logs", "-f", A]).await.assert(0, "first\nsecond\n");
}

#[tokio::test]
async fn a_log_that_is_gone_is_told_and_is_a_failure() {
    let server = Server::start(|asked, _| match asked.what == LOGS {
        true => problem(404, "no log"),
        false => json(200, &exited(A, "killed", None)),
    })
    .await;
    run(&server, &["logs", "-f", A]).await.assert(1, "").says("there is no log of attempt 1");
    run(&server, &["logs", A]).await.assert(1, "").says("no log");
    run(&server, &["logs", "-f", "--attempt", "7", A]).await.assert(1, "").says("no attempt 7");
}

#[tokio::test]
async fn a_problem_within_the_stream_is_a_refusal() {
    let forbidden =
        json!({"type": "about:blank", "title": "Forbidden", "status": 403, "detail": "not yours"});
    let server = Server::start(move |asked, _| match asked.what == LOGS {
        true => events(log_event("a\n", 2) + &format!("event: problem\ndata: {forbidden}\n\n")),
        false => json(200, &job(A, "running")),
    })
    .await;
    run(&server, &["logs", "-f", A]).await.assert(1, "a\n").says("not yours");
}
