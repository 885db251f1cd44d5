//! Those who run the installation: they drain devices and resume them, change the settings of queues, and
//! let go in the end whatever is held back.

use std::collections::BTreeMap;
use std::rc::Rc;

use berth_common::device::DeviceState;
use berth_common::job::Status;
use berth_common::message::Target;
use berth_common::queue::{ANY_TYPE, Queue};
use berth_common::spec::JobSpec;
use serde_json::json;

use super::{ask, command, queues, wishes};
use crate::exec::NATURE;
use crate::host::Host;
use crate::message::Request;
use crate::world::World;

/// Between two looks of somebody who wants to see all jobs end.
const LOOK_MS: u64 = 20_000;

/// Starts them; until `until_ms` they also do what nobody waits for.
pub fn start(w: &Rc<World>, until_ms: u64) {
    let world = Rc::clone(w);
    if !w.calm && w.chance.one_in(3) {
        w.exec.spawn(NATURE, async move { operate(&world, until_ms).await });
    }
    let world = Rc::clone(w);
    if w.chance.one_in(2) {
        w.exec.spawn(NATURE, async move { administer(&world, until_ms).await });
    }
    let world = Rc::clone(w);
    w.exec.spawn(NATURE, async move { let_go(&world).await });
}

async fn operate(w: &Rc<World>, until_ms: u64) {
    loop {
        w.exec.sleep(w.chance.skewed(10_000, 600_000)).await;
        if w.exec.now_ms() >= until_ms {
            return;
        }
        let device = w.chance.pick(&w.hosts).name.clone();
        command(w, "root", Target::Device(device), wishes::of_device(&w.chance)).await;
    }
}

async fn administer(w: &Rc<World>, until_ms: u64) {
    loop {
        w.exec.sleep(w.chance.skewed(20_000, 300_000)).await;
        if w.exec.now_ms() >= until_ms {
            return;
        }
        ask(w, Request::Admin { actor: "root", body: queues::change(&w.chance) }).await;
    }
}

/// When the trouble is over, everybody lets go what is held, unapproved, or drained.
async fn let_go(w: &Rc<World>) {
    loop {
        w.exec.sleep(LOOK_MS).await;
        if !w.healed.get() {
            continue;
        }
        for (target, verb) in held_back(w) {
            command(w, "root", target, json!({ "command": verb })).await;
        }
    }
}

/// What waits for somebody's word, and the word.
fn held_back(w: &World) -> Vec<(Target, &'static str)> {
    let tables = w.database.tables.borrow();
    let can_start = |spec: &JobSpec| tables.queues.get(&spec.queue).is_some_and(|of| can_start(w, of, spec));
    let jobs = tables.jobs.values().filter_map(|job| match job.life.status {
        Status::Unapproved => Some((Target::Job(job.id), "approve")),
        Status::Pending if job.life.held => Some((Target::Job(job.id), "release")),
        // Submitted before anybody knew that no device is large enough, or before its queue's quota was lowered.
        Status::Pending if !can_start(&job.spec) => Some((Target::Job(job.id), "kill")),
        Status::Pending | Status::Scheduled | Status::Running | Status::Exited => None,
    });
    let drained =
        tables.states.values().filter(|state| state.drained || state.state == DeviceState::Draining);
    let devices = drained.filter_map(|state| tables.devices.get(&state.did));
    jobs.chain(devices.map(|device| (Target::Device(device.name.clone()), "resume"))).collect()
}

/// Whether an empty cluster has room for all replicas on hosts of one kind, of which its queue may have so much.
fn can_start(w: &World, queue: &Queue, spec: &JobSpec) -> bool {
    let mut rooms: BTreeMap<&str, u64> = BTreeMap::new();
    for host in &w.hosts {
        *rooms.entry(host.kind()).or_default() += room(host, spec);
    }
    let allowed = |kind: &str| {
        let caps = [kind, ANY_TYPE].into_iter().filter_map(|kind| queue.quota.get(kind));
        spec.preemptible || caps.into_iter().all(|cap| spec.gpus() <= u64::from(*cap))
    };
    rooms.into_iter().any(|(kind, room)| room >= u64::from(spec.replicas) && allowed(kind))
}

/// For how many of its replicas a host has room if nothing else runs there.
fn room(host: &Host, spec: &JobSpec) -> u64 {
    let (need, of) = (&spec.resources, &host.inventory);
    let by_memory = u64::try_from(of.memory_mb).unwrap_or(0) / need.memory_mb.max(1);
    let by_cpu = u64::try_from(of.cpu_milli / need.cpus.milli.max(1)).unwrap_or(0);
    let accepts = need.gpu_type.is_empty() || need.gpu_type.iter().any(|kind| kind == host.kind());
    let gpus = if accepts { of.gpus.len() as u64 } else { 0 };
    let by_gpus = gpus.checked_div(u64::from(need.gpus)).unwrap_or(u64::MAX);
    by_memory.min(by_cpu).min(by_gpus)
}
