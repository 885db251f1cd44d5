//! Devices, their GPUs, and their changing part.

use jiff::Timestamp;

use super::Batch;
use crate::core::rows::{DeviceRow, DeviceStateRow, ForgottenDevice, GpuRow, Rows};
use crate::store::StoreError;
use crate::store::columns::Columns;

pub const STATEMENTS: &[(&str, &str)] = &[
    ("INSERT_DEVICES", INSERT_DEVICES),
    ("GUARD_DEVICES", GUARD_DEVICES),
    ("UPDATE_DEVICES", UPDATE_DEVICES),
    ("INSERT_GPUS", INSERT_GPUS),
    ("GUARD_GPUS", GUARD_GPUS),
    ("UPDATE_GPUS", UPDATE_GPUS),
    ("REMOVE_GPUS", REMOVE_GPUS),
    ("PLACE_GPUS", PLACE_GPUS),
    ("FORGET_STATES", FORGET_STATES),
    ("FORGET_MESSAGES", FORGET_MESSAGES),
    ("INSERT_STATES", INSERT_STATES),
    ("GUARD_STATES", GUARD_STATES),
    ("UPDATE_STATES", UPDATE_STATES),
];

const INSERT_DEVICES: &str = "INSERT INTO core.device (cell_id, did, ip, cpu, cpu_name, memory, data_dir, \
    pub_dir, name, cpu_milli, engine, gpus_declared, labels, created_at) \
    SELECT $1::INTEGER, unnest($2::BIGINT[]), unnest($3::TEXT[]), unnest($4::INTEGER[]), unnest($5::TEXT[]), \
    unnest($6::BIGINT[]), unnest($7::TEXT[]), unnest($8::TEXT[]), unnest($9::TEXT[]), \
    unnest($10::BIGINT[]), unnest($11::TEXT[]), unnest($12::BOOLEAN[]), unnest($13::TEXT[]), \
    $14::TIMESTAMPTZ";
const GUARD_DEVICES: &str = "SELECT 1/count(*) FROM (SELECT count(*) AS n FROM core.device \
    WHERE cell_id = $1 AND did = ANY($2::BIGINT[]) HAVING count(*) = $3::BIGINT) AS g";
const UPDATE_DEVICES: &str = "UPDATE core.device AS d SET ip = u.ip, cpu = u.cpu, cpu_name = u.cpu_name, \
    memory = u.memory, data_dir = u.data_dir, pub_dir = u.pub_dir, name = u.name, cpu_milli = u.cpu_milli, \
    engine = u.engine, gpus_declared = u.gpus_declared, labels = u.labels \
    FROM (SELECT unnest($2::BIGINT[]) AS did, unnest($3::TEXT[]) AS ip, unnest($4::INTEGER[]) AS cpu, \
    unnest($5::TEXT[]) AS cpu_name, unnest($6::BIGINT[]) AS memory, unnest($7::TEXT[]) AS data_dir, \
    unnest($8::TEXT[]) AS pub_dir, unnest($9::TEXT[]) AS name, unnest($10::BIGINT[]) AS cpu_milli, \
    unnest($11::TEXT[]) AS engine, unnest($12::BOOLEAN[]) AS gpus_declared, \
    unnest($13::TEXT[]) AS labels) AS u \
    WHERE d.cell_id = $1 AND d.did = u.did";

const INSERT_GPUS: &str = "INSERT INTO core.gpu (gid, type, uuid, memory_mb, idx) \
    SELECT unnest($1::BIGINT[]), unnest($2::TEXT[]), unnest($3::TEXT[]), unnest($4::BIGINT[]), \
    unnest($5::INTEGER[])";
const GUARD_GPUS: &str = "SELECT 1/count(*) FROM (SELECT count(*) AS n FROM core.gpu \
    WHERE gid = ANY($1::BIGINT[]) HAVING count(*) = $2::BIGINT) AS g";
