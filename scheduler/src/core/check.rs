//! What must always hold of the state, written once: unit tests, property tests and debug builds
//! call it after every step.

use std::collections::HashMap;

use berth_common::job::{AttemptStatus, Status};

use super::Core;
use super::queue::{Place, Seat};

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
    the_plan_agrees_with_the_rows(core, &mut found);
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
        // A gang has all its containers or none; those that are gone stay until the last one is.
        if life.status.is_placed() && job.containers.len() != job.row.spec.replicas as usize {
            found.push(format!(
                "{} has {} containers of {}",
                job.row.id,
                job.containers.len(),
                job.row.spec.replicas
            ));
        }
        if job.containers.iter().any(|c| (c.status == AttemptStatus::Exited) != c.ending.is_some()) {
            found.push(format!("{} has a container whose ending is not what its status says", job.row.id));
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
        if !core.indexes.pending.contains(&Place::of(&job.row)) {
            found.push(format!("{} is pending and not in the queue", job.row.id));
        }
    }
    arrays_are_counted(core, found);
    if count != core.indexes.pending.len() {
        found.push(format!("{} jobs are pending, {} are in the queue", count, core.indexes.pending.len()));
    }
}

/// What an array still has, what users asked for, and who waits for whom follow from the jobs alone.
fn arrays_are_counted(core: &Core, found: &mut Vec<String>) {
    let unfinished = || core.jobs.values().filter(|job| job.row.life.status != Status::Exited);
    for (id, array) in &core.indexes.arrays {
        let of_it = unfinished().filter(|job| job.row.array.is_some_and(|place| place.id == *id));
        let placed = of_it.clone().filter(|job| job.row.life.status.is_placed()).count();
        if (array.unfinished() as usize, array.placed() as usize) != (of_it.count(), placed) {
            found.push(format!("the array {id} counts {array:?}"));
        }
    }
    let admitted = unfinished().filter(|job| job.row.life.status != Status::Unapproved).count();
    if core.indexes.usage.jobs() != admitted as u64 {
        found.push(format!(
            "{} jobs are counted for quotas, {admitted} are admitted",
            core.indexes.usage.jobs()
        ));
    }
    for queue in core.queues.keys() {
        let of_it = unfinished().filter(|job| job.row.spec.queue == *queue).count();
        if core.unfinished_in(queue) != of_it as u64 {
            found
                .push(format!("the queue {queue} counts {} jobs, it has {of_it}", core.unfinished_in(queue)));
        }
    }
    for job in unfinished().filter(|job| !job.row.life.status.is_placed()) {
        let indexed =
            |id| core.indexes.dependents.get(id).is_some_and(|waiting| waiting.contains(&job.row.id));
        if !job.row.spec.after.iter().all(indexed) {
            found.push(format!("{} would not hear of what it comes after", job.row.id));
        }
    }
}

/// The policy knows the same free GPUs, CPUs and memory, and who waits and runs.
fn the_plan_agrees_with_the_rows(core: &Core, found: &mut Vec<String>) {
    let policy = &core.plan.policy;
    found.extend(berth_policy::check::violations(policy));
    for (did, device) in core.devices.iter().filter(|(did, _)| !core.plan.stale.contains(did)) {
        let name = &device.row.name;
        let Some(planned) = core.plan.device(*did).and_then(|key| policy.cluster().get(key)) else {
            found.push(format!("the policy does not know {name}"));
            continue;
        };
        let free = planned.free();
        let gpus = device.row.gpus.iter().map(|gpu| gpu.gid).filter(|gid| !device.is_taken(*gid));
        if (free.cpu_milli, free.memory_mb) != (device.free_cpu_milli(), device.free_memory_mb())
            || !core.plan.gids(*did, free.gpus).eq(gpus)
        {
            found.push(format!("the policy has {free:?} free on {name}, which is not so"));
        }
    }
    for job in core.jobs.values() {
        let (seat, life) = (Seat::of(&job.row), &job.row.life);
        if policy.is_running(&seat) != life.status.is_placed() {
            found.push(format!("{} is {}, and the policy thinks otherwise", job.row.id, life.status));
        }
        if policy.is_waiting(&seat) && (life.status != Status::Pending || life.held) {
            found.push(format!("{} is {}, and waits for its turn", job.row.id, life.status));
        }
    }
}
