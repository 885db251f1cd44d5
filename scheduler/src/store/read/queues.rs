//! Queues: where jobs wait, and by which rules.

use std::collections::{BTreeMap, BTreeSet};

use berth_common::queue::{Member, Queue};
use tokio_postgres::Row;

use super::{ReadError, Session, count, get, json, word, word_opt};

pub const STATEMENTS: &[(&str, &str)] =
    &[("LIST", LIST), ("FIND", FIND), ("MEMBERS", MEMBERS), ("GOVERNED", GOVERNED)];

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
const MEMBERS: &str = "SELECT m.queue, u.name, m.role FROM core.queue_members AS m \
    JOIN core.users AS u ON u.uid = m.uid WHERE m.queue = ANY($1::TEXT[])";
const GOVERNED: &str = "SELECT m.queue FROM core.queue_members AS m JOIN core.users AS u ON u.uid = m.uid \
    WHERE u.name = $1 AND m.role = 'admin'";

/// All queues by name: an installation has a few dozen.
///
/// # Errors
/// See [`ReadError`].
pub async fn list(db: &Session) -> Result<Vec<Queue>, ReadError> {
    with_members(db, &db.rows(LIST, &[]).await?).await
}

/// The queue of this name.
///
/// # Errors
/// See [`ReadError`].
pub async fn find(db: &Session, name: &str) -> Result<Option<Queue>, ReadError> {
    Ok(with_members(db, &db.rows(FIND, &[&name]).await?).await?.pop())
}

/// The queues of which `user` is an admin.
///
/// # Errors
/// See [`ReadError`].
pub async fn governed(db: &Session, user: &str) -> Result<BTreeSet<String>, ReadError> {
    db.rows(GOVERNED, &[&user]).await?.iter().map(|row| get(row, "queue")).collect()
}

async fn with_members(db: &Session, rows: &[Row]) -> Result<Vec<Queue>, ReadError> {
    let mut queues = rows.iter().map(view).collect::<Result<Vec<Queue>, _>>()?;
    let names: Vec<&str> = queues.iter().map(|queue| queue.name.as_str()).collect();
    let mut members: BTreeMap<String, Vec<Member>> = BTreeMap::new();
    for row in db.rows(MEMBERS, &[&names]).await? {
        let member = Member { user: get(&row, "name")?, role: word(&row, "role")? };
        members.entry(get(&row, "queue")?).or_default().push(member);
    }
    for queue in &mut queues {
        queue.members = members.remove(&queue.name).unwrap_or_default();
        queue.members.sort();
    }
    Ok(queues)
}

fn view(row: &Row) -> Result<Queue, ReadError> {
    Ok(Queue {
        name: get(row, "name")?,
        weight: count(row, "weight")?,
        policy: word_opt(row, "policy")?.unwrap_or_default(),
        placement: word_opt(row, "placement")?.unwrap_or_default(),
        quota: quota(row, "quota")?,
        user_quota: quota(row, "user_quota")?,
        default_timeout_s: large_count(row, "default_timeout_s")?,
        max_timeout_s: large_count(row, "max_timeout_s")?,
        max_jobs: large_count(row, "max_jobs")?,
        approval: get(row, "approval")?,
        members: Vec::new(),
    })
}

/// NULL: no cap.
fn quota(row: &Row, name: &str) -> Result<BTreeMap<String, u32>, ReadError> {
    Ok(get::<Option<&str>>(row, name)?.map(|text| json(name, text)).transpose()?.unwrap_or_default())
}

/// A BIGINT that is never negative, where there is one.
fn large_count(row: &Row, name: &str) -> Result<Option<u64>, ReadError> {
    let Some(value) = get::<Option<i64>>(row, name)? else { return Ok(None) };
    u64::try_from(value).map(Some).map_err(|_| ReadError::Unreadable(format!("column {name}: {value}")))
}
