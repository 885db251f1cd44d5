//! `berth simulate --snapshot`: when what waits now would start, and when with more hosts.
//!
//! Asks the scheduler what there is, and changes nothing there.

use berth_common::job::JobView;
use berth_policy::Time;
use berth_policy::device::Inventory;
use berth_simulate::snapshot::{Played, play};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::added::{self, Added};
use super::present::{self, LeftOut, Playable, Told};
use crate::client::{Client, Query};
use crate::duration;
use crate::failure::Failure;
use crate::output;
use crate::read;
use crate::request_error::RequestError;
use crate::resolve;
use crate::table::{Entry, Table};

/// What `--json` prints; times are seconds from `at` on. The fields and their names are a promise to scripts.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    #[serde(with = "berth_common::time")]
    at: Timestamp,
    /// Whether everybody's jobs were looked at.
    complete: bool,
    left_out: LeftOut,
    /// The cluster as it is, and with what was asked for by `--add`.
    clusters: Vec<Outlook>,
    /// In the order of their starts as the cluster is.
    jobs: Vec<Line<'a>>,
}

#[derive(Debug, Serialize)]
struct Outlook {
    cluster: String,
    waiting: usize,
    never_start: usize,
    /// From the submission, of those that start.
    wait_avg: f64,
    wait_max: f64,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    #[serde(skip)]
    view: &'a JobView,
    id: String,
    name: &'a str,
    owner: &'a str,
    queue: &'a str,
    gpus: u64,
    waits: f64,
    /// By cluster; null: never.
    starts_in: Vec<Option<f64>>,
}

/// # Errors
/// As the scheduler refuses, or when the policy's books do not add up.
pub async fn snapshot(client: &Client, add: &[Added], json: bool) -> Result<u8, Failure> {
    let told = ask(client).await?;
    let playable = present::read(&told);
    let mut plays = vec![("as it is".to_owned(), play(&playable.present, &[]))];
    if !add.is_empty() {
        let inventories: Vec<&Inventory> = playable.present.devices.iter().map(|of| &of.inventory).collect();
        let more = play(&playable.present, &added::hosts(add, &inventories));
        plays.push((format!("with {} more", names(add)), more));
    }
    let answer = answer(&told, &playable, &plays);
    if json {
        output::print_json(&answer)?;
    } else {
        tell(&told, &playable);
        output::print(&format!("{}\n\n{}", jobs(&answer), outlooks(&answer)))?;
    }
    match plays.iter().flat_map(|(_, played)| &played.violations).next() {
        None => Ok(0),
        Some(found) => Err(Failure::Unmet(format!("the policy's books do not add up: {found}"))),
    }
}

