//! The tables of `sql/controller`, as maps with their keys; a batch is stored whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

use berth_common::command::{CommandStatus, CommandView};
use berth_common::id::{JobId, Replica};
use berth_common::job::{AttemptStatus, Status};
use berth_common::queue::Queue;
use berth_scheduler::core::rows::{
    ContainerRow, DependencyRow, DeviceRow, DeviceStateRow, Facts, GpuRow, JobEventRow, JobRow, Needs,
    OutboxRow, QueueUsageRow, ReservationRow, Role, Rows, Snapshot, UserRow,
};
use jiff::Timestamp;
use uuid::Uuid;

use super::StoreError;
use super::checks;

/// The leader's row, as far as standbys read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub epoch: i64,
    pub holder: Option<u32>,
    pub renewed_at: Timestamp,
}

#[derive(Debug, Clone)]
pub struct Tables {
    pub lease: Lease,
    pub instance: Uuid,
    next_id: i64,
    pub queues: BTreeMap<String, Queue>,
    usages: BTreeMap<String, QueueUsageRow>,
    pub jobs: BTreeMap<JobId, JobRow>,
    pub containers: BTreeMap<i64, ContainerRow>,
    keys: BTreeSet<Replica>,
    pub reservations: BTreeMap<i64, ReservationRow>,
    pub devices: BTreeMap<i64, DeviceRow>,
    gpus: BTreeMap<i64, GpuRow>,
    pub states: BTreeMap<i64, DeviceStateRow>,
    pub commands: BTreeMap<Uuid, CommandView>,
    pub events: BTreeMap<i64, JobEventRow>,
    pub outbox: BTreeMap<i64, OutboxRow>,
}

type Stored = Result<(), String>;

fn insert<K: Ord + std::fmt::Debug, V>(table: &mut BTreeMap<K, V>, key: K, row: V) -> Stored {
    let text = format!("duplicate key {key:?}");
    table.insert(key, row).map_or(Ok(()), |_| Err(text))
}

fn update<K: Ord + std::fmt::Debug, V>(table: &mut BTreeMap<K, V>, key: K, row: V) -> Stored {
    let text = format!("an update of {key:?}, which is not there");
    table.insert(key, row).map(drop).ok_or(text)
}

impl Tables {
    pub fn new(instance: Uuid, queues: Vec<Queue>) -> Self {
        Self {
            lease: Lease { epoch: 0, holder: None, renewed_at: Timestamp::UNIX_EPOCH },
            instance,
            next_id: 1,
            queues: queues.into_iter().map(|q| (q.name.clone(), q)).collect(),
            usages: BTreeMap::new(),
            jobs: BTreeMap::new(),
            containers: BTreeMap::new(),
            keys: BTreeSet::new(),
            reservations: BTreeMap::new(),
            devices: BTreeMap::new(),
            gpus: BTreeMap::new(),
            states: BTreeMap::new(),
            commands: BTreeMap::new(),
            events: BTreeMap::new(),
            outbox: BTreeMap::new(),
        }
    }

    /// Takes the lease if it still is as it was seen.
    pub fn take(&mut self, seen: &Lease, holder: u32, now: Timestamp) -> Option<i64> {
        if self.lease.epoch != seen.epoch || self.lease.renewed_at != seen.renewed_at {
            return None;
        }
        self.lease = Lease { epoch: seen.epoch + 1, holder: Some(holder), renewed_at: now };
        Some(self.lease.epoch)
    }

    pub fn renew(&mut self, epoch: i64, now: Timestamp) -> Result<(), StoreError> {
        self.locked(epoch)?.lease.renewed_at = now;
        Ok(())
    }

    fn locked(&mut self, epoch: i64) -> Result<&mut Self, StoreError> {
        if self.lease.epoch == epoch { Ok(self) } else { Err(StoreError::Deposed) }
    }

    /// One transaction: the rows of a step, and the messages that were published.
    pub fn commit(&mut self, epoch: i64, rows: Rows, published: &[i64]) -> Result<(), StoreError> {
        let this = self.locked(epoch)?;
        published.iter().for_each(|id| drop(this.outbox.remove(id)));
        // What follows fails only where the core is wrong, and then the world ends: no roll-back.
        this.store(rows).map_err(StoreError::Poison)
    }

