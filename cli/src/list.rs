//! `berth ls`: jobs as a table.

use berth_common::job::{JobView, Outcome, Status};
use jiff::Timestamp;

use crate::args::ListArgs;
use crate::client::{Client, Query};
use crate::duration;
use crate::failure::Failure;
use crate::outcome;
use crate::output;
use crate::read;
use crate::resolve;
use crate::table::{Entry, Table, Tone};

/// # Errors
/// When the request is refused.
pub async fn list(client: &Client, args: &ListArgs, json: bool) -> Result<u8, Failure> {
    let limit = (!args.all).then_some(args.limit);
    let (items, more) = read::pages(client, &["v1", "jobs"], &filter(args), limit).await?;
    if json {
        output::print_json(&items)?;
        return Ok(0);
    }
    let jobs = items.into_iter().map(serde_json::from_value::<JobView>).collect::<Result<Vec<_>, _>>();
    let jobs = jobs.map_err(|error| client.nonsense(&error.to_string()))?;
    output::print(&table(&jobs, Timestamp::now()).to_string())?;
    if more {
        output::say(&format!("berth: the newest {}; --limit N or --all lists more", jobs.len()));
    }
    Ok(0)
}

fn filter(args: &ListArgs) -> Query {
    let mut query = Query::new();
    query.extend(args.status.iter().map(|status| ("status", status.to_string())));
    query.extend(args.outcome.iter().map(|outcome| ("outcome", outcome.to_string())));
    query.extend(args.owner.clone().map(|owner| ("owner", owner)));
    query.extend(args.queue.clone().map(|queue| ("queue", queue)));
    query.extend(args.device.clone().map(|device| ("device", device)));
    query.extend(args.array.map(|array| ("array", array.to_string())));
    query.extend(args.label.iter().map(|(key, value)| ("label", format!("{key}:{value}"))));
    query
}

fn table(jobs: &[JobView], now: Timestamp) -> Table {
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    let length = resolve::shown_length(&ids);
    let headings = ["ID", "NAME", "OWNER", "QUEUE", "STATUS", "GPUS", "DEVICE", "AGE", "RUNTIME", "REASON"];
    let mut table = Table::new(&headings).numbers(&[5, 7, 8]);
    for job in jobs {
        table.row(vec![
            resolve::short(job.id, length).into(),
            (&job.name).into(),
            (&job.owner).into(),
            (&job.queue).into(),
            Entry::toned(&outcome::status(job), tone(job)),
            (u64::from(job.spec.resources.gpus) * u64::from(job.spec.replicas)).to_string().into(),
            job.device.as_deref().unwrap_or_default().into(),
            duration::between(job.submitted_at, now).into(),
            runtime(job, now).into(),
            why(job).into(),
        ]);
    }
    table
}

/// Why it waits, or what went wrong.
fn why(job: &JobView) -> &str {
    match (&job.reason, &job.error) {
        (Some(reason), _) => &reason.text,
        (None, Some(error)) => error,
        (None, None) => "",
    }
}

/// How long its newest attempt ran or runs.
#[must_use]
pub fn runtime(job: &JobView, now: Timestamp) -> String {
    match (job.status, job.started_at) {
        (Status::Running, Some(started)) => duration::between(started, now),
        (Status::Exited, Some(started)) => duration::between(started, job.exited_at.unwrap_or(now)),
        (Status::Unapproved | Status::Pending | Status::Scheduled, _) | (_, None) => String::new(),
    }
}

#[must_use]
pub fn tone(job: &JobView) -> Option<Tone> {
    match (job.status, job.outcome) {
        (_, Some(Outcome::Succeeded)) | (Status::Running, None) => Some(Tone::Good),
        (_, Some(Outcome::Failed | Outcome::TimedOut | Outcome::Error)) => Some(Tone::Bad),
        (Status::Unapproved | Status::Pending | Status::Scheduled, None) => Some(Tone::Busy),
        (_, Some(Outcome::Killed)) | (Status::Exited, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_a_line() {
        let mut waits = crate::tests::job_json("0192abcd-1234-7000-8000-000000000001", "pending", None);
        waits["reason"] = serde_json::json!({"code": "gpus", "text": "waits for 2 GPUs", "free": 1});
        waits["device"] = serde_json::Value::Null;
        waits["spec"]["resources"] = serde_json::json!({"gpus": 2});
        let ran = crate::tests::job_json("ff92abcd-1234-7000-8000-000000000002", "exited", Some("succeeded"));
        let jobs: Vec<JobView> =
            [waits, ran].into_iter().map(|job| serde_json::from_value(job).expect("a job")).collect();
        let now = "2027-01-01T01:00:00Z".parse().expect("a time");
        assert_eq!(
            table(&jobs, now).to_string(),
            "ID        NAME   OWNER  QUEUE    STATUS            GPUS  DEVICE    AGE  RUNTIME  REASON\n\
             0192abcd  train  ann    default  pending              2  -       1h00m        -  waits for 2 GPUs\n\
             ff92abcd  train  ann    default  exited/succeeded     0  dev-1   1h00m    1m30s  -"
        );
    }
}
