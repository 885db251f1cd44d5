//! The API's words in the policy's: needs, devices, rules, times.

use std::collections::HashMap;

use berth_common::device::{DeviceState, DeviceView};
use berth_common::job::JobView;
use berth_common::queue::{Placement as PlacementWord, Policy as OrderWord, Queue};
use berth_policy::demand::{Need, WHOLE};
use berth_policy::device::{Inventory, MAX_GPUS};
use berth_policy::queue::{Order, Placement, Rules};
use berth_policy::{NEVER, Time};
use berth_simulate::snapshot::Device;
use jiff::Timestamp;

/// What one container of the job needs.
#[must_use]
pub fn need(view: &JobView) -> Need {
    let wanted = &view.spec.resources;
    Need {
        gpus: u16::try_from(wanted.gpus).unwrap_or(u16::MAX),
        share: WHOLE,
        types: if wanted.gpus > 0 { wanted.gpu_type.clone() } else { Vec::new() },
        cpu_milli: wanted.cpus.milli,
        memory_mb: i64::try_from(wanted.memory_mb).unwrap_or(i64::MAX),
    }
}

/// The places of its GPUs, in their order on the device, and their numbers in the database.
pub fn gpu_places(device: &DeviceView) -> impl Iterator<Item = (usize, i64)> {
    let mut gpus: Vec<(u32, i64)> = device.gpus.iter().map(|gpu| (gpu.idx, gpu.id)).collect();
    gpus.sort_unstable();
    gpus.into_iter().map(|(_, id)| id).enumerate().take(MAX_GPUS)
}

#[must_use]
pub fn device(view: &DeviceView) -> Device {
    let kinds: HashMap<i64, &str> = view.gpus.iter().map(|gpu| (gpu.id, gpu.kind.as_str())).collect();
    let inventory = Inventory {
        name: view.name.clone(),
        gpus: gpu_places(view).map(|(_, id)| kinds[&id].to_owned()).collect(),
        cpu_milli: milli(view.cpus),
        memory_mb: view.memory_mb,
        labels: view.labels.clone(),
    };
    let open = match view.state {
        DeviceState::Up => true,
        DeviceState::Draining | DeviceState::Degraded | DeviceState::Lost => false,
    };
    Device { inventory, open }
}

#[must_use]
pub fn rules(queue: &Queue) -> Rules {
    Rules {
        order: match queue.policy {
            OrderWord::ExpansionFactor => Order::Expansion,
            OrderWord::Fifo => Order::Fifo,
            OrderWord::FifoBackfill => Order::FifoBackfill,
        },
        placement: match queue.placement {
            PlacementWord::Pack => Placement::Pack,
            PlacementWord::Spread => Placement::Spread,
            PlacementWord::Fgd => Placement::Fgd,
        },
        weight: queue.weight,
        quota: queue.quota.clone(),
    }
}

/// The policy's times: milliseconds since 1970.
#[must_use]
pub fn ms(time: Timestamp) -> Time {
    time.as_millisecond()
}

/// No limit that anybody can name is too long.
#[must_use]
pub fn from_seconds(seconds: u64) -> Time {
    i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1_000)).unwrap_or(NEVER)
}

/// Thousandths of CPUs.
#[allow(clippy::cast_possible_truncation, reason = "far below 2^63 for any machine, and a float saturates")]
#[must_use]
pub fn milli(cpus: f64) -> i64 {
    (cpus * 1_000.0).round() as i64
}
