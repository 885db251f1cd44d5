//! What jobs of others have that the asker may not see: busy, nobody knows until when.

use berth_common::device::DeviceView;
use berth_policy::demand::{Demand, Need, WHOLE};
use berth_policy::device::Held;
use berth_policy::{Job, NEVER, QueueKey, Time};
use berth_simulate::snapshot::{Known, State};

use super::present::{gpu_places, milli};

/// By place of the device: what is in use there and of none of the `seen` jobs.
#[must_use]
pub fn holders(devices: &[DeviceView], seen: &[Known]) -> Vec<(usize, Held)> {
    let mut left: Vec<Held> = devices.iter().map(in_use).collect();
    for known in seen {
        let State::Running { places, .. } = &known.state else { continue };
        for (device, held) in places {
            let left = &mut left[*device];
            left.gpus &= !held.gpus;
            left.cpu_milli -= held.cpu_milli;
            left.memory_mb -= held.memory_mb;
        }
    }
    let held = |mut held: Held| {
        (held.cpu_milli, held.memory_mb) = (held.cpu_milli.max(0), held.memory_mb.max(0));
        held
    };
    let some = |held: &Held| held.gpus != 0 || held.cpu_milli > 0 || held.memory_mb > 0;
    left.into_iter().map(held).enumerate().filter(|(_, held)| some(held)).collect()
}

fn in_use(device: &DeviceView) -> Held {
    let busy = |id: i64| device.gpus.iter().any(|gpu| gpu.id == id && !gpu.free);
    let places = gpu_places(device).filter(|(_, id)| busy(*id));
    let gpus = places.fold(0, |mask, (place, _)| mask | 1 << place);
    let (cpu_milli, memory_mb) = (milli(device.cpus_used), device.memory_used_mb);
    Held { gpus, share: WHOLE, cpu_milli, memory_mb, ends: NEVER, preemptible: false }
}

/// A job that has this and never ends.
#[must_use]
pub fn job(device: usize, held: Held, queue: QueueKey) -> Known {
    const EVER: Time = 0;
    let gpus = u16::try_from(held.gpus.count_ones()).expect("a mask has few bits");
    let need = Need { cpu_milli: held.cpu_milli, memory_mb: held.memory_mb, ..Need::of_gpus(gpus) };
    let job = Job {
        queue,
        demand: Demand::one(need),
        priority: 0,
        submitted: EVER,
        estimate: NEVER,
        limit: NEVER,
        preemptible: false,
        group: None,
        avoid: None,
    };
    Known { job, state: State::Running { started: EVER, places: vec![(device, held)] }, after: Vec::new() }
}
