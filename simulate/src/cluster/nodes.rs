//! A list of nodes as CSV, as Alibaba published its own (cluster-trace-gpu-v2023): `sn`, `cpu_milli`, `memory_mib`, `gpu`
//! (how many) and `model` (their type).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use berth_policy::device::{Inventory, MAX_GPUS};

use super::{ANY_GPU, Cluster, MOST_DEVICES};
use crate::source::{Fault, Lines, ReadError};
use crate::trace::csv::Header;
use crate::trace::field;

/// A petabyte.
const MOST_MEMORY_MB: i64 = 1 << 30;
/// A million CPUs.
const MOST_CPU_MILLI: i64 = 1_000_000_000;

/// # Errors
/// What is wrong with the file, and where.
pub fn read(file: &Path) -> Result<Cluster, ReadError> {
    let mut lines = Lines::open(file)?;
    let header = Header::read(&mut lines, &["sn", "cpu_milli", "memory_mib", "gpu", "model"])?;
    let mut cluster = Cluster { devices: Vec::new(), typed: true, measured: true };
    let mut names = BTreeSet::new();
    while let Some(text) = lines.next_line()? {
        let device = header.fields(text).and_then(|fields| device(&fields)).and_then(|device| {
            if names.insert(device.name.clone()) {
                Ok(device)
            } else {
                Err(Fault::new("sn", "is the name of another node too", "give each a name of its own"))
            }
        });
        cluster.devices.push(device.map_err(|fault| lines.fault(fault))?);
        if cluster.devices.len() > MOST_DEVICES {
            return Err(lines.whole("has too many nodes", "a cluster has at most 100,000 devices"));
        }
    }
    if cluster.devices.is_empty() {
        return Err(lines.whole("has no nodes", "a list has a line for each node"));
    }
    Ok(cluster)
}

fn device(fields: &[&str]) -> Result<Inventory, Fault> {
    let [name, cpu_milli, memory_mb, gpus, model] = fields else {
        return Err(Fault::new("", "has another number of fields", "give every line as many fields"));
    };
    let gpus = field::gpus("gpu", gpus)? as usize;
    if gpus > MAX_GPUS {
        return Err(Fault::new("gpu", format!("{gpus} GPUs"), "a device has at most 64"));
    }
    let model = if model.is_empty() { ANY_GPU } else { model };
    Ok(Inventory {
        name: (*name).to_owned(),
        gpus: vec![model.to_owned(); gpus],
        cpu_milli: field::whole("cpu_milli", cpu_milli, 0, MOST_CPU_MILLI)?.unwrap_or(0),
        memory_mb: field::whole("memory_mib", memory_mb, 0, MOST_MEMORY_MB)?.unwrap_or(0),
        labels: BTreeMap::new(),
    })
}
