//! An array's id in the place of a job's: a command for all its jobs, or all of them to be waited for.

use std::collections::BTreeMap;

use berth_common::command::{CommandBody, CommandStatus};
use berth_common::id::JobId;
use berth_common::problem::Problem;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::{Client, Query};
use crate::command::{self, Told};
use crate::deliver;
use crate::failure::{Failure, REQUEST_FAILED};
use crate::output::escape;
use crate::read;

#[derive(Deserialize)]
struct Bulk {
    items: Vec<Value>,
}

#[derive(Deserialize)]
struct Item {
    job: JobId,
    command: Option<Given>,
    error: Option<Problem>,
}

#[derive(Deserialize)]
struct Element {
    id: JobId,
    array_index: Option<u32>,
}

/// A command, or that it was accepted.
#[derive(Deserialize)]
struct Given {
    status: String,
}

/// Whether there is an array of this id.
///
/// # Errors
/// When the request fails.
pub async fn exists(client: &Client, id: Uuid) -> Result<bool, Failure> {
    Ok(!elements(client, id, Some(1)).await?.is_empty())
}

/// The jobs of an array, first one first; none: there is no such array.
///
/// # Errors
/// When the request fails.
pub async fn jobs(client: &Client, array: Uuid) -> Result<Vec<JobId>, Failure> {
    let mut elements = elements(client, array, None).await?;
    elements.sort_unstable_by_key(|job| job.array_index);
    Ok(elements.iter().map(|job| job.id).collect())
}

async fn elements(client: &Client, array: Uuid, limit: Option<u32>) -> Result<Vec<Element>, Failure> {
    let query: Query = vec![("array", array.to_string())];
    let (items, _) = read::pages(client, &["v1", "jobs"], &query, limit).await?;
    let elements = items.into_iter().map(serde_json::from_value).collect::<Result<_, _>>();
    elements.map_err(|error| client.nonsense(&error.to_string()).into())
}

/// Gives the command to all jobs of an array that it is for.
///
/// # Errors
/// When the request fails; what becomes of a single job is told.
pub async fn command(client: &Client, array: Uuid, body: &CommandBody) -> Result<Told, Failure> {
    let mut request = json!(body);
    request["array"] = json!(array);
    let delivered = deliver::deliver(client, &["v1", "commands"], &request, &deliver::random_key()).await?;
    let items = delivered.answer().read::<Bulk>()?.items;
    let read = items.iter().map(Item::deserialize).collect::<Result<Vec<_>, _>>();
    let read = read.map_err(|error| client.nonsense(&error.to_string()))?;
    let error =
        |item: &Item| item.error.as_ref().map(|e| format!("berth: {}: {}", item.job, escape(&e.detail)));
    let errors: Vec<String> = read.iter().filter_map(error).collect();
    let line = Some(format!("{array} {}: {}", body.command, summary(&read)));
    let code = if errors.is_empty() { 0 } else { REQUEST_FAILED };
    Ok(Told { line, errors, items, code })
}

/// `3 done, 97 under way`.
fn summary(items: &[Item]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for item in items {
        let how = match &item.command {
            Some(given) => given.status.parse::<CommandStatus>().map_or("accepted", command::word),
            None => "refused",
        };
        *counts.entry(how).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(how, n)| format!("{n} {how}")).collect();
    if counts.is_empty() { "none of its jobs needs it".to_owned() } else { counts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_an_arrays_jobs_are_counted() {
        let item = |value: Value| serde_json::from_value::<Item>(value).expect("an item");
        let of = |status: &str| item(json!({"job": Uuid::nil(), "command": {"status": status}}));
        let refused = item(json!({"job": Uuid::nil(), "error": Problem::new(409, "no")}));
        let items = [of("done"), of("pending"), of("done"), refused, of("accepted")];
        assert_eq!(summary(&items), "1 accepted, 2 done, 1 refused, 1 under way");
        assert_eq!(summary(&[]), "none of its jobs needs it");
    }
}
