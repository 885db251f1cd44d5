//! What a step has touched: collected while it runs, turned into rows at its end, so that every
//! job, container and device is written once per batch, as it finally is.

use std::collections::{BTreeMap, BTreeSet};

use berth_common::command::CommandView;
use berth_common::id::JobId;
use berth_common::queue::Queue;
use uuid::Uuid;

use super::rows::{ContainerRow, ForgottenDevice, GpuRow, JobEventRow, OutboxRow, Release, ReservationRow};

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
