//! Logs come from the device, whole or as they grow.

use berth_common::job::{AttemptStatus, Outcome, Status};
use berth_common::message::{LogPiece, Reply};
use berth_common::problem::Problem;
use berth_scheduler::core::rows::{ContainerRow, JobRow, Life, Rows};
use futures_util::StreamExt;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::sample;
use crate::script::Heard;
use crate::stage::{ADMIN, LIMIT, Stage, at_ms, with_stage};

/// The running job of the sample.
const RUNNING: u128 = 4;
const DEVICE: &str = "dev-100";

fn path(job: u128, query: &str) -> String {
    format!("/v1/jobs/{}/logs?{query}", Uuid::from_u128(job))
}

fn piece(text: &str, cursor: u64, end: bool) -> Option<Reply> {
    let piece = LogPiece { text: text.into(), cursor, end };
    Some(Reply { status: 200, body: serde_json::to_value(piece).expect("JSON") })
}

fn no_log() -> Option<Reply> {
    Some(Reply { status: 404, body: serde_json::to_value(Problem::new(404, "no log")).expect("JSON") })
}

/// The log of attempt 3 comes in two pieces and ends; attempts 4's and 5's in one.
fn device(heard: &Heard) -> Option<Reply> {
    match (heard.body["attempt"].as_u64(), heard.body["cursor"].as_u64()) {
        (Some(3), None) => piece("one\ntwo\n", 8, false),
        (Some(3), Some(8)) => piece("drei ä\n", 16, true),
        (Some(4), None) => piece("again\n", 6, true),
        (Some(5), None) => piece("last\n", 5, true),
        _ => no_log(),
    }
}

async fn text(stage: &Stage, path: &str) -> (u16, String) {
    let response = stage.send(Method::GET, path, |request| request.bearer_auth(ADMIN)).await;
    (response.status().as_u16(), response.text().await.expect("the log is whole"))
}

#[tokio::test]
async fn the_whole_log_is_put_together_from_its_pieces() {
    with_stage(async |stage| {
        stage.commit(&sample::cluster()).await;
        let log = stage.device(DEVICE, device).await;
        assert_eq!(
            text(stage, &path(RUNNING, "tail=5&stream=stdout")).await,
            (200, "one\ntwo\ndrei ä\n".into())
        );
        let asked = log.lock().expect("whole")[0].body.clone();
        assert_eq!(
            (&asked["tail"], &asked["stream"], &asked["wait_ms"]),
            (&json!(5), &json!("stdout"), &json!(0))
        );
        assert_eq!(text(stage, &path(RUNNING, "cursor=8")).await, (200, "drei ä\n".into()));
        assert_eq!(text(stage, &path(2, "")).await, (200, String::new()), "it was never placed");
        assert_eq!(text(stage, &path(RUNNING, "attempt=7")).await.0, 404);
        assert_eq!(text(stage, &path(RUNNING, "stream=stdin")).await.0, 422);
    })
    .await;
}

#[tokio::test]
async fn a_device_that_is_not_there_is_told_with_its_state() {
    with_stage(async |stage| {
        stage.commit(&sample::cluster()).await;
        for query in ["", "follow=true"] {
            let (status, problem) = text(stage, &path(RUNNING, query)).await;
            assert_eq!(status, 503, "{problem}");
            assert!(problem.contains("dev-100") && problem.contains("draining"), "{problem}");
        }
    })
    .await;
}

/// A stream of which the head is there.
async fn follow(stage: &Stage, path: &str) -> Response {
    let response = stage.send(Method::GET, path, |request| request.bearer_auth(ADMIN)).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response
}

/// Its events, until it ends or `enough` of them came.
async fn events(response: Response, enough: usize) -> Vec<(String, Value)> {
    let (mut stream, mut text) = (response.bytes_stream(), String::new());
    let mut events = Vec::new();
    while events.len() < enough {
        let next = tokio::time::timeout(LIMIT, stream.next()).await;
        let Some(bytes) = next.unwrap_or_else(|_| panic!("no event; so far {events:?}")) else { break };
        text.push_str(std::str::from_utf8(&bytes.expect("the stream goes on")).expect("whole characters"));
        while let Some((frame, rest)) = text.split_once("\n\n") {
            let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            if let (Some(event), Some(data)) = (field("event:"), field("data:")) {
                events.push((event.to_owned(), serde_json::from_str(data).expect("JSON")));
            }
            text = rest.to_owned();
        }
    }
    events
}

