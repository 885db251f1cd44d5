//! The tables as they were committed, with the keys that matter, and what a leader loads from them.

use std::collections::BTreeMap;

use berth_common::command::{CommandStatus, CommandView};
use berth_common::id::JobId;
use berth_common::job::{AttemptStatus, Status};
use berth_common::queue::Queue;
use berth_scheduler::core::rows::{
    ContainerRow, DeviceRow, DeviceStateRow, Facts, GpuRow, JobRow, Needs, OutboxRow, QueueUsageRow,
    ReservationRow, Role, Rows, Snapshot, UserRow,
};
use uuid::Uuid;

pub const INSTANCE: Uuid = Uuid::from_u128(1);
/// The owner of all jobs.
pub const OWNER: &str = "ann";

#[derive(Debug, Clone, Default)]
pub struct Tables {
    next_id: i64,
    pub jobs: BTreeMap<JobId, JobRow>,
    /// Those of attempts that are over are left out: nobody reads them.
    containers: BTreeMap<i64, ContainerRow>,
    pub reservations: BTreeMap<i64, ReservationRow>,
    devices: BTreeMap<i64, DeviceRow>,
    gpus: BTreeMap<i64, GpuRow>,
    states: BTreeMap<i64, DeviceStateRow>,
    pub commands: BTreeMap<Uuid, CommandView>,
    usages: BTreeMap<String, QueueUsageRow>,
    /// Rows of the last batch: the next one deletes them, for they were published meanwhile.
    pub outbox: Vec<OutboxRow>,
}

impl Tables {
    #[must_use]
    pub fn new() -> Self {
        Self { next_id: 1, ..Self::default() }
    }

    /// Writes what a step decided.
    ///
    /// # Errors
    /// The constraint that would be broken.
    pub fn commit(&mut self, rows: Rows) -> Result<(), String> {
        if rows.is_empty() {
            return Ok(());
        }
        for row in rows.new_gpus {
            if self.gpus.values().any(|known| known.gpu.uuid == row.gpu.uuid) {
                return Err(format!("GPU {} gets a second number", row.gpu.uuid));
            }
            insert(&mut self.gpus, row.gid, row)?;
        }
        for row in rows.new_devices {
            insert(&mut self.devices, row.did, row)?;
        }
        for row in rows.new_device_states {
            insert(&mut self.states, row.did, row)?;
        }
        for row in rows.new_jobs {
            insert(&mut self.jobs, row.id, row)?;
        }
        for row in rows.new_containers {
            insert(&mut self.containers, row.cid, row)?;
        }
        for row in rows.new_commands {
            insert(&mut self.commands, row.id, row)?;
        }
        for release in rows.releases {
            match self.reservations.remove(&release.gid) {
                Some(row) if row.cid == release.cid => {}
                other => return Err(format!("container {} frees {other:?}", release.cid)),
            }
        }
        for row in rows.reservations {
            insert(&mut self.reservations, row.gid, row)?;
        }
        for row in rows.devices {
            update(&mut self.devices, row.did, row)?;
        }
        for row in rows.device_states {
            update(&mut self.states, row.did, row)?;
        }
        for row in rows.jobs {
            update(&mut self.jobs, row.id, row)?;
        }
        for row in rows.containers {
            update(&mut self.containers, row.cid, row)?;
        }
        for row in rows.commands {
            update(&mut self.commands, row.id, row)?;
        }
        self.usages.extend(rows.queue_usages.into_iter().map(|row| (row.queue.clone(), row)));
        self.outbox = rows.outbox;
        self.next_id = rows.next_id.unwrap_or(self.next_id);
        let jobs = &self.jobs;
        self.containers.retain(|_, c| of_present_attempt(jobs, c));
        Ok(())
    }

    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            instance: INSTANCE,
            secret: "secret".into(),
            next_id: self.next_id,
            queues: vec![Queue::new("default")],
            queue_usages: self.usages.values().cloned().collect(),
            devices: self.devices.values().cloned().collect(),
            gpus: self.gpus.values().cloned().collect(),
            device_states: self.states.values().cloned().collect(),
            jobs: self.jobs.values().filter(|j| j.life.status != Status::Exited).cloned().collect(),
            containers: self.containers.values().cloned().collect(),
            reservations: self.reservations.values().copied().collect(),
            commands: self
                .commands
                .values()
                .filter(|c| c.status == CommandStatus::Pending)
                .cloned()
                .collect(),
            outbox: self.outbox.clone(),
            ..Snapshot::default()
        }
    }

    #[must_use]
    pub fn facts(&self, needs: &Needs) -> Facts {
        let user =
            |name: &String| (name == OWNER).then(|| UserRow { uid: 2, name: name.clone(), role: Role::User });
        Facts {
            jobs: needs.jobs.iter().filter_map(|id| self.jobs.get(id).cloned()).collect(),
            users: needs.users.iter().filter_map(user).collect(),
            commands: needs.commands.iter().filter_map(|id| self.commands.get(id).cloned()).collect(),
            ..Facts::default()
        }
    }
}

/// What a leader loads: containers that have not exited, and those of a placed job's attempt that have.
fn of_present_attempt(jobs: &BTreeMap<JobId, JobRow>, container: &ContainerRow) -> bool {
    container.status != AttemptStatus::Exited
        || jobs
            .get(&container.replica.job)
            .is_some_and(|job| job.life.status.is_placed() && job.life.attempt == container.replica.attempt)
}

fn insert<K: Ord + std::fmt::Debug + Copy, V>(
    rows: &mut BTreeMap<K, V>,
    key: K,
    row: V,
) -> Result<(), String> {
    match rows.insert(key, row) {
        None => Ok(()),
        Some(_) => Err(format!("duplicate key {key:?}")),
    }
}

fn update<K: Ord + std::fmt::Debug + Copy, V>(
    rows: &mut BTreeMap<K, V>,
    key: K,
    row: V,
) -> Result<(), String> {
    match rows.insert(key, row) {
        Some(_) => Ok(()),
        None => Err(format!("an update of the row {key:?}, which is not there")),
    }
}
