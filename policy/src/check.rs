//! What must always hold, written once: for tests, and for the simulator's count of violations.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;

use crate::Policy;
use crate::cluster::DeviceKey;
use crate::demand::WHOLE;
use crate::queue::ANY_TYPE;

/// What does not hold, in words.
#[must_use]
pub fn violations<Id: Copy + Ord + Hash + Debug>(policy: &Policy<Id>) -> Vec<String> {
    let mut found = Vec::new();
    devices_are_not_overbooked(policy, &mut found);
    quotas_hold(policy, &mut found);
    indexes_agree(policy, &mut found);
    found
}

fn devices_are_not_overbooked<Id: Copy + Ord + Hash + Debug>(policy: &Policy<Id>, found: &mut Vec<String>) {
    let mut whole: BTreeMap<DeviceKey, u64> = BTreeMap::new();
    for (id, running) in &policy.running {
        for (device, held) in &running.places {
            let Some(of) = policy.cluster.get(*device) else { continue };
            let taken = whole.entry(*device).or_default();
            if held.share == WHOLE && *taken & held.gpus != 0 {
                found.push(format!("{id:?} shares a GPU of {}", of.inventory.name));
            }
            *taken |= held.gpus;
            if of.free().gpus & held.gpus != 0 {
                found.push(format!("{id:?} has a GPU of {} that is free", of.inventory.name));
            }
        }
    }
    for (_, device) in policy.cluster.devices() {
        let free = device.free();
        if free.cpu_milli < 0 || free.memory_mb < 0 {
            found.push(format!("{} is over-committed", device.inventory.name));
        }
    }
}

fn quotas_hold<Id: Copy + Ord + Hash + Debug>(policy: &Policy<Id>, found: &mut Vec<String>) {
    let mut used: BTreeMap<usize, u32> = BTreeMap::new();
    for running in policy.running.values().filter(|running| !running.kind.preemptible) {
        let gpus: u32 = running.places.iter().map(|(_, held)| held.gpus.count_ones()).sum();
        *used.entry(usize::from(running.kind.queue.0)).or_default() += gpus;
    }
    for (place, queue) in policy.queues.iter().enumerate() {
        let counted = used.get(&place).copied().unwrap_or_default();
        if counted != queue.used_in_all {
            found.push(format!("{} has {counted} GPUs, and {} are counted", queue.name, queue.used_in_all));
        }
        // Lowered below its use, it may be exceeded until jobs end; the caller knows.
        if queue.rules.quota.get(ANY_TYPE).is_some_and(|cap| counted > *cap && !queue.lowered) {
            found.push(format!("{} has {counted} GPUs, more than its quota", queue.name));
        }
    }
}

fn indexes_agree<Id: Copy + Ord + Hash + Debug>(policy: &Policy<Id>, found: &mut Vec<String>) {
    let in_lines: usize = policy.classes.iter().flatten().map(|class| class.line.iter().count()).sum();
    if in_lines != policy.waiting.len() {
        found.push(format!("{in_lines} jobs stand in line, {} wait", policy.waiting.len()));
    }
    for reservation in policy.reservations.values() {
        if !policy.waiting.contains_key(&reservation.id) {
            found.push(format!("{:?} does not wait, and has a reservation", reservation.id));
        }
    }
    for (_, pool) in policy.cluster.pools() {
        let open = pool.devices.iter().map(|key| policy.cluster.device(*key)).filter(|device| device.open);
        let free: u32 = open.map(crate::device::Device::free_gpu_count).sum();
        if free != pool.free_gpus {
            found.push(format!("{free} GPUs are free in {:?}, {} are counted", pool.kinds, pool.free_gpus));
        }
    }
}
