//! Queues and their members: made, changed and deleted by admins. What queues have used: written by
//! the leader for those that are there, and deleted with them.

use std::collections::BTreeSet;

use berth_common::queue::Queue;
use jiff::Timestamp;

use super::Batch;
use crate::core::rows::Rows;
use crate::store::StoreError;
use crate::store::columns::Columns;

pub const STATEMENTS: &[(&str, &str)] = &[
    ("DELETE_MEMBERS", DELETE_MEMBERS),
    ("GUARD_MEMBERS", GUARD_MEMBERS),
    ("INSERT_MEMBERS", INSERT_MEMBERS),
    ("DELETE_USAGES", DELETE_USAGES),
    ("INSERT_USAGES", INSERT_USAGES),
    ("DELETE_QUEUES", DELETE_QUEUES),
    ("INSERT_QUEUES", INSERT_QUEUES),
    ("GUARD_QUEUES", GUARD_QUEUES),
    ("UPDATE_QUEUES", UPDATE_QUEUES),
];

const DELETE_MEMBERS: &str = "DELETE FROM core.queue_members WHERE queue = ANY($1::TEXT[])";
// Users who were disabled meanwhile too: a queue must not open to everybody because its last member left.
const GUARD_MEMBERS: &str = "SELECT 1/count(*) FROM (SELECT count(*) AS n FROM core.users \
    WHERE name = ANY($1::TEXT[]) HAVING count(*) = $2::BIGINT) AS g";
const INSERT_MEMBERS: &str = "INSERT INTO core.queue_members (queue, uid, role) \
    SELECT m.queue, u.uid, m.role FROM (SELECT unnest($1::TEXT[]) AS queue, unnest($2::TEXT[]) AS name, \
    unnest($3::TEXT[]) AS role) AS m JOIN core.users AS u ON u.name = m.name";

const DELETE_USAGES: &str = "DELETE FROM sched.queue_usage WHERE cell_id = $1 AND queue = ANY($2::TEXT[])";
// Only of queues that are there: one may be deleted by the very step that counted what it used.
const INSERT_USAGES: &str = "INSERT INTO sched.queue_usage (cell_id, queue, gpu_ms, at) \
    SELECT $1::INTEGER, q.name, u.gpu_ms, u.at FROM (SELECT unnest($2::TEXT[]) AS name, \
    unnest($3::BIGINT[]) AS gpu_ms, unnest($4::TIMESTAMPTZ[]) AS at) AS u \
    JOIN core.queues AS q ON q.cell_id = $1 AND q.name = u.name";

const DELETE_QUEUES: &str = "DELETE FROM core.queues WHERE cell_id = $1 AND name = ANY($2::TEXT[])";
const INSERT_QUEUES: &str = "INSERT INTO core.queues (cell_id, name, weight, policy, placement, quota, \
    user_quota, default_timeout_s, max_timeout_s, max_jobs, approval, created_at) \
    SELECT $1::INTEGER, unnest($2::TEXT[]), unnest($3::INTEGER[]), unnest($4::TEXT[]), unnest($5::TEXT[]), \
    unnest($6::TEXT[]), unnest($7::TEXT[]), unnest($8::BIGINT[]), unnest($9::BIGINT[]), \
    unnest($10::BIGINT[]), unnest($11::BOOLEAN[]), $12::TIMESTAMPTZ";
const GUARD_QUEUES: &str = "SELECT 1/count(*) FROM (SELECT count(*) AS n FROM core.queues \
    WHERE cell_id = $1 AND name = ANY($2::TEXT[]) HAVING count(*) = $3::BIGINT) AS g";
const UPDATE_QUEUES: &str = "UPDATE core.queues AS q SET weight = u.weight, policy = u.policy, \
    placement = u.placement, quota = u.quota, user_quota = u.user_quota, \
    default_timeout_s = u.default_timeout_s, max_timeout_s = u.max_timeout_s, max_jobs = u.max_jobs, \
    approval = u.approval \
    FROM (SELECT unnest($2::TEXT[]) AS name, unnest($3::INTEGER[]) AS weight, unnest($4::TEXT[]) AS policy, \
    unnest($5::TEXT[]) AS placement, unnest($6::TEXT[]) AS quota, unnest($7::TEXT[]) AS user_quota, \
    unnest($8::BIGINT[]) AS default_timeout_s, unnest($9::BIGINT[]) AS max_timeout_s, \
    unnest($10::BIGINT[]) AS max_jobs, unnest($11::BOOLEAN[]) AS approval) AS u \
    WHERE q.cell_id = $1 AND q.name = u.name";

