//! The containers of jobs and their GPUs.

use std::collections::HashMap;

use berth_common::id::{CELL, JobId};
use berth_common::job::{AttemptStatus, AttemptView, GpuView, JobView};
use tokio_postgres::Row;

use super::{ReadError, Session, count, get, json, word};

pub const STATEMENTS: &[(&str, &str)] =
    &[("OF_JOBS", OF_JOBS), ("GPUS", GPUS), ("PLACE", PLACE), ("PLACE_AFTER", PLACE_AFTER)];

const OF_JOBS: &str = "
SELECT c.cid, c.job_id, c.attempt, c.replica, d.name AS device, c.session, c.status, c.ports, c.exit_code,
    c.oom, c.error, c.scheduled_at, c.started_at, c.exited_at
FROM sched.containers AS c LEFT JOIN core.device AS d ON d.did = c.did
WHERE c.cell_id = $1 AND c.job_id = ANY($2::UUID[]) ORDER BY c.attempt, c.replica";

const GPUS: &str = "
SELECT r.cid, r.gid, g.type AS kind FROM sched.container_gpu AS r JOIN core.gpu AS g ON g.gid = r.gid
WHERE r.cell_id = $1 AND r.cid = ANY($2::BIGINT[]) ORDER BY r.cid, g.idx";

const PLACE: &str = "
SELECT c.attempt, c.status, d.name AS device
FROM sched.containers AS c JOIN core.device AS d ON d.did = c.did
WHERE c.cell_id = $1 AND c.job_id = $2 AND c.replica = $3 AND ($4::INTEGER IS NULL OR c.attempt = $4)
ORDER BY c.attempt DESC LIMIT 1";

const PLACE_AFTER: &str = "
SELECT c.attempt, c.status, d.name AS device
FROM sched.containers AS c JOIN core.device AS d ON d.did = c.did
WHERE c.cell_id = $1 AND c.job_id = $2 AND c.replica = $3 AND c.attempt > $4
ORDER BY c.attempt LIMIT 1";

/// Where one replica of an attempt is or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub attempt: u32,
    pub status: AttemptStatus,
    pub device: String,
}

/// Where `replica` of an attempt of a job is: of the given one, else of the newest that has it.
///
/// # Errors
/// See [`ReadError`].
pub async fn place(
    db: &Session,
    job: JobId,
    attempt: Option<u32>,
    replica: u32,
) -> Result<Option<Place>, ReadError> {
    // Nobody has numbers this large.
    let (Ok(replica), Ok(attempt)) = (i32::try_from(replica), attempt.map(i32::try_from).transpose()) else {
        return Ok(None);
    };
    let row = db.row(PLACE, &[&CELL, &job, &replica, &attempt]).await?;
    row.map(|row| place_of(&row)).transpose()
}

/// Where `replica` of the first attempt of a job after the given one is: none is left out.
///
/// # Errors
/// See [`ReadError`].
pub async fn place_after(
    db: &Session,
    job: JobId,
    attempt: u32,
    replica: u32,
) -> Result<Option<Place>, ReadError> {
    // Nobody has numbers this large.
    let (Ok(replica), Ok(attempt)) = (i32::try_from(replica), i32::try_from(attempt)) else {
        return Ok(None);
    };
    let row = db.row(PLACE_AFTER, &[&CELL, &job, &replica, &attempt]).await?;
    row.map(|row| place_of(&row)).transpose()
}

fn place_of(row: &Row) -> Result<Place, ReadError> {
    Ok(Place { attempt: count(row, "attempt")?, status: word(row, "status")?, device: get(row, "device")? })
}

/// Adds to each job its attempts, oldest first, and where the newest one is.
pub(super) async fn add(db: &Session, jobs: &mut [JobView]) -> Result<(), ReadError> {
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    let rows = db.rows(OF_JOBS, &[&CELL, &ids]).await?;
    let cids = rows.iter().map(|row| get(row, "cid")).collect::<Result<Vec<i64>, _>>()?;
    let mut gpus = gpus(db, &cids).await?;
    let mut of_job: HashMap<JobId, Vec<AttemptView>> = HashMap::new();
    for (row, cid) in rows.iter().zip(cids) {
        let attempt = view(row, gpus.remove(&cid).unwrap_or_default())?;
        of_job.entry(get(row, "job_id")?).or_default().push(attempt);
    }
    for job in jobs {
        job.attempts = of_job.remove(&job.id).unwrap_or_default();
        let newest: Vec<&AttemptView> =
            job.attempts.iter().filter(|attempt| attempt.attempt == job.attempt).collect();
        job.gpus = newest.iter().flat_map(|attempt| attempt.gpus.iter().cloned()).collect();
        job.device = match newest.as_slice() {
            [] => None,
            [first, rest @ ..] => {
                rest.iter().all(|other| other.device == first.device).then(|| first.device.clone())
            }
        };
    }
    Ok(())
}

async fn gpus(db: &Session, cids: &[i64]) -> Result<HashMap<i64, Vec<GpuView>>, ReadError> {
    let mut of_container: HashMap<i64, Vec<GpuView>> = HashMap::new();
    if cids.is_empty() {
        return Ok(of_container);
    }
    for row in db.rows(GPUS, &[&CELL, &cids]).await? {
        let gpu = GpuView { id: get(&row, "gid")?, kind: get(&row, "kind")? };
        of_container.entry(get(&row, "cid")?).or_default().push(gpu);
    }
    Ok(of_container)
}

fn view(row: &Row, gpus: Vec<GpuView>) -> Result<AttemptView, ReadError> {
    let ports: Option<&str> = get(row, "ports")?;
    Ok(AttemptView {
        attempt: count(row, "attempt")?,
        replica: count(row, "replica")?,
        device: get::<Option<String>>(row, "device")?.unwrap_or_else(|| "(removed)".into()),
        session: get(row, "session")?,
        status: word(row, "status")?,
        gpus,
        ports: ports.map(|text| json("ports", text)).transpose()?.unwrap_or_default(),
        exit_code: get(row, "exit_code")?,
        oom: get(row, "oom")?,
        error: get(row, "error")?,
        scheduled_at: get(row, "scheduled_at")?,
        started_at: get(row, "started_at")?,
        exited_at: get(row, "exited_at")?,
    })
}
