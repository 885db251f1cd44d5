//! `berth wait`: returns when all jobs are over, with the first exit code that is not 0.
//!
//! What must always hold: a server that is away or busy for a while ends no wait.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_common::id::JobId;
use berth_common::job::{JobView, Status};
use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::Instant;

use crate::args::WaitArgs;
use crate::array;
use crate::client::Client;
use crate::command;
use crate::failure::{Failure, REQUEST_FAILED};
use crate::follow;
use crate::outcome;
use crate::output::{self, escape};
use crate::patience::{self, Kind, Patience};
use crate::resolve;

/// Between two looks, growing.
const FIRST_LOOK: Duration = Duration::from_secs(1);
const LONGEST_LOOK: Duration = Duration::from_secs(2);
/// Requests at the same time: quick for hundreds of jobs, no burden for the server.
const AT_ONCE: usize = 8;

/// # Errors
/// No such job.
pub async fn wait(client: &Client, args: &WaitArgs, json: bool) -> Result<u8, Failure> {
    let mut jobs = resolve::resolve_all(client, &args.jobs).await?;
    let mut over = BTreeMap::new();
    let deadline = args.timeout.and_then(|time| Instant::now().checked_add(time));
    let waiting = until_all_over(client, &mut jobs, &mut over, json);
    let in_time = match deadline {
        Some(deadline) => match tokio::time::timeout_at(deadline, waiting).await {
            Ok(done) => done.map(|()| true)?,
            Err(_) => false,
        },
        None => waiting.await.map(|()| true)?,
    };
    if json {
        output::print_json(&jobs.iter().filter_map(|id| over.get(id)).collect::<Vec<_>>())?;
    }
    if !in_time {
        let open: Vec<String> =
            jobs.iter().filter(|id| !over.contains_key(id)).map(ToString::to_string).collect();
        output::say(&format!("berth: not over in time: {}", open.join(", ")));
        return Ok(REQUEST_FAILED);
    }
    Ok(jobs.iter().filter_map(|id| over.get(id)).map(outcome::exit_code).find(|&code| code != 0).unwrap_or(0))
}

async fn until_all_over(
    client: &Client,
    jobs: &mut Vec<JobId>,
    over: &mut BTreeMap<JobId, JobView>,
    json: bool,
) -> Result<(), Failure> {
    let mut pause = FIRST_LOOK;
    let mut patience = Patience::until(None);
    loop {
        let open: Vec<JobId> = jobs.iter().copied().filter(|id| !over.contains_key(id)).collect();
        let look = async |id| (id, follow::look_once(client, id).await);
        let mut seen = stream::iter(open).map(look).buffered(AT_ONCE);
        let mut failed = None;
        while let Some((id, job)) = seen.next().await {
            match job {
                Ok(job) if job.status == Status::Exited => {
                    if !json {
                        output::print(&format!(
                            "{} {}: {}",
                            job.id,
                            escape(&job.name),
                            outcome::ending(&job)
                        ))?;
                    }
                    over.insert(job.id, job);
                }
                Ok(_) => {}
                Err(error) if command::is_missing(&error) => match array::jobs(client, id).await? {
                    elements if elements.is_empty() => return Err(error.into()),
                    elements => put_in_place(jobs, id, elements),
                },
                Err(error) if patience::kind(&error) == Kind::Final => return Err(error.into()),
                Err(error) => failed = Some(error),
            }
        }
        if over.len() == jobs.len() {
            return Ok(());
        }
        match failed {
            Some(error) => patience.pause(error).await?,
            None => {
                patience.restored();
                tokio::time::sleep(pause).await;
                pause = (pause * 3 / 2).min(LONGEST_LOOK);
            }
        }
    }
}

/// The jobs of an array instead of its own id; each job once.
fn put_in_place(jobs: &mut Vec<JobId>, array: JobId, elements: Vec<JobId>) {
    let place = jobs.iter().position(|id| *id == array).unwrap_or(jobs.len());
    let rest = jobs.split_off(place);
    for id in elements.into_iter().chain(rest) {
        if id != array && !jobs.contains(&id) {
            jobs.push(id);
        }
    }
}