const UPDATE_GPUS: &str = "UPDATE core.gpu AS g SET type = u.type, uuid = u.uuid, memory_mb = u.memory_mb, \
    idx = u.idx \
    FROM (SELECT unnest($1::BIGINT[]) AS gid, unnest($2::TEXT[]) AS type, unnest($3::TEXT[]) AS uuid, \
    unnest($4::BIGINT[]) AS memory_mb, unnest($5::INTEGER[]) AS idx) AS u \
    WHERE g.gid = u.gid";
const REMOVE_GPUS: &str = "DELETE FROM core.gpu_device WHERE did = ANY($1::BIGINT[])";
const PLACE_GPUS: &str =
    "INSERT INTO core.gpu_device (gid, did) SELECT unnest($1::BIGINT[]), unnest($2::BIGINT[])";

const FORGET_STATES: &str = "DELETE FROM sched.device_state WHERE cell_id = $1 AND did = ANY($2::BIGINT[])";
const FORGET_MESSAGES: &str = "DELETE FROM sched.outbox WHERE cell_id = $1 AND device = ANY($2::TEXT[])";

const INSERT_STATES: &str = "INSERT INTO sched.device_state \
    (cell_id, did, worker_id, boot, state, session, note, drained, last_seen_at) \
    SELECT $1::INTEGER, unnest($2::BIGINT[]), unnest($3::UUID[]), unnest($4::UUID[]), unnest($5::TEXT[]), \
    unnest($6::BIGINT[]), unnest($7::TEXT[]), unnest($8::BOOLEAN[]), unnest($9::TIMESTAMPTZ[])";
const GUARD_STATES: &str = "SELECT 1/count(*) FROM (SELECT count(*) AS n FROM sched.device_state \
    WHERE cell_id = $1 AND did = ANY($2::BIGINT[]) HAVING count(*) = $3::BIGINT) AS g";
const UPDATE_STATES: &str = "UPDATE sched.device_state AS d SET worker_id = u.worker_id, boot = u.boot, \
    state = u.state, session = u.session, note = u.note, drained = u.drained, last_seen_at = u.last_seen_at \
    FROM (SELECT unnest($2::BIGINT[]) AS did, unnest($3::UUID[]) AS worker_id, unnest($4::UUID[]) AS boot, \
    unnest($5::TEXT[]) AS state, unnest($6::BIGINT[]) AS session, unnest($7::TEXT[]) AS note, \
    unnest($8::BOOLEAN[]) AS drained, unnest($9::TIMESTAMPTZ[]) AS last_seen_at) AS u \
    WHERE d.cell_id = $1 AND d.did = u.did";

/// Thousandths of a CPU to whole ones.
const MILLI: i64 = 1000;

/// What is forgotten goes first: the same device may come back in the same batch.
pub(super) fn write<'a>(batch: &mut Batch<'a>, rows: &'a Rows, now: Timestamp) -> Result<(), StoreError> {
    forget(batch, &rows.forgotten_devices)?;
    if !rows.new_gpus.is_empty() {
        batch.push(INSERT_GPUS, gpu_columns(rows.new_gpus.iter()))?;
    }
    if !rows.new_devices.is_empty() {
        batch.push(INSERT_DEVICES, device_columns(batch.columns(), &rows.new_devices).one(now))?;
    }
    update_devices(batch, rows)?;
    place_gpus(batch, rows)?;
    if !rows.new_device_states.is_empty() {
        batch.push(INSERT_STATES, state_columns(batch.columns(), &rows.new_device_states))?;
    }
    let states = &rows.device_states;
    if !states.is_empty() {
        batch.guard(GUARD_STATES, states.iter().map(|s| s.did))?;
        batch.push_counted(UPDATE_STATES, states.len(), state_columns(batch.columns(), states))?;
    }
    Ok(())
}

fn forget<'a>(batch: &mut Batch<'a>, devices: &'a [ForgottenDevice]) -> Result<(), StoreError> {
    if devices.is_empty() {
        return Ok(());
    }
    let dids = || devices.iter().map(|d| d.did);
    batch.push(FORGET_STATES, batch.columns().each(dids()))?;
    batch.push(REMOVE_GPUS, Columns::default().each(dids()))?;
    batch.push(FORGET_MESSAGES, batch.columns().texts(devices.iter().map(|d| d.name.as_str())))
}

