//! Containers, and which GPUs they have: the reservations that last, and their history.

use std::collections::HashSet;

use berth_common::job::AttemptStatus;

use super::Batch;
use crate::core::rows::{ContainerRow, Release, ReservationRow, Rows};
use crate::store::StoreError;
use crate::store::columns::Columns;

pub const STATEMENTS: &[(&str, &str)] = &[
    ("INSERT_CONTAINERS", INSERT_CONTAINERS),
    ("GUARD_CONTAINERS", GUARD_CONTAINERS),
    ("UPDATE_CONTAINERS", UPDATE_CONTAINERS),
    ("GUARD_RELEASES", GUARD_RELEASES),
    ("DELETE_RESERVATIONS", DELETE_RESERVATIONS),
    ("RELEASE_GPUS", RELEASE_GPUS),
    ("INSERT_RESERVATIONS", INSERT_RESERVATIONS),
    ("INSERT_CONTAINER_GPUS", INSERT_CONTAINER_GPUS),
];

const INSERT_CONTAINERS: &str = "INSERT INTO sched.containers (cell_id, cid, status, portssh, portjupyter, \
    porttsb, ports, docker_id, exit_code, oom, error, started_at, exited_at, ending, name, job_id, attempt, \
    replica, uid, did, session, order_id, cpu, cpu_milli, memory, passwd, master_port, scheduled_at) \
    SELECT $1::INTEGER, unnest($2::BIGINT[]), unnest($3::TEXT[]), unnest($4::INTEGER[]), \
    unnest($5::INTEGER[]), unnest($6::INTEGER[]), unnest($7::TEXT[]), unnest($8::TEXT[]), \
    unnest($9::BIGINT[]), unnest($10::BOOLEAN[]), unnest($11::TEXT[]), unnest($12::TIMESTAMPTZ[]), \
    unnest($13::TIMESTAMPTZ[]), unnest($14::TEXT[]), unnest($15::TEXT[]), unnest($16::UUID[]), \
    unnest($17::INTEGER[]), unnest($18::INTEGER[]), unnest($19::BIGINT[]), unnest($20::BIGINT[]), \
    unnest($21::BIGINT[]), unnest($22::BIGINT[]), unnest($23::INTEGER[]), unnest($24::BIGINT[]), \
    unnest($25::BIGINT[]), unnest($26::TEXT[]), unnest($27::INTEGER[]), unnest($28::TIMESTAMPTZ[])";
const GUARD_CONTAINERS: &str = "SELECT 1/count(*) FROM (SELECT count(*) AS n FROM sched.containers \
    WHERE cell_id = $1 AND cid = ANY($2::BIGINT[]) HAVING count(*) = $3::BIGINT) AS g";
const UPDATE_CONTAINERS: &str = "UPDATE sched.containers AS c SET status = u.status, portssh = u.portssh, \
    portjupyter = u.portjupyter, porttsb = u.porttsb, ports = u.ports, docker_id = u.docker_id, \
    exit_code = u.exit_code, oom = u.oom, error = u.error, started_at = u.started_at, \
    exited_at = u.exited_at, ending = u.ending \
    FROM (SELECT unnest($2::BIGINT[]) AS cid, unnest($3::TEXT[]) AS status, unnest($4::INTEGER[]) AS portssh, \
    unnest($5::INTEGER[]) AS portjupyter, unnest($6::INTEGER[]) AS porttsb, unnest($7::TEXT[]) AS ports, \
    unnest($8::TEXT[]) AS docker_id, unnest($9::BIGINT[]) AS exit_code, unnest($10::BOOLEAN[]) AS oom, \
    unnest($11::TEXT[]) AS error, unnest($12::TIMESTAMPTZ[]) AS started_at, \
    unnest($13::TIMESTAMPTZ[]) AS exited_at, unnest($14::TEXT[]) AS ending) AS u \
    WHERE c.cell_id = $1 AND c.cid = u.cid";

const GUARD_RELEASES: &str = "SELECT 1/count(*) FROM (SELECT count(*) AS n FROM sched.reservation AS r, \
    (SELECT unnest($2::BIGINT[]) AS gid, unnest($3::BIGINT[]) AS cid) AS u \
    WHERE r.cell_id = $1 AND r.gid = u.gid AND r.cid = u.cid HAVING count(*) = $4::BIGINT) AS g";
const DELETE_RESERVATIONS: &str =
    "DELETE FROM sched.reservation WHERE cell_id = $1 AND gid = ANY($2::BIGINT[])";
const RELEASE_GPUS: &str = "UPDATE sched.container_gpu AS g SET used = 0, released_at = u.released_at \
    FROM (SELECT unnest($2::BIGINT[]) AS gid, unnest($3::BIGINT[]) AS cid, \
    unnest($4::TIMESTAMPTZ[]) AS released_at) AS u \
    WHERE g.cell_id = $1 AND g.cid = u.cid AND g.gid = u.gid AND g.used = 1";

const INSERT_RESERVATIONS: &str = "INSERT INTO sched.reservation (cell_id, gid, cid, did, job_id, reserved_at) \
    SELECT $1::INTEGER, unnest($2::BIGINT[]), unnest($3::BIGINT[]), unnest($4::BIGINT[]), \
    unnest($5::UUID[]), unnest($6::TIMESTAMPTZ[])";
