//! What a device has: CPUs, memory, GPUs, measured or declared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::validate::check_labels;

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
    /// How well each two GPUs are linked, in the order of `gpus`, larger is better: 0 not known (and a
    /// GPU with itself), 1 across NUMA nodes, 2 within one, 3 by one host bridge, 4 by several PCIe
    /// switches, 5 by one switch, 6 on one board, 10 + n by n NVLinks. Empty: all alike.
    #[serde(default)]
    pub links: Vec<Vec<u8>>,
    /// Docker's version, and what else a person wants to know at a glance.
    pub engine: String,
    /// Root of the users' data folders on the device.
    pub data_dir: String,
    pub pub_dir: Option<String>,
    /// What jobs may ask for by their `constraints`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
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
        if !self.links.is_empty() && !are_links_of(self.gpus.len(), &self.links) {
            return Err("the inventory has links that are not one of each two GPUs".into());
        }
        if let Some(error) = check_labels("labels", &self.labels).first() {
            return Err(format!(
                "the inventory has labels that cannot be: {}: {}",
                error.pointer, error.message
            ));
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

/// Whether a matrix of links is square, symmetric, and of a size that is looked at.
fn are_links_of(gpus: usize, links: &[Vec<u8>]) -> bool {
    gpus <= MAX_LINKED_GPUS
        && links.len() == gpus
        && links.iter().all(|row| row.len() == gpus)
        && (0..gpus).all(|a| (0..a).all(|b| links[a][b] == links[b][a]))
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

/// GPUs of one device: as many as a 64-bit set of them has places. No machine has more than 32.
pub const MAX_GPUS_PER_DEVICE: u32 = 64;
/// GPUs of one device whose links are told; declared GPUs have none.
pub const MAX_LINKED_GPUS: usize = MAX_GPUS_PER_DEVICE as usize;

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

    #[test]
    fn links_are_of_each_two_gpus_or_refused() {
        let text = r#"{"ip": "", "cpu_milli": 0, "cpu_name": "", "memory_mb": 0, "gpus": [],
            "gpus_declared": true, "engine": "", "data_dir": "", "pub_dir": null}"#;
        let old: Inventory = serde_json::from_str(text).expect("an inventory from before there were links");
        let check = |gpus: u32, links: &[&[u8]]| {
            let gpus = if gpus > 0 { declared_gpus("dev-1", &[(gpus, "T4".into())]) } else { Vec::new() };
            Inventory { gpus, links: links.iter().map(|row| row.to_vec()).collect(), ..old.clone() }.check()
        };
        assert_eq!(check(2, &[]), Ok(()));
        let labelled = |key: &str, value: &str| {
            Inventory { labels: [(key.to_owned(), value.to_owned())].into(), ..old.clone() }.check()
        };
        assert_eq!(labelled("rack", "b2"), Ok(()));
        assert!(labelled("rack", "").is_err_and(|why| why.contains("rack")));
        assert_eq!(check(2, &[&[0, 7], &[7, 0]]), Ok(()));
        for bad in [&[&[0, 7][..], &[8, 0]][..], &[&[0, 7]], &[&[0, 7], &[7]], &[&[0][..], &[7, 0]]] {
            assert!(check(2, bad).is_err(), "{bad:?}");
        }
        assert!(check(0, &[&[0]]).is_err());
        let row = [0; MAX_LINKED_GPUS + 1];
        assert!(check(65, &[&row[..]; MAX_LINKED_GPUS + 1]).is_err());
    }
}
