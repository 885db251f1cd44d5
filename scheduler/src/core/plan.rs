//! What the policy knows of this cell: its queues, devices, and the jobs that wait for their turn or run.
//!
//! [`berth_policy`] decides who starts and where; here its terms meet ours. What must always hold: whatever
//! follows from rows is told to it by the one door through which those change ([`Core::index`], the end of a
//! container, a device that was touched), so a plan made anew from the rows knows the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use berth_common::id::JobId;
use berth_common::queue::{self, Queue};
use berth_common::spec::{JobSpec, Resources};
use berth_policy::cluster::DeviceKey;
use berth_policy::demand::{Demand, Need, WHOLE};
use berth_policy::device::{Held, Inventory, MAX_GPUS};
use berth_policy::fgd::Usual;
use berth_policy::links::Links;
use berth_policy::queue::{Order, Placement, Rules};
use berth_policy::{Policy, QueueKey, Settings, Time};
use jiff::Timestamp;

use super::device::Device;
use super::placement::memory_mb;
use super::queue::Seat;
use super::rows::ContainerRow;

#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) policy: Policy<Seat>,
    queues: HashMap<String, QueueKey>,
    /// By did.
    devices: BTreeMap<i64, Planned>,
    dids: HashMap<DeviceKey, i64>,
    /// Jobs that may begin to wait for their turn, or wait for it no longer.
    pub(super) touched: BTreeSet<JobId>,
    /// Devices that came, went, or have something else than before.
    pub(super) stale: BTreeSet<i64>,
}

/// A device as the policy knows it.
#[derive(Debug, Clone)]
struct Planned {
    key: DeviceKey,
    /// Its GPUs by their place.
    gids: Vec<i64>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            policy: Policy::new(Settings::default()),
            queues: HashMap::new(),
            devices: BTreeMap::new(),
            dids: HashMap::new(),
            touched: BTreeSet::new(),
            stale: BTreeSet::new(),
        }
    }
}

impl Plan {
    /// A new queue, or other rules for one that is there.
    pub fn set_queue(&mut self, queue: &Queue) {
        let key = self.policy.set_queue(&queue.name, rules(queue));
        self.queues.insert(queue.name.clone(), key);
    }

    /// One without jobs, which disturbs nobody in the policy: made anew, it begins with what a new one has had.
    pub fn forget_queue(&mut self, name: &str) {
        if let Some(key) = self.queues.remove(name) {
            self.policy.set_usage(key, 0.0, 0);
        }
    }

    #[must_use]
    pub fn queue(&self, name: &str) -> Option<QueueKey> {
        self.queues.get(name).copied()
    }

    #[must_use]
    pub fn device(&self, did: i64) -> Option<DeviceKey> {
        self.devices.get(&did).map(|planned| planned.key)
    }

    #[must_use]
    pub fn did(&self, key: DeviceKey) -> Option<i64> {
        self.dids.get(&key).copied()
    }

    /// The GPUs at these places of a device.
    pub fn gids(&self, did: i64, places: u64) -> impl Iterator<Item = i64> {
        let gids = self.devices.get(&did).map_or(&[][..], |planned| &planned.gids);
        gids.iter().enumerate().filter(move |(place, _)| places & (1 << place) != 0).map(|(_, gid)| *gid)
    }

    /// What a container has, and where; none on a device that was never known.
    #[must_use]
    pub fn held(&self, container: &ContainerRow) -> Option<(DeviceKey, Held)> {
        let planned = self.devices.get(&container.did)?;
        let places = planned.gids.iter().enumerate().filter(|(_, gid)| container.gids.contains(gid));
        let held = Held {
            gpus: places.fold(0, |mask, (place, _)| mask | 1 << place),
            share: WHOLE,
            cpu_milli: container.cpu_milli,
            memory_mb: container.memory_mb,
            // Both follow from the job.
            ends: 0,
            preemptible: false,
        };
        Some((planned.key, held))
    }

    /// A container is gone: what it had is free.
    pub fn release(&mut self, seat: &Seat, container: &ContainerRow, now: Timestamp) {
        if let Some((device, held)) = self.held(container) {
            self.policy.release(seat, device, held.gpus, ms(now));
        }
    }

