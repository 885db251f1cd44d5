//! Queues: where jobs wait, and by which rules.

use std::collections::BTreeMap;

use berth_common::queue::Queue;
use tokio_postgres::Row;

use super::{ReadError, Session, count, get, json};

pub const STATEMENTS: &[(&str, &str)] = &[("LIST", LIST), ("FIND", FIND)];

macro_rules! select_queues {
    ($condition:literal) => {
        concat!(
            "SELECT q.name, q.weight, q.policy, q.placement, q.quota, q.user_quota, q.default_timeout_s, \
             q.max_timeout_s, q.max_jobs, q.approval FROM core.queues AS q ",
            $condition
        )
    };
}

const LIST: &str = select_queues!("ORDER BY q.name");
const FIND: &str = select_queues!("WHERE q.name = $1");

/// All queues by name: an installation has a few dozen.
///
/// # Errors
/// See [`ReadError`].
pub async fn list(db: &Session) -> Result<Vec<Queue>, ReadError> {
    db.rows(LIST, &[]).await?.iter().map(view).collect()
}

/// The queue of this name.
///
/// # Errors
/// See [`ReadError`].
pub async fn find(db: &Session, name: &str) -> Result<Option<Queue>, ReadError> {
    db.row(FIND, &[&name]).await?.map(|row| view(&row)).transpose()
}

fn view(row: &Row) -> Result<Queue, ReadError> {
    Ok(Queue {
        name: get(row, "name")?,
        weight: count(row, "weight")?,
        policy: get(row, "policy")?,
        placement: get(row, "placement")?,
        quota: quota(row, "quota")?,
        user_quota: quota(row, "user_quota")?,
        default_timeout_s: large_count(row, "default_timeout_s")?,
        max_timeout_s: large_count(row, "max_timeout_s")?,
        max_jobs: large_count(row, "max_jobs")?,
        approval: get(row, "approval")?,
        members: Vec::new(),
    })
}

/// NULL: no limit.
fn quota(row: &Row, name: &str) -> Result<BTreeMap<String, u32>, ReadError> {
    Ok(get::<Option<&str>>(row, name)?.map(|text| json(name, text)).transpose()?.unwrap_or_default())
}

/// A BIGINT that is never negative, where there is one.
fn large_count(row: &Row, name: &str) -> Result<Option<u64>, ReadError> {
    let Some(value) = get::<Option<i64>>(row, name)? else { return Ok(None) };
    u64::try_from(value).map(Some).map_err(|_| ReadError::Unreadable(format!("column {name}: {value}")))
}