    fn store(&mut self, rows: Rows) -> Stored {
        if let Some(next_id) = rows.next_id {
            if next_id < self.next_id {
                return Err("next_id goes back".into());
            }
            self.next_id = next_id;
        }
        self.store_devices(&rows)?;
        for name in rows.deleted_queues {
            self.queues.remove(&name);
            self.usages.remove(&name);
        }
        for row in rows.new_queues.into_iter().chain(rows.queues) {
            self.queues.insert(row.name.clone(), row);
        }
        for row in rows.queue_usages {
            checks::usage(&row)?;
            if self.queues.contains_key(&row.queue) {
                self.usages.insert(row.queue.clone(), row);
            }
        }
        for row in rows.new_jobs {
            checks::job(&row)?;
            insert(&mut self.jobs, row.id, row)?;
        }
        for row in rows.jobs {
            checks::job(&row)?;
            let mut row = row;
            if let Some(before) = self.jobs.get(&row.id) {
                row.spec = before.spec.clone(); // only priority and life are written
            }
            update(&mut self.jobs, row.id, row)?;
        }
        for row in rows.respecified {
            update(&mut self.jobs, row.id, row)?;
        }
        self.store_containers(rows.new_containers, rows.containers)?;
        for release in rows.releases {
            match self.reservations.remove(&release.gid) {
                Some(row) if row.cid == release.cid => {}
                other => return Err(format!("{release:?} ends {other:?}")),
            }
        }
        for row in rows.reservations {
            insert(&mut self.reservations, row.gid, row)?;
        }
        for row in rows.new_commands {
            checks::command(&row)?;
            insert(&mut self.commands, row.id, row)?;
        }
        for row in rows.commands {
            checks::command(&row)?;
            update(&mut self.commands, row.id, row)?;
        }
        for row in rows.events {
            insert(&mut self.events, row.seq, row)?;
        }
        for row in rows.outbox {
            insert(&mut self.outbox, row.message.id, row)?;
        }
        for forgotten in rows.forgotten_devices {
            self.states.remove(&forgotten.did);
            self.outbox.retain(|_, row| row.device != forgotten.name);
        }
        Ok(())
    }

    fn store_devices(&mut self, rows: &Rows) -> Stored {
        for row in &rows.new_gpus {
            if self.gpus.values().any(|known| known.gpu.uuid == row.gpu.uuid) {
                return Err(format!("the GPU {} has two numbers", row.gpu.uuid));
            }
            insert(&mut self.gpus, row.gid, row.clone())?;
        }
        rows.new_devices.iter().try_for_each(|row| insert(&mut self.devices, row.did, row.clone()))?;
        rows.devices.iter().try_for_each(|row| update(&mut self.devices, row.did, row.clone()))?;
        rows.new_device_states.iter().try_for_each(|row| insert(&mut self.states, row.did, row.clone()))?;
        rows.device_states.iter().try_for_each(|row| update(&mut self.states, row.did, row.clone()))
    }

    fn store_containers(&mut self, new: Vec<ContainerRow>, changed: Vec<ContainerRow>) -> Stored {
        for row in new {
            checks::container(&row)?;
            if !self.keys.insert(row.replica) {
                return Err(format!("two containers are {}", row.replica));
            }
            insert(&mut self.containers, row.cid, row)?;
        }
        for row in changed {
            checks::container(&row)?;
            update(&mut self.containers, row.cid, row)?;
        }
        Ok(())
    }

    /// Everything unfinished.
    pub fn snapshot(&self, epoch: i64) -> Result<Snapshot, StoreError> {
        if self.lease.epoch != epoch {
            return Err(StoreError::Deposed);
        }
        let unfinished = |job: &&JobRow| job.life.status != Status::Exited;
        let present = |c: &&ContainerRow| {
            let job = self.jobs.get(&c.replica.job);
            c.status != AttemptStatus::Exited
                || job.is_some_and(|j| j.life.status.is_placed() && j.life.attempt == c.replica.attempt)
        };
        Ok(Snapshot {
            instance: self.instance,
            secret: "secret".into(),
            next_id: self.next_id,
            queues: self.queues.values().cloned().collect(),
            queue_usages: self.usages.values().cloned().collect(),
            devices: self.devices.values().cloned().collect(),
            gpus: self.gpus.values().cloned().collect(),
            device_states: self.states.values().cloned().collect(),
            jobs: self.jobs.values().filter(unfinished).cloned().collect(),
            containers: self.containers.values().filter(present).cloned().collect(),
            reservations: self.reservations.values().copied().collect(),
            commands: self
                .commands
                .values()
                .filter(|c| c.status == CommandStatus::Pending)
                .cloned()
                .collect(),
            outbox: self.outbox.values().cloned().collect(),
            ..Snapshot::default()
        })
    }

    /// What a batch names, and what is known of it.
    pub fn facts(&self, needs: &Needs) -> Facts {
        let user = |name: &String| {
            let role = if name == "root" { Role::Admin } else { Role::User };
            Some(UserRow { uid: i64::try_from(name.len()).ok()?, name: name.clone(), role })
        };
        let jobs: Vec<JobRow> = needs.jobs.iter().filter_map(|id| self.jobs.get(id).cloned()).collect();
        let mut wanted: BTreeSet<Uuid> = needs.dependencies.iter().copied().collect();
        wanted.extend(jobs.iter().flat_map(|job| job.spec.after.iter().copied()));
        let named =
            |job: &&JobRow| wanted.contains(&job.id) || job.array.is_some_and(|a| wanted.contains(&a.id));
        let dependency = |job: &JobRow| DependencyRow {
            id: job.id,
            array: job.array.map(|a| a.id),
            owner: job.owner.clone(),
            outcome: job.life.outcome,
        };
        Facts {
            users: needs.users.iter().filter_map(user).collect(),
            commands: needs.commands.iter().filter_map(|id| self.commands.get(id).cloned()).collect(),
            dependencies: self.jobs.values().filter(named).map(dependency).collect(),
            used_queues: needs
                .queues
                .iter()
                .filter(|name| self.jobs.values().any(|job| &job.spec.queue == *name))
                .cloned()
                .collect(),
            jobs,
        }
    }
}
