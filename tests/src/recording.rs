//! What Docker was seen doing with Berth's containers, from the start of a test to its end.
//!
//! Docker's events say when a container began and ended, but dockerd keeps the newest 256 only and
//! forgets all of them when it dies. So after every (re)connect the containers are listed and
//! inspected too: what began or ended in between stands there. Nothing is judged here.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Before trying again a daemon that does not answer: it is back within a second.
const AGAIN: Duration = Duration::from_millis(100);
/// The events that dockerd still has; 0 would mean: none.
const FROM_THE_BEGINNING: &str = "1";

/// A container's labels: what it is a try of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica {
    pub job: String,
    pub attempt: u32,
    pub replica: u32,
}

/// One thing that was seen. Times are those of the one clock of this machine, in nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    Event {
        id: String,
        replica: Replica,
        action: String,
        at: i64,
    },
    /// A container as it was inspected. `ended` is absent while it runs and when it never began.
    Inspected {
        id: String,
        replica: Replica,
        began: Option<i64>,
        ended: Option<i64>,
    },
    /// All containers of Berth that Docker had after `since`: what is not in it was gone by then.
    Listed {
        since: i64,
        ids: Vec<String>,
    },
}

type Seen = Arc<Mutex<Vec<Sighting>>>;

pub struct Recording {
    docker_host: String,
    seen: Seen,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Recording {
    #[must_use]
    pub fn start(docker_host: &str) -> Self {
        let (seen, stop) = (Seen::default(), CancellationToken::new());
        let task = tokio::spawn(record(docker_host.to_owned(), Arc::clone(&seen), stop.clone()));
        Self { docker_host: docker_host.to_owned(), seen, stop, task }
    }

    /// Looks once more and ends. Docker must answer.
    ///
    /// # Panics
    /// When Docker does not answer.
    pub async fn finish(self) -> Vec<Sighting> {
        list(&self.docker_host, &self.seen).await.expect("Docker answers in the end");
        self.stop.cancel();
        self.task.await.expect("the recording does not panic");
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The events come first and the list while they come: what is made between the two is among the
/// events that dockerd still has.
async fn record(docker_host: String, seen: Seen, stop: CancellationToken) {
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = async { tokio::join!(follow(&docker_host, &seen), list_until_told(&docker_host, &seen)); } => {}
        }
        stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
    }
}

/// Until dockerd goes away.
async fn follow(docker_host: &str, seen: &Seen) {
    let mut command = docker(docker_host);
    command.args(["events", "--since", FROM_THE_BEGINNING, "--filter", "type=container"]);
    command.args(["--filter", "label=berth.job", "--format", "{{json .}}"]);
    command.stdout(Stdio::piped());
    let mut child = command.spawn().expect("docker's command is installed");
    let stdout = child.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(event) = serde_json::from_str(&line).ok().as_ref().and_then(event) {
            note(seen, event);
        }
    }
    // Why it ended is dockerd's affair; what was missed is found by the next list.
    let _ = child.wait().await;
}

async fn list_until_told(docker_host: &str, seen: &Seen) {
    // A dockerd that does not answer has no events either: both are tried again.
    let _ = list(docker_host, seen).await;
}

/// `None`: Docker did not answer, and nothing is known.
async fn list(docker_host: &str, seen: &Seen) -> Option<()> {
    let since = i64::try_from(Timestamp::now().as_nanosecond()).expect("before 2262");
    let ids =
        output(docker(docker_host).args(["ps", "-aq", "--no-trunc", "--filter", "label=berth.job"])).await?;
    let ids: Vec<String> = ids.lines().map(str::to_owned).collect();
    note(seen, Sighting::Listed { since, ids: ids.clone() });
    if !ids.is_empty() {
        // One that is removed in this moment is an error, and the others are told all the same.
        let mut inspect = docker(docker_host);
        let inspect = inspect.args(["container", "inspect", "--format", "{{json .}}"]).args(&ids);
        let told = inspect.output().await.ok()?;
        for line in String::from_utf8_lossy(&told.stdout).lines() {
            if let Some(inspected) = serde_json::from_str(line).ok().as_ref().and_then(inspected) {
                note(seen, inspected);
            }
        }
    }
    Some(())
}

fn event(event: &Value) -> Option<Sighting> {
    Some(Sighting::Event {
        id: event["Actor"]["ID"].as_str()?.to_owned(),
        replica: replica(&event["Actor"]["Attributes"])?,
        action: event["Action"].as_str()?.to_owned(),
        at: event["timeNano"].as_i64()?,
    })
}

fn inspected(container: &Value) -> Option<Sighting> {
    let state = &container["State"];
    let running = state["Running"].as_bool()?;
    Some(Sighting::Inspected {
        id: container["Id"].as_str()?.to_owned(),
        replica: replica(&container["Config"]["Labels"])?,
        began: time(&state["StartedAt"]),
        ended: time(&state["FinishedAt"]).filter(|_| !running),
    })
}

/// Docker writes the year 1 for never.
fn time(text: &Value) -> Option<i64> {
    let at: Timestamp = text.as_str()?.parse().ok()?;
    i64::try_from(at.as_nanosecond()).ok().filter(|at| *at > 0)
}

fn replica(labels: &Value) -> Option<Replica> {
    let number = |name: &str| labels[name].as_str()?.parse().ok();
    Some(Replica {
        job: labels["berth.job"].as_str()?.to_owned(),
        attempt: number("berth.attempt")?,
        replica: number("berth.replica")?,
    })
}

fn note(seen: &Seen, sighting: Sighting) {
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(sighting);
}

fn docker(docker_host: &str) -> Command {
    let mut command = Command::new("docker");
    command.env("DOCKER_HOST", docker_host).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

async fn output(command: &mut Command) -> Option<String> {
    let output = command.output().await.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn docker_is_read_as_it_writes() {
        let labels = json!({"berth.job": "j", "berth.attempt": "2", "berth.replica": "0", "image": "x"});
        let replica = Replica { job: "j".into(), attempt: 2, replica: 0 };
        let said = json!({"Action": "start", "timeNano": 5, "Actor": {"ID": "a", "Attributes": labels}});
        let seen =
            Sighting::Event { id: "a".into(), replica: replica.clone(), action: "start".into(), at: 5 };
        assert_eq!(event(&said), Some(seen));
        let state = json!({"Running": false, "StartedAt": "1970-01-01T00:00:00.000000007Z", "FinishedAt": "0001-01-01T00:00:00Z"});
        let said = json!({"Id": "a", "Config": {"Labels": labels}, "State": state});
        assert_eq!(
            inspected(&said),
            Some(Sighting::Inspected { id: "a".into(), replica, began: Some(7), ended: None })
        );
    }
}
