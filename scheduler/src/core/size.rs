//! What no known device could ever run is refused when it is asked for, with the largest there is.
//!
//! Devices count whatever their state: one that is lost may come back. With none registered nothing is
//! refused, or nobody could submit before the first worker has started.

use std::collections::{BTreeMap, BTreeSet};

use berth_common::pointer::escape;
use berth_common::problem::Problem;
use berth_common::spec::{JobSpec, Resources};

use super::Core;
use super::device::Device;
use super::placement::{accepts, memory_mb, room_ever};

/// Values of a label that a refusal names.
const SHOWN_VALUES: usize = 10;

impl Core {
    /// # Errors
    /// 422 with what no device has, or not all devices together.
    pub(super) fn refuse_larger_than_every_device(&self, spec: &JobSpec) -> Result<(), Problem> {
        if self.devices.is_empty() {
            return Ok(());
        }
        let devices: Vec<&Device> =
            self.devices.values().filter(|d| d.row.carries(&spec.constraints)).collect();
        if devices.is_empty() {
            return Err(self.labels_of_no_device(&spec.constraints));
        }
        let need = &spec.resources;
        // The containers of one job are on devices with the same types of GPUs.
        let mut rooms: BTreeMap<BTreeSet<&str>, u64> = BTreeMap::new();
        for device in &devices {
            let kinds = device.row.gpus.iter().map(|row| row.gpu.kind.as_str()).collect();
            *rooms.entry(kinds).or_default() += room_ever(device, need);
        }
        let room = rooms.into_values().max().unwrap_or(0);
        if room >= u64::from(spec.replicas) {
            return Ok(());
        }
        let those = if spec.constraints.is_empty() { "" } else { " with these labels" };
        if devices.iter().any(|device| room_ever(device, need) > 0) {
            let message = format!(
                "all devices{those} of one kind together have room for {room} such replicas, if nothing else ran"
            );
            return Err(Problem::invalid_field("/replicas", message));
        }
        Err(larger_than_each(&devices, those, need))
    }

    fn labels_of_no_device(&self, wanted: &BTreeMap<String, String>) -> Problem {
        let values = |key: &str| -> BTreeSet<&str> {
            self.devices.values().filter_map(|d| d.row.labels.get(key)).map(String::as_str).collect()
        };
        let missing = wanted.iter().find(|(key, value)| !values(key).contains(value.as_str()));
        let Some((key, value)) = missing else {
            return Problem::invalid_field("/constraints", "no single device has all these labels");
        };
        let known: Vec<&str> = values(key).into_iter().take(SHOWN_VALUES).collect();
        let known = if known.is_empty() {
            format!("none has a label {key:?}")
        } else {
            format!("there is {}", known.join(", "))
        };
        let message = format!("no device has the label {key}={value}; {known}");
        Problem::invalid_field(format!("/constraints/{}", escape(key)), message)
    }
}

fn larger_than_each(devices: &[&Device], those: &str, need: &Resources) -> Problem {
    let kind = if need.gpu_type.is_empty() {
        String::new()
    } else {
        format!(" of type {}", need.gpu_type.join(" or "))
    };
    let gpus = |d: &&Device| d.row.gpus.iter().filter(|g| accepts(need, &g.gpu.kind)).count();
    let most_gpus = devices.iter().map(gpus).max().unwrap_or(0);
    if need.gpus as usize > most_gpus {
        let message = format!("no device{those} has {} GPUs{kind}; the largest has {most_gpus}", need.gpus);
        return Problem::invalid_field("/resources/gpus", message);
    }
    let most_cpu = devices.iter().map(|d| d.row.cpu_milli).max().unwrap_or(0);
    if need.cpus.milli > most_cpu {
        let message = format!("no device{those} has so many CPUs; the largest has {}", most_cpu / 1000);
        return Problem::invalid_field("/resources/cpus", message);
    }
    let most_memory = devices.iter().map(|d| d.row.memory_mb).max().unwrap_or(0);
    if memory_mb(need) > most_memory {
        let message = format!("no device{those} has so much memory; the largest has {most_memory} MB");
        return Problem::invalid_field("/resources/memory_mb", message);
    }
    let message = format!(
        "no single device{those} has {} GPUs{kind} together with the CPUs and the memory asked for",
        need.gpus
    );
    Problem::invalid_field("/resources", message)
}
