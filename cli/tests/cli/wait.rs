//! `berth wait`: the first exit code that is not 0, whatever the server goes through meanwhile.

use serde_json::Value;

use crate::berth::run;
use crate::job::{A, B, exited, job};
use crate::server::{Server, json, lost, problem};

#[tokio::test]
async fn the_first_exit_code_that_is_not_0_counts() {
    let server = Server::start(|asked, before| {
        if asked.what.ends_with(B) {
            return json(200, &exited(B, "failed", Some(7)));
        }
        match before {
            0 => problem(503, "the database is away"),
            1 => problem(429, "too many requests"),
            2 => lost(),
            _ => json(200, &exited(A, "succeeded", Some(0))),
        }
    })
    .await;
    // In the order in which they are found to be over.
    let lines = format!("{B} train: failed with exit code 7 after 1m30s\n{A} train: succeeded after 1m30s\n");
    run(&server, &["wait", A, B, A]).await.assert(7, &lines).says("the database is away");
    let done = run(&server, &["wait", "--json", B, A]).await;
    let jobs: Vec<Value> = serde_json::from_str(&done.out).expect("one document");
    assert_eq!((done.code, jobs.len(), &jobs[0]["id"]), (7, 2, &Value::from(B)));
}

#[tokio::test]
async fn a_job_that_is_not_over_in_time_is_a_failure() {
    let server = Server::start(|_, _| json(200, &job(A, "running"))).await;
    run(&server, &["wait", "--timeout", "1", A]).await.assert(1, "").says(&format!("not over in time: {A}"));
}

#[tokio::test]
async fn a_job_that_does_not_exist_is_not_waited_for() {
    let server = Server::start(|_, _| problem(404, "there is no such job")).await;
    run(&server, &["wait", A]).await.assert(1, "").says("there is no such job");
}

#[tokio::test]
async fn an_array_is_waited_for_as_a_whole() {
    let server = Server::start(|asked, _| match asked.what.as_str() {
        "GET /v1/jobs" => {
            let (mut first, mut second) = (job(A, "running"), job(B, "running"));
            (first["array_index"], second["array_index"]) = (0.into(), 1.into());
            json(200, &serde_json::json!({"items": [second, first], "next_cursor": null}))
        }
        what if what.ends_with(A) => json(200, &exited(A, "succeeded", Some(0))),
        what if what.ends_with(B) => json(200, &exited(B, "failed", Some(7))),
        _ => problem(404, "an array"),
    })
    .await;
    let array = A.replace("00a", "00c");
    let lines = format!("{A} train: succeeded after 1m30s\n{B} train: failed with exit code 7 after 1m30s\n");
    run(&server, &["wait", &array]).await.assert(7, &lines);
}
