//! What a leader begins with: everything that is unfinished, read anew at every start and after
//! every doubt.

use std::collections::HashMap;

use berth_common::id::JobId;
use berth_common::inventory::Gpu;
use berth_common::queue::{Member, Queue};
use futures_util::TryStreamExt;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::lease::Lead;
use super::row::{self, Reader};
use super::{StoreError, limited};
use crate::core::rows::{
    ContainerRow, DeviceRow, DeviceStateRow, GpuRow, JobRow, OutboxRow, QueueUsageRow, ReservationRow,
    Snapshot,
};

pub const STATEMENTS: &[(&str, &str)] = &[
    ("LEADER", LEADER),
    ("QUEUES", QUEUES),
    ("MEMBERS", MEMBERS),
    ("USAGES", USAGES),
    ("DEVICES", DEVICES),
    ("GPUS", GPUS),
    ("DEVICE_STATES", DEVICE_STATES),
    ("JOBS", JOBS),
    ("CONTAINERS", CONTAINERS),
    ("EXITED_CONTAINERS", EXITED_CONTAINERS),
    ("RESERVATIONS", RESERVATIONS),
    ("COMMANDS", COMMANDS),
    ("OUTBOX", OUTBOX),
];

macro_rules! select_containers {
    ($condition:literal) => {
        concat!(
            "SELECT c.cid, c.job_id, c.attempt, c.replica, c.uid, c.did, c.session, c.order_id, c.cpu_milli, \
             c.memory, c.passwd, c.ports, c.master_port, c.status, c.docker_id, c.exit_code, c.oom, c.error, \
             c.scheduled_at, c.started_at, c.exited_at, c.ending FROM sched.containers AS c",
            $condition
        )
    };
}

const LEADER: &str = "SELECT instance, secret, next_id, attempt_floor, recovering FROM sched.leader \
    WHERE cell_id = $1 AND epoch = $2";
const QUEUES: &str = "SELECT name, weight, policy, placement, quota, user_quota, default_timeout_s, max_timeout_s, \
    max_jobs, approval FROM core.queues WHERE cell_id = $1 ORDER BY name";
// Users who were disabled too: a queue must not open to everybody because its last member left.
const MEMBERS: &str = "SELECT m.queue, u.name, m.role FROM core.queue_members AS m \
    JOIN core.queues AS q ON q.name = m.queue JOIN core.users AS u ON u.uid = m.uid \
    WHERE q.cell_id = $1";
const USAGES: &str = "SELECT queue, gpu_ms, at FROM sched.queue_usage WHERE cell_id = $1 ORDER BY queue";
const DEVICES: &str = "SELECT did, name, ip, cpu_milli, cpu_name, memory, data_dir, pub_dir, engine, \
    gpus_declared, labels FROM core.device WHERE cell_id = $1 ORDER BY did";
// Those without a device too: one that comes back is the same one.
const GPUS: &str = "SELECT p.did, g.gid, g.idx, g.uuid, g.type, g.memory_mb \
    FROM core.gpu AS g \
    LEFT JOIN core.gpu_device AS p ON p.gid = g.gid \
    LEFT JOIN core.device AS d ON d.did = p.did \
    WHERE d.cell_id = $1 OR d.did IS NULL ORDER BY g.idx, g.gid";
const DEVICE_STATES: &str = "SELECT did, worker_id, boot, state, session, note, drained, last_seen_at \
    FROM sched.device_state WHERE cell_id = $1 ORDER BY did";
// Whatever has not exited has no exited_at (CHECK), and that is what the indexes know.
const JOBS: &str = row::select_jobs!("WHERE cell_id = $1 AND exited_at IS NULL");
const CONTAINERS: &str = select_containers!(" WHERE c.cell_id = $1 AND c.exited_at IS NULL ORDER BY c.cid");
// Those of attempts that go on without them: replicas of gangs.
const EXITED_CONTAINERS: &str = select_containers!(
    ", (SELECT unnest($2::UUID[]) AS job_id, unnest($3::INTEGER[]) AS attempt) AS u \
     WHERE c.cell_id = $1 AND c.job_id = u.job_id AND c.attempt = u.attempt AND c.exited_at IS NOT NULL \
     ORDER BY c.cid"
);
const RESERVATIONS: &str =
    "SELECT gid, cid, did, job_id, reserved_at FROM sched.reservation WHERE cell_id = $1 ORDER BY gid";
const COMMANDS: &str = row::select_commands!("WHERE cell_id = $1 AND done_at IS NULL ORDER BY asked_at, id");
const OUTBOX: &str = "SELECT device, body, created_at FROM sched.outbox WHERE cell_id = $1 ORDER BY id";

impl Lead {
    /// Reads everything unfinished of the cell. The epoch is compared first, and by every commit
    /// later: whoever was deposed in between writes nothing from what it read.
    pub async fn load(&mut self) -> Result<Snapshot, StoreError> {
        let Some(leader) = self.leader_row().await? else { return Err(StoreError::Deposed) };
        let mut leader = Reader::new(&leader);
        let reservations = self.read(RESERVATIONS, reservation).await?;
        let (devices, gpus) = self.devices().await?;
        let jobs = self.read(JOBS, row::job).await?;
        Ok(Snapshot {
            instance: leader.next()?,
            secret: leader.next()?,
            next_id: leader.next()?,
            attempt_floor: leader.count()?,
            recovering: leader.next()?,
            queues: self.queues().await?,
            queue_usages: self.read(USAGES, usage).await?,
            devices,
            gpus,
            device_states: self.read(DEVICE_STATES, device_state).await?,
            containers: with_gids(self.containers(&jobs).await?, &reservations),
            jobs,
            reservations,
            commands: self.read(COMMANDS, row::command).await?,
            outbox: self.read(OUTBOX, message).await?,
        })
    }

