//! Fills a cluster until nothing more fits, and says how much of its GPUs was allocated.
//!
//! The experiment of Weng et al., "Beware of Fragmentation" (USENIX ATC 2023), with its files: pods arrive in random order
//! until what has arrived would be so much of the GPU capacity (1.3 there); nothing ends; what does not fit is dropped.
//! The pods are the list, shuffled; where it is too short, with some of it drawn again. Chance is in that order only.

mod ledger;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use berth_policy::Policy;
use berth_policy::Settings;
use berth_policy::cluster::DeviceKey;
use berth_policy::demand::{Need, WHOLE};
use berth_policy::fgd::Usual;
use berth_policy::queue::Placement;
use ledger::Ledger;
use serde::Serialize;

use crate::chance::Chance;
use crate::cluster::Cluster;
use crate::source::{Fault, Lines, ReadError};
use crate::trace::csv::Header;
use crate::trace::field;

/// Of a list.
const MOST_PODS: usize = 10_000_000;
const MOST_CPU_MILLI: i64 = 1_000_000_000;
/// A petabyte.
const MOST_MEMORY_MB: i64 = 1 << 30;

/// What came of filling a cluster several times.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Filled {
    pub placement: String,
    pub seeds: u32,
    /// GPUs allocated, in percent of those there are: mean, least and most of all seeds.
    pub allocated: f64,
    pub allocated_min: f64,
    pub allocated_max: f64,
    /// Pods that arrived, and how many of them did not fit, on average.
    pub pods: f64,
    pub dropped: f64,
    pub violations: usize,
}

/// Reads a list of pods: `cpu_milli`, `memory_mib`, `num_gpu`, `gpu_milli` (of each of them), `gpu_spec` (`A|B`; empty: any).
///
/// # Errors
/// What is wrong with the file, and where.
pub fn read(file: &Path) -> Result<Vec<Need>, ReadError> {
    let mut lines = Lines::open(file)?;
    let columns = ["cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "?gpu_spec"];
    let header = Header::read(&mut lines, &columns)?;
    let mut pods = Vec::new();
    while let Some(text) = lines.next_line()? {
        let pod = header.fields(text).and_then(|fields| pod(&fields));
        pods.push(pod.map_err(|fault| lines.fault(fault))?);
        if pods.len() > MOST_PODS {
            return Err(lines.whole("has too many pods", "a list has at most ten million"));
        }
    }
    if pods.iter().all(|pod| pod.gpu_milli() == 0) {
        return Err(lines.whole("has no pods with GPUs", "a list of pods has a line for each"));
    }
    Ok(pods)
}

fn pod(fields: &[&str]) -> Result<Need, Fault> {
    let [cpu_milli, memory_mb, gpus, share, types] = fields else {
        return Err(Fault::new("", "has another number of fields", "give every line as many fields"));
    };
    let gpus = field::whole("num_gpu", gpus, 0, i64::from(u16::MAX))?.unwrap_or(0);
    let share = field::whole("gpu_milli", share, 0, i64::from(WHOLE))?.unwrap_or(0);
    if gpus > 1 && share < i64::from(WHOLE) {
        return Err(Fault::new("gpu_milli", "shares more than one GPU", "write 1000 with several GPUs"));
    }
    Ok(Need {
        gpus: if share == 0 { 0 } else { u16::try_from(gpus).unwrap_or(u16::MAX) },
        share: if gpus == 0 || share == 0 { WHOLE } else { u16::try_from(share).unwrap_or(WHOLE) },
        types: types.split('|').filter(|kind| !kind.is_empty()).map(str::to_owned).collect(),
        cpu_milli: field::whole("cpu_milli", cpu_milli, 0, MOST_CPU_MILLI)?.unwrap_or(0),
        memory_mb: field::whole("memory_mib", memory_mb, 0, MOST_MEMORY_MB)?.unwrap_or(0),
    })
}

/// Fills `cluster` once for each of `seeds` seeds from `first` on until `part` of its GPU capacity has arrived.
#[must_use]
pub fn fill(
    pods: &[Need],
    cluster: &Cluster,
    placement: Placement,
    part: f64,
    first: u64,
    seeds: u32,
) -> Filled {
    let capacity = cluster.gpus() * u64::from(WHOLE);
    let usual = usual(pods);
    let mut shares = Vec::new();
    let (mut arrived, mut dropped, mut violations) = (0, 0, 0);
    for seed in (first..).take(seeds as usize) {
        let order = order(pods, (capacity as f64 * part) as u64, seed);
        let ledger = fill_once(&order, cluster, placement, &usual, &mut dropped);
        arrived += order.len();
        violations += ledger.violations;
        shares.push(100.0 * ledger.given as f64 / capacity.max(1) as f64);
    }
    let runs = shares.len().max(1) as f64;
    Filled {
        placement: name(placement).to_owned(),
        seeds,
        allocated: shares.iter().sum::<f64>() / runs,
        allocated_min: shares.iter().copied().fold(f64::INFINITY, f64::min),
        allocated_max: shares.iter().copied().fold(0.0, f64::max),
        pods: arrived as f64 / runs,
        dropped: f64::from(dropped) / runs,
        violations,
    }
}

fn fill_once<'a>(
    order: &[&Need],
    cluster: &'a Cluster,
    placement: Placement,
    usual: &Usual,
    dropped: &mut u32,
) -> Ledger<'a> {
    let mut policy = Policy::<u32>::new(Settings::default());
    let keys = cluster.devices.iter().map(|device| policy.add_device(device.clone()));
    let places: HashMap<DeviceKey, usize> = keys.zip(0..).collect();
    let devices = policy.cluster_mut();
    devices.usual = usual.clone();
    let mut ledger = Ledger::new(cluster);
    for pod in order {
        match devices.place(pod, placement) {
            Some((key, held)) => ledger.take(pod, places.get(&key).copied().unwrap_or(usize::MAX), &held),
            None => *dropped += 1,
        }
    }
    ledger
}

