//! What must always hold of the state, written once: unit tests, property tests and debug builds
//! call it after every step.

use std::collections::HashMap;

use berth_common::job::Status;

use super::Core;
use super::queue::Place;

/// Debug builds check states of up to so many jobs after every step; larger ones would be slow.
pub const SMALL: usize = 200;

/// Every invariant that does not hold, in words.
#[must_use]
pub fn violations(core: &Core) -> Vec<String> {
    let mut found = Vec::new();
    gpus_have_one_owner(core, &mut found);
    devices_are_never_over_committed(core, &mut found);
    statuses_agree_with_containers(core, &mut found);
    indexes_agree_with_statuses(core, &mut found);
    found
}

/// A GPU is in at most one live container.
fn gpus_have_one_owner(core: &Core, found: &mut Vec<String>) {
    let mut owner = HashMap::new();
    for container in core.jobs.values().flat_map(|job| job.live()) {
        for &gid in &container.gids {
            if let Some(other) = owner.insert(gid, container.replica) {
                found.push(format!("GPU {gid} is in {other} and in {}", container.replica));
            }
            if !core.devices.get(&container.did).is_some_and(|d| d.is_taken(gid)) {
                found.push(format!("GPU {gid} of {} is not taken on its device", container.replica));
            }
        }
    }
}

/// Neither GPUs nor CPU nor memory; what is taken is exactly what live containers hold.
fn devices_are_never_over_committed(core: &Core, found: &mut Vec<String>) {
    for device in core.devices.values() {
        let live: Vec<_> =
            core.jobs.values().flat_map(|job| job.live()).filter(|c| c.did == device.row.did).collect();
        let cpu: i64 = live.iter().map(|c| c.cpu_milli).sum();
        let memory: i64 = live.iter().map(|c| c.memory_mb).sum();
        let name = &device.row.name;
        if device.free_cpu_milli() != device.row.cpu_milli - cpu
            || device.free_memory_mb() != device.row.memory_mb - memory
        {
            found.push(format!("{name} counts other CPU or memory than its containers hold"));
        }
        if live.len() != device.containers.len() {
            found.push(format!(
                "{name} lists {} containers, {} are live",
                device.containers.len(),
                live.len()
            ));
        }
    }
}

/// Placed jobs have live containers; others have none.
fn statuses_agree_with_containers(core: &Core, found: &mut Vec<String>) {
    for job in core.jobs.values() {
        let life = &job.row.life;
        let live = job.live().count();
        if life.status.is_placed() != (live > 0) {
            found.push(format!("{} is {} with {live} live containers", job.row.id, life.status));
        }
        if (life.status == Status::Exited) != life.outcome.is_some()
            || (life.status == Status::Exited) != life.exited_at.is_some()
        {
            found.push(format!("{} is {} with outcome {:?}", job.row.id, life.status, life.outcome));
        }
        if life.stopping.is_some() && !life.status.is_placed() {
            found.push(format!("{} is {} and being stopped", job.row.id, life.status));
        }
        if life.held && life.status != Status::Pending {
            found.push(format!("{} is {} and held", job.row.id, life.status));
        }
        for container in &job.containers {
            if container.replica.attempt != life.attempt {
                found
                    .push(format!("{} has a container of attempt {}", job.row.id, container.replica.attempt));
            }
        }
    }
}

fn indexes_agree_with_statuses(core: &Core, found: &mut Vec<String>) {
    let waiting = core.jobs.values().filter(|job| job.row.life.status == Status::Pending);
    let mut count = 0;
    for job in waiting {
        count += 1;
        if !core.pending.contains(&Place::of(&job.row)) {
            found.push(format!("{} is pending and not in the queue", job.row.id));
        }
    }
    if count != core.pending.len() {
        found.push(format!("{} jobs are pending, {} are in the queue", count, core.pending.len()));
    }
}
