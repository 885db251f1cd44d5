//! What changes otherwise than by jobs that come, start and end: devices, and limits.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use crate::cluster::DeviceKey;
use crate::device::Inventory;
use crate::links::Links;
use crate::{Policy, Time};

impl<Id: Copy + Ord + Hash + Debug> Policy<Id> {
    pub fn add_device(&mut self, inventory: Inventory) -> DeviceKey {
        self.memo.forget();
        let key = self.cluster.add(inventory);
        self.find_pools_again();
        key
    }

    /// Another limit for a job that runs. A person did that: promises that relied on it are void.
    pub fn set_limit(&mut self, id: &Id, limit: Time) {
        if let Some(running) = self.running.get_mut(id).filter(|running| running.limit != limit) {
            running.limit = limit;
            let ends = running.started.saturating_add(limit);
            self.memo.forget();
            for (device, held) in &mut running.places {
                self.cluster.set_end(*device, held, ends);
            }
            let devices: Vec<DeviceKey> = running.places.iter().map(|(device, _)| *device).collect();
            devices.into_iter().for_each(|device| self.void_on(device));
        }
    }

    /// How its GPUs are linked; as long as that is not known, all are alike.
    pub fn set_links(&mut self, device: DeviceKey, links: Arc<Links>) {
        self.cluster.set_links(device, links);
    }

    /// Whether it takes new jobs.
    pub fn set_open(&mut self, device: DeviceKey, open: bool) {
        if self.cluster.get(device).is_some_and(|of| of.open != open) {
            self.memo.forget();
            self.cluster.set_open(device, open);
            if open { self.refresh_on(device) } else { self.void_on(device) }
        }
    }

    /// It is there no more. What runs there counts as running until it is finished.
    pub fn remove_device(&mut self, device: DeviceKey) {
        if self.cluster.get(device).is_some() {
            self.set_open(device, false);
            self.cluster.remove(device);
            self.find_pools_again();
        }
    }

    /// Its pool's reservation looks again at a device on which something changed.
    pub(crate) fn refresh_on(&mut self, device: DeviceKey) {
        if let Some(reservation) = self.reservations.get_mut(&self.cluster.pool_of(device)) {
            reservation.refresh(&self.cluster, device);
        }
    }

    /// Something that was relied on is not so any more. Where a reservation does not hold without it, there will be
    /// a new one.
    pub(crate) fn void_on(&mut self, device: DeviceKey) {
        self.refresh_on(device);
        let pool = self.cluster.pool_of(device);
        if let Some(reservation) = self.reservations.get(&pool).filter(|reservation| !reservation.holds()) {
            let id = reservation.id;
            self.reservations.remove(&pool);
            self.void(&id);
        }
    }

    /// What was promised to it does not count any more.
    pub(crate) fn void(&mut self, id: &Id) {
        if let Some(promise) = self.promises.get_mut(id) {
            promise.void = true;
        }
    }
}