const INSERT_CONTAINER_GPUS: &str = "INSERT INTO sched.container_gpu (cell_id, gid, cid, used, reserved_at) \
    SELECT $1::INTEGER, unnest($2::BIGINT[]), unnest($3::BIGINT[]), 1, unnest($4::TIMESTAMPTZ[])";

/// Thousandths of a CPU to whole ones.
const MILLI: i64 = 1000;

/// What ends comes before what begins: a GPU may change its owner in one batch.
pub(super) fn write<'a>(batch: &mut Batch<'a>, rows: &'a Rows) -> Result<(), StoreError> {
    check_reserved(rows)?;
    insert(batch, &rows.new_containers)?;
    if !rows.containers.is_empty() {
        batch.guard(GUARD_CONTAINERS, rows.containers.iter().map(|c| c.cid))?;
        let columns = changing(batch.columns(), &rows.containers);
        batch.push_counted(UPDATE_CONTAINERS, rows.containers.len(), columns)?;
    }
    release(batch, &rows.releases)?;
    reserve(batch, &rows.reservations)
}

/// A container is loaded with the GPUs that are reserved for it, so it must have these and no others.
fn check_reserved(rows: &Rows) -> Result<(), StoreError> {
    let reserved: HashSet<(i64, i64)> = rows.reservations.iter().map(|r| (r.cid, r.gid)).collect();
    let live = rows.new_containers.iter().filter(|c| c.status != AttemptStatus::Exited);
    let had: HashSet<(i64, i64)> = live.flat_map(|c| c.gids.iter().map(|&gid| (c.cid, gid))).collect();
    if reserved == had {
        return Ok(());
    }
    let text = "the GPUs of the new containers are not those that are reserved".to_owned();
    Err(StoreError::Poison { text })
}

fn insert<'a>(batch: &mut Batch<'a>, containers: &'a [ContainerRow]) -> Result<(), StoreError> {
    if containers.is_empty() {
        return Ok(());
    }
    let each = || containers.iter();
    let columns = changing(batch.columns(), containers)
        .made_texts(each().map(|c| c.replica.container_name()))
        .each(each().map(|c| c.replica.job))
        .ints(each().map(|c| c.replica.attempt))
        .ints(each().map(|c| c.replica.replica))
        .each(each().map(|c| c.uid))
        .each(each().map(|c| c.did))
        .each(each().map(|c| c.session))
        .each(each().map(|c| c.order_id))
        .ints(each().map(|c| c.cpu_milli.saturating_add(MILLI - 1) / MILLI))
        .each(each().map(|c| c.cpu_milli))
        .each(each().map(|c| c.memory_mb))
        .texts(each().map(|c| c.password.as_str()))
        .each(each().map(|c| c.master_port.map(i32::from)))
        .each(each().map(|c| c.scheduled_at));
    batch.push(INSERT_CONTAINERS, columns)
}

/// The columns of a container that change, `$2` to `$14`.
fn changing<'a>(columns: Columns<'a>, containers: &'a [ContainerRow]) -> Columns<'a> {
    let each = || containers.iter();
    let port = |name: &'static str| each().map(move |c| c.ports.get(name).map(|&port| i32::from(port)));
    columns
        .each(each().map(|c| c.cid))
        .each(each().map(|c| c.status.as_str()))
        .each(port("ssh"))
        .each(port("jupyter"))
        .each(port("tensorboard"))
        .maybe_json(each().map(|c| Some(&c.ports).filter(|ports| !ports.is_empty())))
        .maybe_texts(each().map(|c| c.docker_id.as_deref()))
        .each(each().map(|c| c.exit_code))
        .each(each().map(|c| c.oom))
        .maybe_texts(each().map(|c| c.error.as_deref()))
        .each(each().map(|c| c.started_at))
        .each(each().map(|c| c.exited_at))
        .maybe_json(each().map(|c| c.ending.as_ref()))
}

fn release<'a>(batch: &mut Batch<'a>, releases: &'a [Release]) -> Result<(), StoreError> {
    if releases.is_empty() {
        return Ok(());
    }
    let gids = || releases.iter().map(|r| r.gid);
    let pairs = |batch: &Batch<'a>| batch.columns().each(gids()).each(releases.iter().map(|r| r.cid));
    batch.push(GUARD_RELEASES, pairs(batch).count(releases.len()))?;
    batch.push_counted(DELETE_RESERVATIONS, releases.len(), batch.columns().each(gids()))?;
    let columns = pairs(batch).each(releases.iter().map(|r| r.released_at));
    batch.push_counted(RELEASE_GPUS, releases.len(), columns)
}

fn reserve<'a>(batch: &mut Batch<'a>, reservations: &'a [ReservationRow]) -> Result<(), StoreError> {
    if reservations.is_empty() {
        return Ok(());
    }
    let each = || reservations.iter();
    let pairs = |batch: &Batch<'a>| batch.columns().each(each().map(|r| r.gid)).each(each().map(|r| r.cid));
    let columns = pairs(batch)
        .each(each().map(|r| r.did))
        .each(each().map(|r| r.job))
        .each(each().map(|r| r.reserved_at));
    batch.push(INSERT_RESERVATIONS, columns)?;
    batch.push(INSERT_CONTAINER_GPUS, pairs(batch).each(each().map(|r| r.reserved_at)))
}