    /// How the GPUs of a device are linked; empty: nobody knows.
    pub fn set_links(&mut self, did: i64, links: &[Vec<u8>]) {
        let planned = self.devices.get(&did);
        if let Some(planned) = planned.filter(|planned| links.len() == planned.gids.len()) {
            self.policy.set_links(planned.key, Arc::new(Links::new(links)));
        }
    }

    /// Brings one device up to date; `containers`: those that are there.
    pub fn renew_device<'a>(
        &mut self,
        did: i64,
        device: Option<&Device>,
        containers: impl Iterator<Item = (Seat, &'a ContainerRow)>,
        now: Timestamp,
    ) {
        let containers: Vec<_> = containers.collect();
        for (seat, container) in &containers {
            self.release(seat, container, now);
        }
        if let Some(before) = self.devices.remove(&did) {
            self.policy.remove_device(before.key);
            self.dids.remove(&before.key);
        }
        let Some(device) = device else { return };
        let row = &device.row;
        let key = self.policy.add_device(Inventory {
            name: row.name.clone(),
            gpus: row.gpus.iter().map(|gpu| gpu.gpu.kind.clone()).collect(),
            cpu_milli: row.cpu_milli,
            memory_mb: row.memory_mb,
            labels: row.labels.clone(),
        });
        let gids = row.gpus.iter().map(|gpu| gpu.gid).take(MAX_GPUS).collect();
        self.devices.insert(did, Planned { key, gids });
        self.dids.insert(key, did);
        self.set_links(did, &device.links);
        for (seat, container) in containers {
            if let Some((device, held)) = self.held(container) {
                self.policy.hold(&seat, device, held, ms(now));
            }
        }
    }

    /// For whom something is kept free, and from when on.
    #[must_use]
    pub fn reserved(&self) -> Vec<(JobId, Timestamp)> {
        let known = self.policy.reserved().filter_map(|(seat, at)| Some((seat.job, timestamp(at)?)));
        known.collect()
    }

    pub fn set_open(&mut self, did: i64, open: bool) {
        if let Some(planned) = self.devices.get(&did) {
            self.policy.set_open(planned.key, open);
        }
    }

    /// What jobs usually need: what `fgd` spoils least for.
    pub fn set_usual<'a>(&mut self, specs: impl Iterator<Item = &'a JobSpec>) {
        let mut times: BTreeMap<Need, u64> = BTreeMap::new();
        for spec in specs {
            *times.entry(need(&spec.resources)).or_default() += u64::from(spec.replicas);
        }
        self.policy.cluster_mut().usual = Usual::new(times);
    }
}

fn rules(queue: &Queue) -> Rules {
    let order = match queue.policy {
        queue::Policy::ExpansionFactor => Order::Expansion,
        queue::Policy::Fifo => Order::Fifo,
        queue::Policy::FifoBackfill => Order::FifoBackfill,
    };
    let placement = match queue.placement {
        queue::Placement::Pack => Placement::Pack,
        queue::Placement::Spread => Placement::Spread,
        queue::Placement::Fgd => Placement::Fgd,
    };
    Rules { order, placement, weight: queue.weight, quota: queue.quota.clone() }
}

/// What all containers of a job need.
#[must_use]
pub fn demand(spec: &JobSpec) -> Demand {
    Demand { parts: vec![(need(&spec.resources), spec.replicas)], labels: spec.constraints.clone() }
}

fn need(resources: &Resources) -> Need {
    Need {
        // More than any device has is more than any device has.
        gpus: u16::try_from(resources.gpus).unwrap_or(u16::MAX),
        share: WHOLE,
        types: resources.gpu_type.clone(),
        cpu_milli: resources.cpus.milli,
        memory_mb: memory_mb(resources),
    }
}

/// The policy's time: milliseconds since 1970.
#[must_use]
pub fn ms(at: Timestamp) -> Time {
    at.as_millisecond()
}

/// `at`, where it can be written as one.
#[must_use]
pub fn timestamp(at: Time) -> Option<Timestamp> {
    Timestamp::from_millisecond(at).ok()
}
