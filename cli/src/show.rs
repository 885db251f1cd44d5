//! `berth show`: everything about one job.

use berth_common::job::{AttemptView, GpuView, JobView};
use jiff::Timestamp;

use crate::args::JobArgs;
use crate::client::{Client, Query};
use crate::duration;
use crate::failure::Failure;
use crate::list;
use crate::outcome;
use crate::output::{self, escape};
use crate::read;
use crate::resolve;
use crate::size;
use crate::table::Table;

/// # Errors
/// No such job.
pub async fn show(client: &Client, args: &JobArgs, json: bool) -> Result<u8, Failure> {
    let id = resolve::resolve(client, &args.job).await?.to_string();
    let answer = read::one(client, &["v1", "jobs", &id], &Query::new()).await?;
    let text = if json { answer.text } else { describe(&answer.read()?, Timestamp::now()) };
    output::print(&text)?;
    Ok(0)
}

fn describe(job: &JobView, now: Timestamp) -> String {
    let mut lines = Lines(String::new());
    lines.add("job", &job.id.to_string());
    lines.add("name", &job.name);
    lines.add("owner", &job.owner);
    lines.add("queue", &format!("{}, priority {}", job.queue, job.priority));
    lines.add("status", &outcome::status(job));
    lines.add_some("reason", job.reason.as_ref().map(|reason| reason.text.clone()));
    lines.add_some("position", job.position.map(|position| position.to_string()));
    lines.add_some("starts by", job.start_by.map(time));
    lines.add_some("exit code", job.exit_code.map(|code| code.to_string()));
    lines.add_some("error", job.error.clone());
    lines.add("image", &job.spec.image);
    lines.add_some("command", (!job.spec.command.is_empty()).then(|| command_line(&job.spec.command)));
    lines.add("asks for", &asked(job));
    lines.add_some("device", job.device.clone());
    lines.add_some("gpus", (!job.gpus.is_empty()).then(|| gpus(&job.gpus)));
    lines.add_some("array", array(job));
    lines.add_some("labels", (!job.spec.labels.is_empty()).then(|| labels(job)));
    lines.add("submitted", &time(job.submitted_at));
    lines.add_some("scheduled", job.scheduled_at.map(time));
    lines.add_some("started", job.started_at.map(time));
    lines.add_some("exited", job.exited_at.map(time));
    let runtime = list::runtime(job, now);
    lines.add_some("ran", (!runtime.is_empty()).then_some(runtime));
    if job.failures + job.faults > 0 {
        lines.add(
            "endings",
            &format!("{} by its own doing, {} by faults of the cluster", job.failures, job.faults),
        );
    }
    if !job.attempts.is_empty() {
        lines.0.push_str(&format!("\n{}\n", attempts(&job.attempts, now)));
    }
    lines.0
}

struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        self.0.push_str(&format!("{name:<10} {}\n", escape(value)));
    }

    fn add_some(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.add(name, &value);
        }
    }
}

fn asked(job: &JobView) -> String {
    let resources = &job.spec.resources;
    let kinds = if resources.gpu_type.is_empty() {
        String::new()
    } else {
        format!(" ({})", resources.gpu_type.join(" or "))
    };
    let mut text = format!("{} GPUs{kinds}", resources.gpus);
    #[allow(clippy::cast_precision_loss)] // thousandths of at most some thousand CPUs
    let cpus = resources.cpus.milli as f64 / 1000.0;
    let memory = size::format_mb(i64::try_from(resources.memory_mb).unwrap_or(i64::MAX));
    text.push_str(&format!(", {cpus} CPUs, {memory}"));
    if job.spec.replicas > 1 {
        text.push_str(&format!(", in each of {} replicas", job.spec.replicas));
    }
    if let Some(limit) = job.spec.timeout_s {
        text.push_str(&format!(
            ", for at most {}",
            duration::format(i64::try_from(limit).unwrap_or(i64::MAX))
        ));
    }
    text
}

/// Quoted where a shell would need it, so that it can be copied.
fn command_line(argv: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    let quote = |argument: &String| {
        if !argument.is_empty() && argument.chars().all(plain) {
            argument.clone()
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    };
    argv.iter().map(quote).collect::<Vec<_>>().join(" ")
}

fn array(job: &JobView) -> Option<String> {
    let index = job.array_index.map(|index| format!(", index {index}")).unwrap_or_default();
    job.array.map(|array| format!("{array}{index}"))
}

fn labels(job: &JobView) -> String {
    job.spec.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

fn gpus(gpus: &[GpuView]) -> String {
    gpus.iter().map(|gpu| format!("{} ({})", gpu.id, gpu.kind)).collect::<Vec<_>>().join(", ")
}

fn time(time: Timestamp) -> String {
    format!("{time:.0}")
}

fn attempts(attempts: &[AttemptView], now: Timestamp) -> Table {
    let headings =
        ["ATTEMPT", "REPLICA", "DEVICE", "STATUS", "EXIT", "STARTED", "RAN", "GPUS", "PORTS", "ERROR"];
    let mut table = Table::new(&headings).numbers(&[0, 1, 4]);
    for attempt in attempts {
        let ran =
            attempt.started_at.map(|started| duration::between(started, attempt.exited_at.unwrap_or(now)));
        let ports: Vec<String> = attempt.ports.iter().map(|(name, port)| format!("{name}={port}")).collect();
        let error = match (&attempt.error, attempt.oom) {
            (Some(error), _) => error.clone(),
            (None, true) => "out of memory".into(),
            (None, false) => String::new(),
        };
        table.row(vec![
            attempt.attempt.to_string().into(),
            attempt.replica.to_string().into(),
            (&attempt.device).into(),
            attempt.status.as_str().into(),
            attempt.exit_code.map(|code| code.to_string()).unwrap_or_default().into(),
            attempt.started_at.map(time).unwrap_or_default().into(),
            ran.unwrap_or_default().into(),
            gpus(&attempt.gpus).into(),
            ports.join(",").into(),
            error.into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_is_told_with_its_attempts() {
        let mut job =
            crate::tests::job_json("0192abcd-1234-7000-8000-000000000001", "exited", Some("failed"));
        job["exit_code"] = json!(3);
        job["error"] = json!("no\x1b[2J file");
        job["spec"] = json!({"image": "i", "command": ["sh", "-c", "echo it's"], "resources": {"gpus": 1, "gpu_type": ["T4"]}});
        job["attempts"] = json!([{
            "attempt": 1, "replica": 0, "device": "dev-1", "session": 1, "status": "exited",
            "gpus": [{"id": 7, "type": "T4"}], "ports": {"ssh": 32768}, "exit_code": 3, "oom": true, "error": null,
            "scheduled_at": "2027-01-01T00:00:01Z", "started_at": "2027-01-01T00:00:10Z", "exited_at": "2027-01-01T00:01:40Z",
        }]);
        let text = describe(&serde_json::from_value(job).expect("a job"), Timestamp::UNIX_EPOCH);
        for part in [
            "status     exited/failed\n",
            "exit code  3\n",
            "error      no\\u{1b}[2J file\n",
            r"command    sh -c 'echo it'\''s'",
            "asks for   1 GPUs (T4), 1 CPUs, 1 GB\n",
            "started    2027-01-01T00:00:10Z\n",
            "7 (T4)  ssh=32768  out of memory",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }
}
