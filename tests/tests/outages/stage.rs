//! A Berth behind wires that can be cut, and the questions that every story asks.

use std::process::Command;
use std::time::Duration;

use berth_tests::berth::{Berth, Site};
use berth_tests::proxy::Proxy;
use berth_tests::setting;
use berth_tests::until::until;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Programs notice within it that something is away, or back: two heartbeats of AMQP, and a pause of
/// ten seconds before the next try.
pub const NOTICED: Duration = Duration::from_secs(40);

/// Runs until the file is there that [`tell`] makes.
pub const UNTIL_TOLD: &str = "echo begun; while [ ! -e /data/go ]; do sleep 0.1; done; echo over";

/// Lets the jobs end that wait for it.
pub fn tell(berth: &Berth) {
    let data = berth.folder.join(&berth.workers[0].device).join("data/admin");
    std::fs::write(data.join("go"), "").expect("the job's data folder");
}

/// A Berth with one worker whose programs reach broker and database by wires.
pub struct Wired {
    pub berth: Berth,
    pub broker: Proxy,
    pub database: Proxy,
}

impl Wired {
    pub async fn start() -> Self {
        let site = Site::default();
        let broker = Proxy::to_server_of(&site.amqp).await;
        let database = Proxy::to_server_of(&site.database).await;
        let site = Site { broker_port: Some(broker.port), database_port: Some(database.port), ..site };
        let mut berth = Berth::start_at(site).await;
        berth.add_worker("1xT4", &[]).await;
        Self { berth, broker, database }
    }
}

/// An answer, with the headers that matter here.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub retry_after: Option<String>,
    pub location: Option<String>,
    pub body: Value,
}

/// Submits a job of that name which does nothing, under an idempotency key that follows from the name.
pub async fn submit(berth: &Berth, name: &str) -> Answer {
    let spec = json!({"image": setting("BERTH_TEST_IMAGE"), "command": ["true"], "name": name,
        "resources": {"cpus": 0.25, "memory_mb": 64}});
    // Equal keys are equal jobs, and containers: those of two tests would meet on one Docker.
    let key = format!("{name}@{}", berth.workers[0].device);
    ask(berth.as_admin(Method::POST, "/v1/jobs").header("idempotency-key", key).json(&spec)).await
}

pub async fn ask(request: reqwest::RequestBuilder) -> Answer {
    let answer = request.send().await.expect("the scheduler answers, whatever is away");
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (status, retry_after, location) = (answer.status(), header("retry-after"), header("location"));
    let text = answer.text().await.unwrap_or_default();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, retry_after, location, body }
}

/// Submits until it is taken; the job's id. An attempt that got no clear answer may have stored it: then the next is
/// answered with 200 instead of 201.
pub async fn submit_until(berth: &Berth, name: &str) -> String {
    until(NOTICED, "a submission is taken", async || {
        let answer = submit(berth, name).await;
        let id = answer.body["id"].as_str().map(str::to_owned);
        if matches!(answer.status, StatusCode::OK | StatusCode::CREATED) {
            Ok(id.expect("a job has an id"))
        } else {
            Err((answer, berth.logs()))
        }
    })
    .await
}

/// Refused for now, and with a word about when to come again.
pub fn assert_away(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:#?}");
    assert!(answer.retry_after.is_some(), "{answer:#?}");
    assert!(answer.body["detail"].is_string(), "{answer:#?}");
}

/// Waits until `/readyz` misses this part; what it says about it.
pub async fn missing(berth: &Berth, part: &str) -> Value {
    until(NOTICED, &format!("/readyz misses {part}"), async || {
        let (status, report) = berth.get("/readyz").await;
        let found = report["missing"].as_array().into_iter().flatten();
        let mut found = found.filter(|missing| missing["part"].as_str().is_some_and(|p| p.starts_with(part)));
        match found.next().cloned() {
            Some(found) if status == StatusCode::SERVICE_UNAVAILABLE => Ok(found),
            _ => Err((status, report)),
        }
    })
    .await
}

/// How many jobs have this name.
pub async fn count(berth: &Berth, name: &str) -> usize {
    let (status, list) = berth.get(&format!("/v1/jobs?q={name}")).await;
    assert_eq!(status, StatusCode::OK, "{list:#}");
    list["items"].as_array().expect("a list").len()
}

/// Waits until the job's container runs no more, by Docker's own word.
pub async fn container_ends(job: &str) {
    until(NOTICED, "the container has ended", async || {
        let running = running(job);
        if running.is_empty() { Ok(()) } else { Err(running) }
    })
    .await;
}

/// The containers of the job that run.
pub fn running(job: &str) -> Vec<String> {
    let filter = format!("label=berth.job={job}");
    let output = Command::new("docker").args(["ps", "-q", "--no-trunc", "--filter", &filter]).output();
    let output = output.expect("docker answers");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// No program has ended, and none holds more threads for connections than it can have.
pub fn assert_programs_live(berth: &mut Berth) {
    let logs = berth.logs();
    let all = berth.schedulers.iter_mut().chain(berth.workers.iter_mut().map(|worker| &mut worker.process));
    for process in all {
        assert_eq!(process.ended(), None, "{logs}");
        let threads = io_threads(process.pid());
        assert!(threads <= MOST_CONNECTIONS, "{threads} threads for connections\n{logs}");
    }
}

/// A scheduler has four connections, and one for a moment when it declares a device.
const MOST_CONNECTIONS: usize = 5;

/// Threads that serve a connection to the broker.
fn io_threads(pid: u32) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    };
    tasks.filter_map(name).filter(|name| name.starts_with("lapin")).count()
}
