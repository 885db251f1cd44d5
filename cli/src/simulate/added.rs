//! `--add 2x8`: hosts that are not there.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use berth_policy::device::{Inventory, MAX_GPUS};

/// The policy is built for ten thousand.
const MOST_HOSTS: usize = 10_000;
/// Where nobody knows how much a host has, enough for anybody.
const PLENTY: i64 = 1 << 40;

/// So many hosts with so many GPUs each, of a type that may be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    hosts: usize,
    gpus: usize,
    kind: Option<String>,
}

impl FromStr for Added {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form =
            || format!("{text:?}: write hosts x GPUs, and a type if need be, e.g. 2x8 or 2x8xA100-80GB");
        let mut parts = text.splitn(3, 'x');
        let mut number = |most| {
            let number = parts.next().and_then(|part| part.parse().ok()).ok_or_else(form)?;
            if (1..=most).contains(&number) {
                Ok(number)
            } else {
                Err(format!("{text:?}: from 1 to {MOST_HOSTS} hosts, with 1 to {MAX_GPUS} GPUs each"))
            }
        };
        let (hosts, gpus) = (number(MOST_HOSTS)?, number(MAX_GPUS)?);
        match parts.next() {
            Some("") => Err(form()),
            kind => Ok(Self { hosts, gpus, kind: kind.map(str::to_owned) }),
        }
    }
}

impl fmt::Display for Added {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.hosts, self.gpus)?;
        self.kind.iter().try_for_each(|kind| write!(f, "x{kind}"))
    }
}

/// The hosts themselves. What is not said of them is as in `cluster`: the type that most GPUs have, and for each GPU as
/// many CPUs and as much memory as on the host that has most.
#[must_use]
pub fn hosts(added: &[Added], cluster: &[&Inventory]) -> Vec<Inventory> {
    let usual = usual_type(cluster);
    let per_gpu = |of: fn(&Inventory) -> i64| {
        let with_gpus = cluster.iter().filter(|device| !device.gpus.is_empty());
        with_gpus.map(|device| of(device) / device.gpus.len() as i64).max()
    };
    let (cpu_milli, memory_mb) = (per_gpu(|device| device.cpu_milli), per_gpu(|device| device.memory_mb));
    let of_each = |each: Option<i64>, gpus: usize| each.map_or(PLENTY, |each| each * gpus as i64);
    let groups = added.iter().enumerate().flat_map(|(place, group)| {
        let kind = group.kind.as_deref().unwrap_or(usual);
        (1..=group.hosts).map(move |number| Inventory {
            // No device of the cluster is called like that.
            name: format!("+{}-{number}", place + 1),
            gpus: vec![kind.to_owned(); group.gpus],
            cpu_milli: of_each(cpu_milli, group.gpus),
            memory_mb: of_each(memory_mb, group.gpus),
            labels: BTreeMap::new(),
        })
    });
    groups.collect()
}

fn usual_type<'a>(cluster: &[&'a Inventory]) -> &'a str {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for kind in cluster.iter().flat_map(|device| &device.gpus) {
        *times.entry(kind).or_default() += 1;
    }
    times.into_iter().max_by_key(|(_, times)| *times).map_or("GPU", |(kind, _)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_gpus_and_perhaps_a_type() {
        for text in ["2x8", "2x8xA100-80GB", "1x64xRTX6000x"] {
            assert_eq!(text.parse::<Added>().expect("reads").to_string(), text);
        }
        for bad in ["", "2", "x8", "2x", "0x8", "2x65", "-1x8", "99999x1", "2x8x", "two"] {
            assert!(bad.parse::<Added>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_said_is_as_in_the_cluster() {
        let device = |kind: &str, gpus: usize, cpus: i64| Inventory {
            name: "a".into(),
            gpus: vec![kind.to_owned(); gpus],
            cpu_milli: cpus * 1_000,
            memory_mb: 4_096,
            labels: BTreeMap::new(),
        };
        let (a, b) = (device("T4", 4, 16), device("A100", 2, 16));
        let added: Vec<Added> = ["2x8", "1x1xH100"].map(|text| text.parse().expect("reads")).into();
        let hosts = hosts(&added, &[&a, &b]);
        assert_eq!(hosts.iter().map(|host| host.gpus.len()).collect::<Vec<_>>(), [8, 8, 1]);
        assert_eq!((hosts[0].gpus[0].as_str(), hosts[2].gpus[0].as_str()), ("T4", "H100"));
        assert_eq!((hosts[0].cpu_milli, hosts[0].memory_mb), (64_000, 16_384));
    }
}