    async fn queues(&self) -> Result<Vec<Queue>, StoreError> {
        let mut members: HashMap<String, Vec<Member>> = HashMap::new();
        for (queue, member) in self.read(MEMBERS, row::member).await? {
            members.entry(queue).or_default().push(member);
        }
        let mut queues = self.read(QUEUES, row::queue).await?;
        for queue in &mut queues {
            queue.members = members.remove(&queue.name).unwrap_or_default();
            queue.members.sort(); // the engines order names differently
        }
        Ok(queues)
    }

    /// Those that have not exited, and after them those that have of attempts that go on.
    async fn containers(&self, jobs: &[JobRow]) -> Result<Vec<ContainerRow>, StoreError> {
        let mut containers = self.read(CONTAINERS, row::container).await?;
        let placed = jobs.iter().filter(|job| job.life.status.is_placed());
        let (ids, attempts): (Vec<JobId>, Vec<i32>) =
            placed.filter_map(|job| Some((job.id, i32::try_from(job.life.attempt).ok()?))).unzip();
        if !ids.is_empty() {
            let params: [&(dyn ToSql + Sync); 3] = [&self.cell, &ids, &attempts];
            containers.extend(self.read_by(EXITED_CONTAINERS, &params, row::container).await?);
        }
        Ok(containers)
    }

    async fn leader_row(&self) -> Result<Option<Row>, StoreError> {
        limited(&self.connected, async {
            let statement = self.statements.get(LEADER);
            let row = self.connected.client.query_opt(statement, &[&self.cell, &self.epoch]).await;
            row.map_err(|error| StoreError::judge(&error))
        })
        .await
    }

    /// Reads the rows of a statement that needs the cell alone.
    async fn read<T>(
        &self,
        sql: &'static str,
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.read_by(sql, &[&self.cell], read).await
    }

    /// Reads the rows of a statement one by one, as they come.
    async fn read_by<T>(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        limited(&self.connected, async {
            let statement = self.statements.get(sql);
            let rows = self.connected.client.query_raw(statement, params.iter().copied()).await;
            let mut rows = std::pin::pin!(rows.map_err(|error| StoreError::judge(&error))?);
            let mut found = Vec::new();
            while let Some(row) = rows.try_next().await.map_err(|error| StoreError::judge(&error))? {
                found.push(read(&row)?);
            }
            Ok(found)
        })
        .await
    }

    /// The devices with their GPUs, and every GPU that was ever seen.
    async fn devices(&self) -> Result<(Vec<DeviceRow>, Vec<GpuRow>), StoreError> {
        let mut devices = self.read(DEVICES, device).await?;
        let mut all = Vec::new();
        let mut placed: HashMap<i64, Vec<GpuRow>> = HashMap::new();
        for (did, gpu) in self.read(GPUS, gpu).await? {
            if let Some(did) = did {
                placed.entry(did).or_default().push(gpu.clone());
            }
            all.push(gpu);
        }
        for device in &mut devices {
            device.gpus = placed.remove(&device.did).unwrap_or_default();
        }
        Ok((devices, all))
    }
}

/// The GPUs of a container that has not exited are those that are reserved for it.
fn with_gids(mut containers: Vec<ContainerRow>, reservations: &[ReservationRow]) -> Vec<ContainerRow> {
    let mut gids: HashMap<i64, Vec<i64>> = HashMap::new();
    for reservation in reservations {
        gids.entry(reservation.cid).or_default().push(reservation.gid);
    }
    for container in &mut containers {
        container.gids = gids.remove(&container.cid).unwrap_or_default();
    }
    containers
}

fn device(row: &Row) -> Result<DeviceRow, StoreError> {
    let mut r = Reader::new(row);
    Ok(DeviceRow {
        did: r.next()?,
        name: r.next()?,
        ip: r.text()?,
        cpu_milli: r.next()?,
        cpu_name: r.text()?,
        memory_mb: r.next()?,
        data_dir: r.text()?,
        pub_dir: r.next()?,
        engine: r.text()?,
        gpus_declared: r.next()?,
        labels: r.maybe_json()?,
        gpus: Vec::new(),
    })
}

fn gpu(row: &Row) -> Result<(Option<i64>, GpuRow), StoreError> {
    let mut r = Reader::new(row);
    let did = r.next()?;
    let gid = r.next()?;
    let gpu = Gpu { idx: r.count()?, uuid: r.next()?, kind: r.next()?, memory_mb: r.next()? };
    Ok((did, GpuRow { gid, gpu }))
}

fn device_state(row: &Row) -> Result<DeviceStateRow, StoreError> {
    let mut r = Reader::new(row);
    Ok(DeviceStateRow {
        did: r.next()?,
        worker_id: r.next()?,
        boot: r.next()?,
        state: r.word()?,
        session: r.next()?,
        note: r.next()?,
        drained: r.next()?,
        last_seen_at: r.next()?,
    })
}

fn usage(row: &Row) -> Result<QueueUsageRow, StoreError> {
    let mut r = Reader::new(row);
    Ok(QueueUsageRow { queue: r.next()?, gpu_ms: r.next()?, at: r.next()? })
}

fn reservation(row: &Row) -> Result<ReservationRow, StoreError> {
    let mut r = Reader::new(row);
    Ok(ReservationRow {
        gid: r.next()?,
        cid: r.next()?,
        did: r.next()?,
        job: r.next()?,
        reserved_at: r.next()?,
    })
}

fn message(row: &Row) -> Result<OutboxRow, StoreError> {
    let mut r = Reader::new(row);
    Ok(OutboxRow { device: r.next()?, message: r.json()?, created_at: r.next()? })
}