fn update_devices<'a>(batch: &mut Batch<'a>, rows: &'a Rows) -> Result<(), StoreError> {
    let devices = &rows.devices;
    if devices.is_empty() {
        return Ok(());
    }
    batch.guard(GUARD_DEVICES, devices.iter().map(|d| d.did))?;
    batch.push_counted(UPDATE_DEVICES, devices.len(), device_columns(batch.columns(), devices))?;
    // A known GPU may have moved to another place, or be declared as another type.
    let is_new = |gpu: &GpuRow| rows.new_gpus.iter().any(|new| new.gid == gpu.gid);
    let known: Vec<&GpuRow> = devices.iter().flat_map(|d| &d.gpus).filter(|g| !is_new(g)).collect();
    if known.is_empty() {
        return Ok(());
    }
    let gids = Columns::default().each(known.iter().map(|g| g.gid));
    batch.push(GUARD_GPUS, gids.count(known.len()))?;
    batch.push_counted(UPDATE_GPUS, known.len(), gpu_columns(known.into_iter()))
}

fn place_gpus<'a>(batch: &mut Batch<'a>, rows: &'a Rows) -> Result<(), StoreError> {
    if !rows.devices.is_empty() {
        batch.push(REMOVE_GPUS, Columns::default().each(rows.devices.iter().map(|d| d.did)))?;
    }
    let devices = rows.new_devices.iter().chain(&rows.devices);
    let places: Vec<(i64, i64)> = devices.flat_map(|d| d.gpus.iter().map(|g| (g.gid, d.did))).collect();
    if places.is_empty() {
        return Ok(());
    }
    let columns = Columns::default().each(places.iter().map(|p| p.0)).each(places.iter().map(|p| p.1));
    batch.push(PLACE_GPUS, columns)
}

fn device_columns<'a>(columns: Columns<'a>, devices: &'a [DeviceRow]) -> Columns<'a> {
    let each = || devices.iter();
    columns
        .each(each().map(|d| d.did))
        .texts(each().map(|d| d.ip.as_str()))
        .ints(each().map(|d| d.cpu_milli / MILLI))
        .texts(each().map(|d| d.cpu_name.as_str()))
        .each(each().map(|d| d.memory_mb))
        .texts(each().map(|d| d.data_dir.as_str()))
        .maybe_texts(each().map(|d| d.pub_dir.as_deref()))
        .texts(each().map(|d| d.name.as_str()))
        .each(each().map(|d| d.cpu_milli))
        .texts(each().map(|d| d.engine.as_str()))
        .each(each().map(|d| d.gpus_declared))
        .maybe_json(each().map(|d| Some(&d.labels).filter(|labels| !labels.is_empty())))
}

fn gpu_columns<'a>(gpus: impl Iterator<Item = &'a GpuRow> + Clone) -> Columns<'a> {
    Columns::default()
        .each(gpus.clone().map(|g| g.gid))
        .texts(gpus.clone().map(|g| g.gpu.kind.as_str()))
        .texts(gpus.clone().map(|g| g.gpu.uuid.as_str()))
        .each(gpus.clone().map(|g| g.gpu.memory_mb))
        .ints(gpus.map(|g| g.gpu.idx))
}

fn state_columns<'a>(columns: Columns<'a>, states: &'a [DeviceStateRow]) -> Columns<'a> {
    let each = || states.iter();
    columns
        .each(each().map(|s| s.did))
        .each(each().map(|s| s.worker_id))
        .each(each().map(|s| s.boot))
        .each(each().map(|s| s.state.as_str()))
        .each(each().map(|s| s.session))
        .maybe_texts(each().map(|s| s.note.as_deref()))
        .each(each().map(|s| s.drained))
        .each(each().map(|s| s.last_seen_at))
}
