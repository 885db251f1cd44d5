//! What a device has: CPUs, memory, GPUs, measured or declared.

use serde::{Deserialize, Serialize};

/// A device's inventory as its worker tells it with a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Address that the worker sees as its own; for people.
    pub ip: String,
    pub cpu_milli: i64,
    pub cpu_name: String,
    /// Megabytes of 2^20 bytes.
    pub memory_mb: i64,
    pub gpus: Vec<Gpu>,
    /// Whether the GPUs were declared by configuration instead of measured by NVML.
    pub gpus_declared: bool,
    /// Docker's version, and what else a person wants to know at a glance.
    pub engine: String,
    /// Root of the users' data folders on the device.
    pub data_dir: String,
    pub pub_dir: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Place on the device, from 0.
    pub idx: u32,
    /// NVML's UUID, or `declared-<device>-<idx>`.
    pub uuid: String,
    /// `A100-80GB`.
    #[serde(rename = "type")]
    pub kind: String,
    pub memory_mb: i64,
}

impl Inventory {
    /// Whether it can be stored.
    ///
    /// # Errors
    /// What cannot be, by its name.
    pub fn check(&self) -> Result<(), String> {
        let fits = |n: i64| (0..1 << 40).contains(&n);
        if !fits(self.cpu_milli) || !fits(self.memory_mb) {
            return Err("the inventory has impossible CPUs or memory".into());
        }
        if self.gpus.len() > MAX_GPUS_PER_DEVICE as usize {
            return Err(format!("the inventory has more than {MAX_GPUS_PER_DEVICE} GPUs"));
        }
        let whole = |gpu: &Gpu| {
            !gpu.uuid.is_empty()
                && !gpu.kind.is_empty()
                && gpu.idx < MAX_GPUS_PER_DEVICE * 2
                && fits(gpu.memory_mb)
        };
        match self.gpus.iter().find(|gpu| !whole(gpu)) {
            Some(gpu) => Err(format!("the inventory has a GPU that cannot be: {gpu:?}")),
            None => Ok(()),
        }
    }
}

/// How a worker comes to know its GPUs (`BERTH_GPUS`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuSource {
    /// Ask NVML; none if there is no driver.
    Auto,
    None,
    /// (count, type), in order.
    Declared(Vec<(u32, String)>),
}

/// GPUs of one device; more is a typing mistake.
pub const MAX_GPUS_PER_DEVICE: u32 = 1024;

impl std::str::FromStr for GpuSource {
    type Err = String;

    /// `auto`, `none`, or `2xA100-80GB,4xT4`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(Self::Auto),
            "none" => return Ok(Self::None),
            _ => {}
        }
        let mut declared = Vec::new();
        for part in text.split(',') {
            let parsed =
                part.split_once('x').and_then(|(n, kind)| Some((n.trim().parse::<u32>().ok()?, kind.trim())));
            match parsed {
                Some((n, kind))
                    if n > 0
                        && !kind.is_empty()
                        && !kind.chars().any(|c| c.is_control() || c.is_whitespace()) =>
                {
                    declared.push((n, kind.to_owned()));
                }
                _ => {
                    return Err(format!(
                        "{part:?}: write auto, none, or counts and types like 2xA100-80GB,4xT4"
                    ));
                }
            }
        }
        let total: u64 = declared.iter().map(|(n, _)| u64::from(*n)).sum();
        if total > u64::from(MAX_GPUS_PER_DEVICE) {
            return Err(format!("{total} GPUs: at most {MAX_GPUS_PER_DEVICE} per device"));
        }
        Ok(Self::Declared(declared))
    }
}

/// The GPUs that a declaration stands for.
#[must_use]
pub fn declared_gpus(device: &str, declared: &[(u32, String)]) -> Vec<Gpu> {
    let kinds = declared.iter().flat_map(|(n, kind)| std::iter::repeat_n(kind, *n as usize));
    (0..)
        .zip(kinds)
        .map(|(idx, kind)| Gpu {
            idx,
            uuid: format!("declared-{device}-{idx}"),
            kind: kind.clone(),
            memory_mb: memory_from_name(kind),
        })
        .collect()
}

/// `A100-80GB` says 80 GB; a type that names no size has 0, "not known".
fn memory_from_name(kind: &str) -> i64 {
    kind.rsplit('-').find_map(|part| part.strip_suffix("GB")?.parse::<i64>().ok()).map_or(0, |gb| gb * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read_or_refused_with_the_form() {
        assert_eq!("auto".parse(), Ok(GpuSource::Auto));
        assert_eq!(
            "2xA100-80GB,4xT4".parse(),
            Ok(GpuSource::Declared(vec![(2, "A100-80GB".into()), (4, "T4".into())]))
        );
        for bad in ["", "2", "x", "0xT4", "-1xT4", "2x", "2xT4,", "99999xT4"] {
            assert!(bad.parse::<GpuSource>().is_err(), "{bad}");
        }
    }

    #[test]
    fn declared_gpus_are_numbered_through() {
        let gpus = declared_gpus("dev-1", &[(1, "A100-80GB".into()), (2, "T4".into())]);
        let short: Vec<_> = gpus.iter().map(|g| (g.idx, g.kind.as_str(), g.memory_mb)).collect();
        assert_eq!(short, [(0, "A100-80GB", 81920), (1, "T4", 0), (2, "T4", 0)]);
        assert_eq!(gpus[2].uuid, "declared-dev-1-2");
    }
}