/// What is deleted goes first: a queue of the same name may be made in the same batch.
pub(super) fn write<'a>(batch: &mut Batch<'a>, rows: &'a Rows, now: Timestamp) -> Result<(), StoreError> {
    let (new, changed) = (&rows.new_queues, &rows.queues);
    let without_members = rows.deleted_queues.iter().chain(changed.iter().map(|queue| &queue.name));
    let without_members: Vec<&str> = without_members.map(String::as_str).collect();
    if !without_members.is_empty() {
        batch.push(DELETE_MEMBERS, Columns::default().texts(without_members.into_iter()))?;
    }
    if !rows.deleted_queues.is_empty() {
        let columns = batch.columns().texts(rows.deleted_queues.iter().map(String::as_str));
        batch.push(DELETE_QUEUES, columns)?;
    }
    if !new.is_empty() {
        batch.push(INSERT_QUEUES, columns_of(batch.columns(), new).one(now))?;
    }
    if !changed.is_empty() {
        batch.guard(GUARD_QUEUES, changed.iter().map(|q| q.name.as_str()))?;
        batch.push_counted(UPDATE_QUEUES, changed.len(), columns_of(batch.columns(), changed))?;
    }
    write_members(batch, new.iter().chain(changed).collect())?;
    write_usages(batch, rows)
}

/// Deleted and inserted anew, in two statements however many there are: the first time a queue has no
/// row that could be updated.
fn write_usages<'a>(batch: &mut Batch<'a>, rows: &'a Rows) -> Result<(), StoreError> {
    let each = || rows.queue_usages.iter();
    let gone: Vec<&str> =
        rows.deleted_queues.iter().chain(each().map(|u| &u.queue)).map(String::as_str).collect();
    if !gone.is_empty() {
        batch.push(DELETE_USAGES, batch.columns().texts(gone.into_iter()))?;
    }
    if !rows.queue_usages.is_empty() {
        let columns = batch.columns().texts(each().map(|u| u.queue.as_str()));
        let columns = columns.each(each().map(|u| u.gpu_ms)).each(each().map(|u| u.at));
        batch.push(INSERT_USAGES, columns)?;
    }
    Ok(())
}

fn write_members<'a>(batch: &mut Batch<'a>, queues: Vec<&'a Queue>) -> Result<(), StoreError> {
    let each = || queues.iter().flat_map(|queue| queue.members.iter().map(|member| (&queue.name, member)));
    let names: BTreeSet<&str> = each().map(|(_, member)| member.user.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let users = names.len();
    batch.push(GUARD_MEMBERS, Columns::default().texts(names.into_iter()).count(users))?;
    let columns = Columns::default()
        .texts(each().map(|(queue, _)| queue.as_str()))
        .texts(each().map(|(_, member)| member.user.as_str()))
        .texts(each().map(|(_, member)| member.role.as_str()));
    batch.push_counted(INSERT_MEMBERS, each().count(), columns)
}

fn columns_of<'a>(columns: Columns<'a>, queues: &'a [Queue]) -> Columns<'a> {
    let each = || queues.iter();
    columns
        .texts(each().map(|q| q.name.as_str()))
        .ints(each().map(|q| q.weight))
        .texts(each().map(|q| q.policy.as_str()))
        .texts(each().map(|q| q.placement.as_str()))
        .maybe_json(each().map(|q| Some(&q.quota).filter(|quota| !quota.is_empty())))
        .maybe_json(each().map(|q| Some(&q.user_quota).filter(|quota| !quota.is_empty())))
        .maybe_longs(each().map(|q| q.default_timeout_s))
        .maybe_longs(each().map(|q| q.max_timeout_s))
        .maybe_longs(each().map(|q| q.max_jobs))
        .each(each().map(|q| q.approval))
}
