//! Devices: what they have, and what of it is reserved.

use std::collections::HashMap;

use berth_common::device::{DeviceGpuView, DeviceView};
use berth_common::id::{CELL, JobId};
use tokio_postgres::Row;

use super::{ReadError, Session, count, get, json, text, word};

pub const STATEMENTS: &[(&str, &str)] =
    &[("FIND", FIND), ("PAGE", PAGE), ("USED", USED), ("GPUS", GPUS), ("RESERVED", RESERVED)];

/// A statement that reads devices. One without a state was deleted; it is kept for the history of its
/// containers alone.
macro_rules! select_devices {
    ($condition:literal) => {
        concat!(
            "SELECT d.did, d.name, d.ip, d.cpu_milli, d.cpu_name, d.memory, d.engine, d.gpus_declared, d.labels, s.state, \
             s.note, s.session, s.last_seen_at FROM sched.device_state AS s \
             JOIN core.device AS d ON d.did = s.did WHERE s.cell_id = $1 AND ",
            $condition
        )
    };
}

const FIND: &str = select_devices!("d.name = $2");
const PAGE: &str = select_devices!("($2::TEXT IS NULL OR d.name > $2) ORDER BY d.name LIMIT $3");

const USED: &str = "
SELECT c.did, sum(c.cpu_milli)::BIGINT AS cpu_milli, sum(c.memory)::BIGINT AS memory
FROM sched.containers AS c WHERE c.cell_id = $1 AND c.exited_at IS NULL AND c.did = ANY($2::BIGINT[])
GROUP BY c.did";

const GPUS: &str = "
SELECT l.did, g.gid, g.idx, g.type AS kind, g.uuid, g.memory_mb
FROM core.gpu_device AS l JOIN core.gpu AS g ON g.gid = l.gid
WHERE l.did = ANY($1::BIGINT[]) ORDER BY l.did, g.idx";

const RESERVED: &str = "
SELECT r.gid, r.job_id, j.owner
FROM sched.reservation AS r JOIN sched.jobs AS j ON j.cell_id = r.cell_id AND j.job_id = r.job_id
WHERE r.cell_id = $1 AND r.did = ANY($2::BIGINT[])";

/// One device. `sees` says whether the reader may know of a job of this owner.
///
/// # Errors
/// See [`ReadError`].
pub async fn find(
    db: &Session,
    name: &str,
    sees: impl Fn(&str) -> bool,
) -> Result<Option<DeviceView>, ReadError> {
    let rows = db.rows(FIND, &[&CELL, &name]).await?;
    Ok(views(db, &rows, sees).await?.pop())
}

/// At most `limit` devices whose name comes after `after`, by name.
///
/// # Errors
/// See [`ReadError`].
pub async fn page(
    db: &Session,
    after: Option<&str>,
    limit: i64,
    sees: impl Fn(&str) -> bool,
) -> Result<Vec<DeviceView>, ReadError> {
    let rows = db.rows(PAGE, &[&CELL, &after, &limit]).await?;
    views(db, &rows, sees).await
}

async fn views(
    db: &Session,
    rows: &[Row],
    sees: impl Fn(&str) -> bool,
) -> Result<Vec<DeviceView>, ReadError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let dids = rows.iter().map(|row| get(row, "did")).collect::<Result<Vec<i64>, _>>()?;
    let mut gpus = gpus(db, &dids, sees).await?;
    let used = db.rows(USED, &[&CELL, &dids]).await?;
    let mut devices = Vec::with_capacity(rows.len());
    for (row, did) in rows.iter().zip(dids) {
        let mut device = view(row, gpus.remove(&did).unwrap_or_default())?;
        if let Some(used) = used.iter().find(|row| row.try_get::<_, i64>("did").is_ok_and(|of| of == did)) {
            device.cpus_used = cpus(get(used, "cpu_milli")?);
            device.memory_used_mb = get(used, "memory")?;
        }
        devices.push(device);
    }
    Ok(devices)
}

async fn gpus(
    db: &Session,
    dids: &[i64],
    sees: impl Fn(&str) -> bool,
) -> Result<HashMap<i64, Vec<DeviceGpuView>>, ReadError> {
    let mut reserved: HashMap<i64, Option<JobId>> = HashMap::new();
    for row in db.rows(RESERVED, &[&CELL, &dids]).await? {
        let job = Some(get(&row, "job_id")?).filter(|_| row.try_get("owner").is_ok_and(&sees));
        reserved.insert(get(&row, "gid")?, job);
    }
    let mut of_device: HashMap<i64, Vec<DeviceGpuView>> = HashMap::new();
    for row in db.rows(GPUS, &[&dids]).await? {
        let id = get(&row, "gid")?;
        let gpu = DeviceGpuView {
            id,
            idx: count(&row, "idx")?,
            kind: get(&row, "kind")?,
            uuid: get(&row, "uuid")?,
            memory_mb: get(&row, "memory_mb")?,
            free: !reserved.contains_key(&id),
            job: reserved.get(&id).copied().flatten(),
        };
        of_device.entry(get(&row, "did")?).or_default().push(gpu);
    }
    Ok(of_device)
}

/// A device on which nothing runs.
fn view(row: &Row, gpus: Vec<DeviceGpuView>) -> Result<DeviceView, ReadError> {
    Ok(DeviceView {
        name: get(row, "name")?,
        state: word(row, "state")?,
        note: get(row, "note")?,
        ip: text(row, "ip")?,
        cpus: cpus(get(row, "cpu_milli")?),
        cpu_name: text(row, "cpu_name")?,
        memory_mb: get(row, "memory")?,
        cpus_used: 0.0,
        memory_used_mb: 0,
        gpus,
        gpus_declared: get(row, "gpus_declared")?,
        engine: text(row, "engine")?,
        labels: get::<Option<&str>>(row, "labels")?
            .map(|labels| json("labels", labels))
            .transpose()?
            .unwrap_or_default(),
        // 0 before the first welcome.
        session: Some(get(row, "session")?).filter(|&session: &i64| session > 0),
        last_seen_at: Some(get(row, "last_seen_at")?),
    })
}

#[allow(clippy::cast_precision_loss)] // below 2^53 for any machine
fn cpus(milli: i64) -> f64 {
    milli as f64 / 1000.0
}
