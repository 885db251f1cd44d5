//! What devices have: a device becomes known by its first inventory, and a GPU by its UUID, for ever.

use berth_common::device::DeviceState;
use berth_common::inventory::Inventory;
use berth_common::message::{Event as Told, FromDevice};
use jiff::Timestamp;

use super::Core;
use super::device::{Device, row_from};
use super::rows::GpuRow;

impl Core {
    /// A device becomes known by the first heartbeat that brings its inventory. One that was deleted
    /// comes back with its old number, which its containers of before carry.
    pub(super) fn register(&mut self, told: &FromDevice, now: Timestamp) -> Option<i64> {
        let Told::Heartbeat(heartbeat) = &told.event else { return None };
        let inventory = heartbeat.inventory.as_ref()?;
        let before = self.forgotten.remove(&told.device);
        let did = before.unwrap_or_else(|| self.take_id());
        let gpus = self.gpu_rows(did, inventory);
        let row = row_from(did, &told.device, inventory, gpus);
        self.dids.insert(told.device.clone(), did);
        let mut device = Device::new(row, None, now);
        device.links.clone_from(&inventory.links);
        self.devices.insert(did, device);
        self.plan.stale.insert(did);
        let rows = if before.is_some() { &mut self.changes.devices } else { &mut self.changes.new_devices };
        rows.insert(did);
        Some(did)
    }

    /// What a device has now, other than before.
    pub(super) fn take_inventory(&mut self, did: i64, inventory: &Inventory) {
        let name = self.devices[&did].row.name.clone();
        let row = row_from(did, &name, inventory, self.gpu_rows(did, inventory));
        let Some(device) = self.devices.get_mut(&did) else { return };
        device.links.clone_from(&inventory.links);
        if device.row == row {
            // What is kept free there for somebody does not depend on them.
            self.plan.set_links(did, &inventory.links);
        } else {
            self.plan.stale.insert(did);
            device.row = row;
            self.changes.devices.insert(did);
            self.unsettled = true;
        }
    }

    /// The GPUs of an inventory with their numbers. A GPU is known by its UUID, wherever it turns up:
    /// one that another device has and that may be in use there is left to it.
    fn gpu_rows(&mut self, did: i64, inventory: &Inventory) -> Vec<GpuRow> {
        let mut rows: Vec<GpuRow> = Vec::with_capacity(inventory.gpus.len());
        for gpu in &inventory.gpus {
            let known = self.gids.get(&gpu.uuid).copied();
            if rows.iter().any(|row| row.gpu.uuid == gpu.uuid)
                || known.is_some_and(|gid| !self.give_over(gid, did))
            {
                continue;
            }
            let row = GpuRow { gid: known.unwrap_or_else(|| self.take_id()), gpu: gpu.clone() };
            if known.is_none() {
                self.gids.insert(gpu.uuid.clone(), row.gid);
                self.changes.new_gpus.push(row.clone());
            }
            rows.push(row);
        }
        rows
    }

    /// Whether the device `to` may have a GPU; taken from a lost device where it is free there.
    fn give_over(&mut self, gid: i64, to: i64) -> bool {
        let holds =
            |d: &&mut Device| d.row.did != to && (d.is_taken(gid) || d.row.gpus.iter().any(|g| g.gid == gid));
        let Some(other) = self.devices.values_mut().find(holds) else { return true };
        if other.shown_state() != DeviceState::Lost || other.is_taken(gid) {
            return false;
        }
        other.forget_gpu(gid);
        let did = other.row.did;
        self.changes.devices.insert(did);
        self.plan.stale.insert(did);
        true
    }
}
