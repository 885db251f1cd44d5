//! What a step has touched: collected while it runs, turned into rows at its end, so that every
//! job, container and device is written once per batch, as it finally is.

use std::collections::{BTreeMap, BTreeSet};

use berth_common::command::CommandView;
use berth_common::id::JobId;
use berth_common::queue::Queue;
use uuid::Uuid;

use super::rows::{
    ContainerRow, ForgottenDevice, GpuRow, JobEventRow, OutboxRow, QueueUsageRow, Release, ReservationRow,
    Rows,
};
use super::{Core, Job};

/// Numbers are promised in the database in blocks of this size, so that its row is seldom written.
const ID_BLOCK: i64 = 10_000;

#[derive(Debug, Clone, Default)]
pub struct Changes {
    pub new_jobs: BTreeSet<JobId>,
    pub jobs: BTreeSet<JobId>,
    /// By cid, as they are after the last change.
    pub new_containers: BTreeMap<i64, ContainerRow>,
    pub containers: BTreeMap<i64, ContainerRow>,
    pub reservations: BTreeMap<i64, ReservationRow>,
    pub releases: Vec<Release>,
    pub new_devices: BTreeSet<i64>,
    pub devices: BTreeSet<i64>,
    pub new_gpus: Vec<GpuRow>,
    pub new_states: BTreeSet<i64>,
    pub states: BTreeSet<i64>,
    pub new_commands: BTreeMap<Uuid, CommandView>,
    pub commands: BTreeMap<Uuid, CommandView>,
    pub events: Vec<JobEventRow>,
    pub outbox: Vec<OutboxRow>,
    /// Jobs of which the specification changed; they are among `jobs` too.
    pub respecified: BTreeSet<JobId>,
    /// By name.
    pub new_queues: BTreeMap<String, Queue>,
    pub queues: BTreeMap<String, Queue>,
    pub deleted_queues: BTreeSet<String>,
    pub queue_usages: Vec<QueueUsageRow>,
    pub forgotten_devices: Vec<ForgottenDevice>,
    pub recovered: bool,
}

impl Changes {
    /// A container as it is now; still new where this step made it.
    pub fn container(&mut self, row: &ContainerRow) {
        let rows = if self.new_containers.contains_key(&row.cid) {
            &mut self.new_containers
        } else {
            &mut self.containers
        };
        rows.insert(row.cid, row.clone());
    }

    /// A reservation that this step made and ended again was never there.
    pub fn release(&mut self, release: Release) {
        if self.reservations.remove(&release.gid).is_none() {
            self.releases.push(release);
        }
    }

    pub fn command(&mut self, view: &CommandView) {
        let rows = if self.new_commands.contains_key(&view.id) {
            &mut self.new_commands
        } else {
            &mut self.commands
        };
        rows.insert(view.id, view.clone());
    }

    /// A device that was deleted: nothing is to be sent to it either.
    pub fn forget_device(&mut self, device: ForgottenDevice) {
        self.outbox.retain(|row| row.device != device.name);
        self.forgotten_devices.push(device);
    }
}

impl Core {
    /// What the step has changed, as rows; jobs that have exited are forgotten.
    pub(super) fn take_rows(&mut self) -> Rows {
        let changes = std::mem::take(&mut self.changes);
        let job = |id: &JobId| self.jobs.get(id).map(|job| job.row.clone());
        let device = |did: &i64| self.devices.get(did).map(|device| device.row.clone());
        let state = |did: &i64| self.devices.get(did).and_then(|device| device.state.clone());
        let mut rows = Rows {
            new_devices: changes.new_devices.iter().filter_map(device).collect(),
            devices: changes.devices.difference(&changes.new_devices).filter_map(device).collect(),
            new_gpus: changes.new_gpus,
            new_device_states: changes.new_states.iter().filter_map(state).collect(),
            device_states: changes.states.difference(&changes.new_states).filter_map(state).collect(),
            new_jobs: changes.new_jobs.iter().filter_map(job).collect(),
            jobs: changes.jobs.difference(&changes.new_jobs).filter_map(job).collect(),
            new_containers: changes.new_containers.into_values().collect(),
            containers: changes.containers.into_values().collect(),
            reservations: changes.reservations.into_values().collect(),
            releases: changes.releases,
            respecified: changes.respecified.iter().filter_map(job).collect(),
            new_commands: changes.new_commands.into_values().collect(),
            commands: changes.commands.into_values().collect(),
            events: changes.events,
            outbox: changes.outbox,
            new_queues: changes.new_queues.into_values().collect(),
            queues: changes.queues.into_values().collect(),
            deleted_queues: changes.deleted_queues.into_iter().collect(),
            queue_usages: changes.queue_usages,
            forgotten_devices: changes.forgotten_devices,
            recovered: changes.recovered,
            next_id: None,
        };
        for id in changes.new_jobs.iter().chain(&changes.jobs) {
            if self.jobs.get(id).is_some_and(Job::has_exited) {
                self.jobs.remove(id);
            }
        }
        if self.next_id > self.promised_id
            || (!rows.is_empty() && self.next_id + ID_BLOCK / 2 > self.promised_id)
        {
            self.promised_id = self.next_id + ID_BLOCK;
            rows.next_id = Some(self.promised_id);
        }
        rows
    }
}