fn names(add: &[Added]) -> String {
    add.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

async fn ask(client: &Client) -> Result<Told, Failure> {
    let statuses = ["unapproved", "pending", "scheduled", "running"];
    let query: Query = statuses.iter().map(|status| ("status", (*status).to_owned())).collect();
    let (jobs, _) = read::pages(client, &["v1", "jobs"], &query, None).await?;
    let mut jobs: Vec<JobView> = of(client, jobs)?;
    jobs.sort_by_key(|job| (job.submitted_at, job.id));
    Ok(Told {
        now: Timestamp::now(),
        devices: of(client, read::all(client, &["v1", "devices"]).await?)?,
        queues: of(client, read::all(client, &["v1", "queues"]).await?)?,
        jobs,
        complete: is_admin(client).await?,
    })
}

fn of<T: DeserializeOwned>(client: &Client, items: Vec<Value>) -> Result<Vec<T>, Failure> {
    let items = items.into_iter().map(serde_json::from_value).collect::<Result<Vec<T>, _>>();
    Ok(items.map_err(|error| client.nonsense(&error.to_string()))?)
}

/// Only admins see everybody's jobs, and only they may list users.
async fn is_admin(client: &Client) -> Result<bool, Failure> {
    match read::one(client, &["v1", "users"], &vec![("limit", "1".to_owned())]).await {
        Ok(_) => Ok(true),
        Err(RequestError::Refused { problem, .. }) if problem.status == 403 => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What a person should know before believing the table.
fn tell(told: &Told, playable: &Playable<'_>) {
    output::say("berth: jobs are taken to run to their limits, and nothing new to come");
    let LeftOut { held, unapproved, dependent } = playable.left_out;
    if held + unapproved + dependent > 0 {
        output::say(&format!(
            "berth: left out: {held} held, {unapproved} unapproved, {dependent} that come after one of those"
        ));
    }
    if !told.complete {
        output::say(&format!(
            "berth: you see your own jobs only: {} GPUs of others count as busy for ever, and what else waits is not \
             known; an admin sees all",
            playable.unseen_gpus
        ));
    }
}

fn answer<'a>(told: &Told, playable: &Playable<'a>, plays: &[(String, Played)]) -> Answer<'a> {
    let now = present::ms(told.now);
    let start = |place: usize, played: &Played| played.starts.get(place).copied().flatten();
    let mut lines: Vec<(Option<Time>, Line<'_>)> = Vec::new();
    for (place, view) in &playable.waiting {
        let starts = plays.iter().map(|(_, played)| start(*place, played));
        let line = Line {
            view,
            id: view.id.to_string(),
            name: &view.name,
            owner: &view.owner,
            queue: &view.queue,
            gpus: view.spec.gpus(),
            waits: seconds(now - present::ms(view.submitted_at)),
            starts_in: starts.map(|start| Some(seconds(start? - now))).collect(),
        };
        lines.push((start(*place, &plays[0].1), line));
    }
    lines.sort_by_key(|(start, line)| (start.unwrap_or(Time::MAX), line.view.submitted_at, line.view.id));
    let jobs: Vec<Line<'_>> = lines.into_iter().map(|(_, line)| line).collect();
    let clusters = plays.iter().enumerate().map(|(place, (name, _))| outlook(name, place, &jobs)).collect();
    Answer { at: told.now, complete: told.complete, left_out: playable.left_out, clusters, jobs }
}

fn outlook(cluster: &str, place: usize, jobs: &[Line<'_>]) -> Outlook {
    let waits: Vec<f64> = jobs.iter().filter_map(|job| Some(job.waits + job.starts_in[place]?)).collect();
    Outlook {
        cluster: cluster.to_owned(),
        waiting: jobs.len(),
        never_start: jobs.len() - waits.len(),
        wait_avg: waits.iter().sum::<f64>() / waits.len().max(1) as f64,
        wait_max: waits.iter().copied().fold(0.0, f64::max),
    }
}

fn seconds(time: Time) -> f64 {
    berth_simulate::seconds(time.max(0))
}

fn jobs(answer: &Answer<'_>) -> Table {
    let ids: Vec<_> = answer.jobs.iter().map(|job| job.view.id).collect();
    let length = resolve::shown_length(&ids);
    let mut headings = vec!["ID", "NAME", "OWNER", "QUEUE", "GPUS", "WAITS SINCE", "STARTS IN"];
    headings.extend(answer.clusters.get(1).map(|_| "WITH MORE"));
    let mut table = Table::new(&headings).numbers(&(4..headings.len()).collect::<Vec<_>>());
    for job in &answer.jobs {
        let mut row: Vec<Entry> = vec![
            resolve::short(job.view.id, length).into(),
            job.name.into(),
            job.owner.into(),
            job.queue.into(),
            job.gpus.to_string().into(),
            time(job.waits).into(),
        ];
        row.extend(job.starts_in.iter().map(|start| Entry::from(start.map_or("never".to_owned(), time))));
        table.row(row);
    }
    table
}

fn outlooks(answer: &Answer<'_>) -> Table {
    let headings = ["CLUSTER", "WAITING", "AVERAGE WAIT", "LONGEST WAIT", "NEVER START"];
    let mut table = Table::new(&headings).numbers(&[1, 2, 3, 4]);
    for of in &answer.clusters {
        table.row(vec![
            (&of.cluster).into(),
            of.waiting.to_string().into(),
            time(of.wait_avg).into(),
            time(of.wait_max).into(),
            of.never_start.to_string().into(),
        ]);
    }
    table
}

fn time(seconds: f64) -> String {
    duration::format(seconds.round() as i64)
}
