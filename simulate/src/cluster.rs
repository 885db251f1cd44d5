//! A cluster to play with: `64x8` (hosts × GPUs), a JSON file with a list of devices, or a CSV list of [`nodes`].
//!
//! ```json
//! [{"name": "dgx", "count": 4, "gpus": 8, "gpu_type": "A100-80GB", "cpus": 128, "memory_mb": 1048576, "labels": {"rack": "b2"}},
//!  {"name": "old", "gpus": ["T4", "T4", "P100"], "cpus": 32, "memory_mb": 131072}]
//! ```
//!
//! `gpus` is a number (then `gpu_type` says of which type) or the type of each. With a `count` above 1 the devices are
//! `dgx-1`, `dgx-2` … `cpus` and `memory_mb` are said of every device or of none; of none: nobody runs out of them.

mod nodes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use berth_policy::device::{Inventory, MAX_GPUS};
use serde::Deserialize;

use crate::source::ReadError;

/// Devices of a cluster: ten times what the policy is built for.
const MOST_DEVICES: usize = 100_000;
/// Kinds of devices by the types of their GPUs: the policy has a pool for each.
const MOST_KINDS: usize = 1_000;
/// The type of GPUs that nobody named.
const ANY_GPU: &str = "GPU";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    pub devices: Vec<Inventory>,
    /// Whether its GPUs have types. Where they have none, any GPU is good for any job.
    pub typed: bool,
    /// Whether its CPUs and memory are known. Where they are not, nobody runs out of them.
    pub measured: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("{text:?} is neither hosts x GPUs, e.g. 64x8, nor a readable file of devices: {source}")]
    Open { text: String, source: std::io::Error },
    #[error("{file}: {source}; write a list of devices: [{{\"name\": \"node\", \"count\": 4, \"gpus\": 8}}]")]
    Json { file: String, source: serde_json::Error },
    #[error("{place}: {what}; {fix}")]
    Wrong { place: String, what: String, fix: &'static str },
    #[error(transparent)]
    Nodes(#[from] ReadError),
}

/// A device, or several like it, as written in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default = "one")]
    count: usize,
    gpus: Gpus,
    gpu_type: Option<String>,
    cpus: Option<f64>,
    memory_mb: Option<i64>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Gpus {
    Number(usize),
    Types(Vec<String>),
}

fn one() -> usize {
    1
}

/// Reads `64x8`, or the file of that name.
///
/// # Errors
/// When it is neither, with what to write instead.
pub fn read(text: &str) -> Result<Cluster, ClusterError> {
    if let Some((hosts, gpus)) = text.split_once('x')
        && let (Ok(hosts), Ok(gpus)) = (hosts.parse(), gpus.parse())
    {
        return of_hosts(hosts, gpus);
    }
    if text.ends_with(".csv") || text.ends_with(".csv.gz") {
        return Ok(nodes::read(Path::new(text))?);
    }
    let json = std::fs::read_to_string(Path::new(text))
        .map_err(|source| ClusterError::Open { text: text.to_owned(), source })?;
    from_json(text, &json)
}

/// `hosts` hosts of `gpus` GPUs each.
///
/// # Errors
/// When that is nothing, or too much.
pub fn of_hosts(hosts: usize, gpus: usize) -> Result<Cluster, ClusterError> {
    let entry = Entry {
        name: "host".to_owned(),
        count: hosts,
        gpus: Gpus::Number(gpus),
        gpu_type: None,
        cpus: None,
        memory_mb: None,
        labels: BTreeMap::new(),
    };
    of_entries(&format!("{hosts}x{gpus}"), vec![entry])
}

/// What `json` lists; `place` is what to call it in an error.
///
/// # Errors
/// As [`read`].
pub fn from_json(place: &str, json: &str) -> Result<Cluster, ClusterError> {
    let entries =
        serde_json::from_str(json).map_err(|source| ClusterError::Json { file: place.to_owned(), source })?;
    of_entries(place, entries)
}

fn of_entries(place: &str, entries: Vec<Entry>) -> Result<Cluster, ClusterError> {
    let wrong = |what: String, fix| ClusterError::Wrong { place: place.to_owned(), what, fix };
    let typed = entries.iter().any(|entry| entry.gpu_type.is_some() || matches!(entry.gpus, Gpus::Types(_)));
    let measured = entries.iter().any(|entry| entry.cpus.is_some() || entry.memory_mb.is_some());
    if measured && entries.iter().any(|entry| entry.cpus.is_none() || entry.memory_mb.is_none()) {
        let what = "some devices have cpus and memory_mb, and some not".to_owned();
        return Err(wrong(what, "say both of every device, or of none"));
    }
    let devices = entries.iter().map(|entry| entry.count).fold(0, usize::saturating_add);
    if !(1..=MOST_DEVICES).contains(&devices) {
        let what = format!("{devices} devices");
        return Err(wrong(what, "a cluster has from 1 to 100,000 devices"));
    }
    let mut cluster = Cluster { devices: Vec::with_capacity(devices), typed, measured };
    for entry in entries {
        let types = types(&entry)
            .map_err(|what| wrong(what, "a device has at most 64 GPUs, whose types are named"))?;
        let cpu_milli = milli(entry.cpus).ok_or_else(|| {
            wrong(format!("{}: cpus", entry.name), "write a number of CPUs from 0 to 1,000,000")
        })?;
        let memory_mb = entry.memory_mb.unwrap_or(0);
        let width = entry.count.to_string().len();
        for number in 1..=entry.count {
            let name = if entry.count == 1 {
                entry.name.clone()
            } else {
                format!("{}-{number:0width$}", entry.name)
            };
            let labels = entry.labels.clone();
            cluster.devices.push(Inventory { name, gpus: types.clone(), cpu_milli, memory_mb, labels });
        }
    }
    let kinds: BTreeSet<&Vec<String>> = cluster.devices.iter().map(|device| &device.gpus).collect();
    if kinds.len() > MOST_KINDS {
        let what = format!("{} kinds of devices by their GPUs", kinds.len());
        return Err(wrong(what, "like devices are one entry with a count"));
    }
    let names: BTreeSet<&str> = cluster.devices.iter().map(|device| device.name.as_str()).collect();
    if names.len() < cluster.devices.len() {
        return Err(wrong("two devices have the same name".to_owned(), "give each a name of its own"));
    }
    Ok(cluster)
}

fn types(entry: &Entry) -> Result<Vec<String>, String> {
    let types = match &entry.gpus {
        Gpus::Types(_) if entry.gpu_type.is_some() => {
            return Err(format!("{}: gpus already lists the types, so gpu_type says nothing", entry.name));
        }
        Gpus::Types(types) => types.clone(),
        Gpus::Number(gpus) if *gpus > MAX_GPUS => return Err(format!("{}: {gpus} GPUs", entry.name)),
        Gpus::Number(gpus) => vec![entry.gpu_type.clone().unwrap_or_else(|| ANY_GPU.to_owned()); *gpus],
    };
    match types.len() {
        gpus if gpus > MAX_GPUS => Err(format!("{}: {gpus} GPUs", entry.name)),
        _ if types.iter().any(String::is_empty) => Err(format!("{}: a GPU type is empty", entry.name)),
        _ => Ok(types),
    }
}

fn milli(cpus: Option<f64>) -> Option<i64> {
    let cpus = cpus.unwrap_or(0.0);
    (0.0..=1e6).contains(&cpus).then_some((cpus * 1000.0).round() as i64)
}

impl Cluster {
    /// All GPUs.
    #[must_use]
    pub fn gpus(&self) -> u64 {
        self.devices.iter().map(|device| device.gpus.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_gpus() {
        let cluster = read("12x8").unwrap();
        assert_eq!((cluster.devices.len(), cluster.gpus()), (12, 96));
        assert_eq!(cluster.devices[0].name, "host-01", "names stand in the order of their numbers");
        assert!(!cluster.typed && !cluster.measured);
    }

    #[test]
    fn a_list_of_devices() {
        let json = r#"[{"name": "dgx", "count": 2, "gpus": 8, "gpu_type": "A100", "cpus": 127.5, "memory_mb": 1024},
                       {"name": "old", "gpus": ["T4", "P100"], "cpus": 1, "memory_mb": 1, "labels": {"rack": "a"}}]"#;
        let cluster = from_json("file", json).unwrap();
        let names: Vec<&str> = cluster.devices.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["dgx-1", "dgx-2", "old"]);
        assert_eq!(cluster.devices[1].cpu_milli, 127_500);
        assert_eq!(cluster.devices[2].gpus, ["T4", "P100"]);
        assert!(cluster.typed && cluster.measured);
    }

    #[test]
    fn what_no_cluster_is_says_what_to_write() {
        for (json, said) in [
            (r#"[{"name": "a", "gpus": 65}]"#, "at most 64"),
            (
                r#"[{"name": "a", "gpus": 8, "cpus": 8, "memory_mb": 1}, {"name": "b", "gpus": 8}]"#,
                "or of none",
            ),
            (r#"[{"name": "a", "gpus": 8}, {"name": "a", "gpus": 8}]"#, "a name of its own"),
            (r#"[{"name": "a", "gpus": 8, "cpus": -1, "memory_mb": 1}]"#, "number of CPUs"),
            (r#"[{"name": "a", "gpus": 8, "count": 200000}]"#, "100,000"),
            (r#"[{"name": "a", "gpu": 8}]"#, "list of devices"),
            ("[]", "from 1 to"),
        ] {
            let error = from_json("file", json).unwrap_err().to_string();
            assert!(error.contains(said), "{json}: {error}");
        }
        assert!(read("0x8").is_err());
        assert!(read("8by8").unwrap_err().to_string().contains("64x8"));
    }
}