/// Ends attempt 3 of the running job, and begins attempt 4 or not.
async fn end_attempt(stage: &Stage, job: JobRow, next: Option<ContainerRow>) {
    let container = ContainerRow {
        status: AttemptStatus::Exited,
        exit_code: Some(0),
        exited_at: Some(at_ms(100)),
        ..sample::container(200, RUNNING, 100, &[101, 102])
    };
    let rows = Rows {
        jobs: vec![job],
        containers: vec![container],
        new_containers: next.into_iter().collect(),
        ..Rows::default()
    };
    stage.commit(&rows).await;
}

fn exited() -> JobRow {
    let life = Life { outcome: Some(Outcome::Succeeded), ..sample::life(Status::Exited) };
    JobRow { life, ..sample::job(RUNNING) }
}

#[tokio::test]
async fn following_goes_on_until_the_job_has_exited() {
    with_stage(async |stage| {
        stage.commit(&sample::cluster()).await;
        stage.device(DEVICE, device).await;
        let following = follow(stage, &path(RUNNING, "follow=true")).await;
        end_attempt(stage, exited(), None).await;
        let found = events(following, usize::MAX).await;
        assert_eq!(
            found,
            [
                ("log".into(), json!({"text": "one\ntwo\n", "cursor": 8, "attempt": 3})),
                ("log".into(), json!({"text": "drei ä\n", "cursor": 16, "attempt": 3})),
                ("end".into(), json!({})),
            ]
        );
        let from_cursor =
            events(follow(stage, &path(RUNNING, "follow=true&cursor=8")).await, usize::MAX).await;
        assert_eq!(from_cursor, found[1..]);
    })
    .await;
}

#[tokio::test]
async fn following_goes_on_with_the_next_attempt() {
    with_stage(async |stage| {
        stage.commit(&sample::cluster()).await;
        stage.device(DEVICE, device).await;
        let following = follow(stage, &path(RUNNING, "follow=true")).await;
        let mut next = sample::container(201, RUNNING, 100, &[]);
        next.replica.attempt = 4;
        let life = Life { attempt: 4, ..sample::life(Status::Running) };
        end_attempt(stage, JobRow { life, ..sample::job(RUNNING) }, Some(next)).await;
        let found = events(following, 3).await;
        assert_eq!(found[2], ("log".into(), json!({"text": "again\n", "cursor": 6, "attempt": 4})));
        let only = events(follow(stage, &path(RUNNING, "follow=true&attempt=3")).await, usize::MAX).await;
        assert_eq!(only.last().map(|event| event.0.as_str()), Some("end"), "{only:?}");
        assert_eq!(only.len(), 3);
    })
    .await;
}

#[tokio::test]
async fn following_leaves_no_attempt_out() {
    with_stage(async |stage| {
        stage.commit(&sample::cluster()).await;
        let next = |cid, attempt| {
            let mut row = sample::container(cid, RUNNING, 100, &[]);
            row.replica.attempt = attempt;
            (row.status, row.exit_code, row.exited_at) = (AttemptStatus::Exited, Some(1), Some(at_ms(100)));
            row
        };
        end_attempt(stage, exited(), None).await;
        let rows = Rows { new_containers: vec![next(201, 4), next(202, 5)], ..Rows::default() };
        stage.commit(&rows).await;
        stage.device(DEVICE, device).await;
        let request =
            |request: reqwest::RequestBuilder| request.bearer_auth(ADMIN).header("last-event-id", "3:8");
        let following = stage.send(Method::GET, &path(RUNNING, "follow=true"), request).await;
        let found = events(following, usize::MAX).await;
        let attempts: Vec<&Value> = found.iter().map(|(_, data)| &data["attempt"]).collect();
        assert_eq!(attempts, [&json!(3), &json!(4), &json!(5), &Value::Null], "{found:?}");
    })
    .await;
}

#[tokio::test]
async fn following_waits_for_a_job_that_was_not_placed() {
    with_stage(async |stage| {
        stage.commit(&sample::cluster()).await;
        let following = follow(stage, &path(2, "follow=true")).await;
        let life = Life {
            attempt: 0,
            scheduled_at: None,
            started_at: None,
            outcome: Some(Outcome::Killed),
            ..sample::life(Status::Exited)
        };
        stage.commit(&Rows { jobs: vec![JobRow { life, ..sample::job(2) }], ..Rows::default() }).await;
        assert_eq!(events(following, usize::MAX).await, [("end".into(), json!({}))]);
    })
    .await;
}

#[tokio::test]
async fn a_stop_of_the_server_ends_what_would_never_end() {
    with_stage(async |stage| {
        stage.commit(&sample::cluster()).await;
        let following = follow(stage, &path(2, "follow=true")).await;
        stage.stop.cancel();
        assert_eq!(events(following, usize::MAX).await, [], "no end: a reader shall come again");
    })
    .await;
}