/// Pods until they want `wanted` thousandths of GPUs, in random order.
fn order(pods: &[Need], wanted: u64, seed: u64) -> Vec<&Need> {
    let mut chance = Chance::new(seed);
    let mut order: Vec<&Need> = pods.iter().collect();
    chance.shuffle(&mut order);
    let mut sum = 0;
    let enough = order.iter().position(|pod| {
        sum += pod.gpu_milli();
        sum >= wanted
    });
    match enough {
        Some(last) => order.truncate(last + 1),
        None => {
            while sum < wanted {
                let pod = &pods[chance.below(pods.len())];
                sum += pod.gpu_milli();
                order.push(pod);
            }
            chance.shuffle(&mut order);
        }
    }
    order
}

/// What usually comes: how often each need is in the list.
fn usual(pods: &[Need]) -> Usual {
    let mut times: BTreeMap<Need, u64> = BTreeMap::new();
    for pod in pods {
        *times.entry(pod.clone()).or_default() += 1;
    }
    Usual::new(times)
}

fn name(placement: Placement) -> &'static str {
    match placement {
        Placement::Pack => "pack",
        Placement::Spread => "spread",
        Placement::Fgd => "fgd",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_stop_where_they_should_and_the_list_is_used_first() {
        let pods = vec![Need::of_gpus(1), Need::of_gpus(2), Need { share: 500, ..Need::of_gpus(1) }];
        let short = order(&pods, 1_000, 5);
        assert!(short.len() <= 2, "{short:?}");
        let long = order(&pods, 100_000, 5);
        let milli: u64 = long.iter().map(|pod| pod.gpu_milli()).sum();
        assert!((100_000..102_000).contains(&milli), "{milli}");
        assert!(pods.iter().all(|pod| long.contains(&pod)));
        assert_eq!(order(&pods, 100_000, 5), long, "a seed is an order");
    }

    #[test]
    fn a_cluster_is_filled_and_no_more() {
        let cluster = crate::cluster::of_hosts(4, 8).unwrap();
        let filled = fill(&[Need::of_gpus(1)], &cluster, Placement::Pack, 1.3, 0, 3);
        assert_eq!((filled.allocated, filled.violations), (100.0, 0));
        assert_eq!((filled.pods, filled.dropped), (42.0, 10.0));
    }
}
