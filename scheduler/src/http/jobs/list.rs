//! The list of jobs.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use berth_common::job::{JobView, Outcome, Status};
use berth_common::problem::Problem;
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::{reasons, visible};
use crate::http::auth::Caller;
use crate::http::page::{Page, Position};
use crate::http::params::{Params, limit};
use crate::http::refusal::Refusal;
use crate::http::served::Served;
use crate::store::read::jobs::{self, Filter};
use crate::store::read::{ReadError, Session};

/// More conditions than anybody types.
const MAX_LABELS: usize = 100;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Repeatable: any of them.
    #[serde(default)]
    status: Vec<Status>,
    /// Repeatable: any of them.
    #[serde(default)]
    outcome: Vec<Outcome>,
    owner: Option<String>,
    queue: Option<String>,
    /// Name of the device of the newest attempt.
    device: Option<String>,
    array: Option<Uuid>,
    /// `key:value`; repeatable: all of them.
    #[serde(default)]
    label: Vec<String>,
    /// Submitted at this time or later.
    since: Option<Timestamp>,
    /// Submitted before this time.
    until: Option<Timestamp>,
    /// The name contains it, in capitals or not.
    q: Option<String>,
    /// How the id begins.
    id_prefix: Option<String>,
    #[param(inline)]
    order: Option<Order>,
    /// 1–1000; 100 where absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// Newest first.
    SubmittedAt,
}

/// Jobs, newest first: the caller's own, for administrators all. Whoever is an admin of queues and names a
/// `queue`, an `array`, an `id_prefix` or an `owner` also gets what these queues have of it.
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs", params(ListParams),
    responses((status = 200, body = Page<JobView>), (status = 422, body = Problem)))]
pub async fn list(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<JobView>>, Refusal> {
    let limit = limit(params.limit)?;
    let before = params.cursor.as_deref().map(Position::from_cursor).transpose()?.unwrap_or(Position::NEWEST);
    let filter = filter(params)?;
    let found = {
        let db = served.reads().session().await?;
        match within_sight(&db, &caller, filter).await? {
            Some(filter) => jobs::page(&db, &filter, (before.at, before.id), i64::from(limit) + 1).await?,
            None => Vec::new(),
        }
    };
    let position = |job: &JobView| Position { at: job.submitted_at, id: job.id }.to_cursor();
    let mut page = Page::cut(found, limit, position);
    reasons::add(served.asker(), &mut page.items).await;
    Ok(Json(page))
}

/// The same filter, less what the caller may not see; none: then nothing is left.
async fn within_sight(db: &Session, caller: &Caller, filter: Filter) -> Result<Option<Filter>, ReadError> {
    let is_other = |owner: &String| *owner != caller.name;
    let asks_for_others = filter.owner.as_ref().is_some_and(is_other);
    let names_something = filter.queue.is_some() || filter.array.is_some() || filter.ids.is_some();
    let sight = match visible::sight(db, caller).await? {
        None => return Ok(Some(filter)),
        Some(sight) => (asks_for_others || names_something).then_some(sight),
    };
    Ok(match sight.filter(|sight| !sight.queues.is_empty()) {
        Some(sight) => Some(Filter { sight: Some(sight), ..filter }),
        None if asks_for_others => None,
        None => Some(Filter { owner: Some(caller.name.clone()), ..filter }),
    })
}

fn filter(params: ListParams) -> Result<Filter, Refusal> {
    match params.order {
        None | Some(Order::SubmittedAt) => {}
    }
    if params.label.len() > MAX_LABELS {
        return Err(Refusal::invalid("/label", format!("at most {MAX_LABELS}")));
    }
    let mut labels = Vec::new();
    for label in &params.label {
        let Some((key, value)) = label.split_once(':') else {
            return Err(Refusal::invalid("/label", format!("{label:?} is not key:value")));
        };
        let label = (key.to_owned(), value.to_owned());
        // Named twice it is one condition.
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    Ok(Filter {
        statuses: params.status,
        outcomes: params.outcome,
        owner: params.owner,
        queue: params.queue,
        device: params.device,
        array: params.array,
        labels,
        since: params.since.map(representable),
        until: params.until.map(representable),
        name_contains: params.q.filter(|q| !q.is_empty()),
        ids: params.id_prefix.as_deref().map(ids).transpose()?,
        sight: None,
    })
}

/// Nothing is older than the epoch, and PostgreSQL knows no years before 4713 BC.
fn representable(time: Timestamp) -> Timestamp {
    time.max(Timestamp::UNIX_EPOCH)
}

/// The first and the last id that begin with `prefix`.
fn ids(prefix: &str) -> Result<(Uuid, Uuid), Refusal> {
    let digits: String = prefix.chars().filter(|&c| c != '-').collect();
    let padded = |fill: &str| {
        let rest = 32usize.checked_sub(digits.len())?;
        Uuid::try_parse(&format!("{digits}{}", fill.repeat(rest))).ok()
    };
    match (padded("0"), padded("f")) {
        (Some(first), Some(last)) => Ok((first, last)),
        _ => Err(Refusal::invalid("/id_prefix", "is not how the id of a job begins")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_range_of_ids() {
        let id: Uuid = "3fa85f64-5717-4562-b3fc-2c963f66afa6".parse().expect("an id");
        for prefix in ["", "3", "3FA8", "3fa85f64-57", "3fa85f64-5717-4562-b3fc-2c963f66afa6"] {
            let (first, last) = ids(prefix).expect("valid");
            assert!(first <= id && id <= last, "{prefix}");
        }
        let (first, last) = ids("3fa9").expect("valid");
        assert!(id < first && first < last);
        for bad in ["x", "3fa85f64-5717-4562-b3fc-2c963f66afa6a", "%"] {
            assert!(ids(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_are_key_and_value() {
        let of = |label: &[&str]| {
            filter(ListParams { label: label.iter().map(|&l| l.to_owned()).collect(), ..Default::default() })
        };
        assert_eq!(of(&["a:b:c", "a:b:c"]).expect("valid").labels, [("a".into(), "b:c".into())]);
        assert!(of(&["ab"]).is_err());
    }
}
