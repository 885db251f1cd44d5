//! What this device has, as its heartbeats tell it: measured, unless the configuration declares
//! something else (a development machine that plays a larger one).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;

use berth_common::inventory::Inventory;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::gpu::{Probe, ProbeError};

const MB: u64 = 1 << 20;

/// What is configured instead of measured, and what only the caller knows.
#[derive(Debug)]
pub struct Params<'a> {
    /// Instead of the host's CPUs.
    pub cpu_milli: Option<i64>,
    /// Instead of the host's memory.
    pub memory_mb: Option<i64>,
    pub labels: &'a BTreeMap<String, String>,
    /// Docker's version, and what else a person wants to know at a glance.
    pub engine: String,
    pub data_dir: &'a Path,
    pub pub_dir: Option<&'a Path>,
}

/// Reads the host once; costs a few milliseconds, with NVML up to seconds. On an error of NVML the
/// inventory from before still counts.
pub async fn measure(params: &Params<'_>, probe: &Probe) -> Result<Inventory, ProbeError> {
    let gpus = probe.gpus().await?;
    let links = probe.links(&gpus).await;
    let host = Host::read();
    Ok(Inventory {
        ip: own_address().to_string(),
        cpu_milli: params.cpu_milli.unwrap_or(host.cpu_milli),
        cpu_name: host.cpu_name,
        memory_mb: params.memory_mb.unwrap_or(host.memory_mb),
        gpus,
        gpus_declared: probe.is_declared(),
        links,
        engine: params.engine.clone(),
        data_dir: params.data_dir.display().to_string(),
        pub_dir: params.pub_dir.map(|path| path.display().to_string()),
        labels: params.labels.clone(),
    })
}

/// The host's own figures, not the limits of the worker's cgroup: containers are Docker's children,
/// and live outside of it.
struct Host {
    cpu_milli: i64,
    cpu_name: String,
    memory_mb: i64,
}

impl Host {
    fn read() -> Self {
        let kind = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let Ok(system) = System::new_with_specifics(kind) else {
            return Self { cpu_milli: 0, cpu_name: String::new(), memory_mb: 0 };
        };
        let cpus = system.cpus();
        Self {
            cpu_milli: i64::try_from(cpus.len() * 1000).unwrap_or(i64::MAX),
            cpu_name: cpus.first().map(|cpu| cpu.brand().trim().to_owned()).unwrap_or_default(),
            memory_mb: i64::try_from(system.total_memory() / MB).unwrap_or(i64::MAX),
        }
    }
}

/// The address from which the host speaks to the world. "Connecting" a UDP socket asks the routing
/// table and sends nothing; the addresses are those reserved for documentation.
fn own_address() -> IpAddr {
    let routed = |from: &str, to: &str| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    routed("0.0.0.0", "192.0.2.1")
        .or_else(|| routed("::", "2001:db8::1"))
        .or_else(first_interface)
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// Without a default route: the first address that is not the host's own loop.
fn first_interface() -> Option<IpAddr> {
    let networks = sysinfo::Networks::new_with_refreshed_list().ok()?;
    let mut addresses: Vec<IpAddr> =
        networks.values().flat_map(|data| data.ip_networks()).map(|network| network.addr).collect();
    addresses.retain(|address| !address.is_loopback() && !address.is_unspecified());
    // IPv4 first, then the smallest, so that the answer does not change from one call to the next.
    addresses.sort();
    addresses.first().copied()
}

#[cfg(test)]
mod tests {
    use berth_common::inventory::{GpuSource, declared_gpus};

    use super::*;
    use crate::gpu::Script;

    static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

    fn params<'a>() -> Params<'a> {
        Params {
            cpu_milli: None,
            memory_mb: None,
            labels: &NO_LABELS,
            engine: "Docker 20.10".into(),
            data_dir: Path::new("/data"),
            pub_dir: None,
        }
    }

    #[tokio::test]
    async fn the_host_is_measured() {
        let inventory = measure(&params(), &Probe::None).await.expect("nothing of NVML's");
        assert!(inventory.cpu_milli >= 1000, "{inventory:?}");
        assert!(inventory.memory_mb >= 256, "{inventory:?}");
        assert!(inventory.ip.parse::<IpAddr>().is_ok(), "{inventory:?}");
        assert!(inventory.gpus.is_empty() && !inventory.gpus_declared, "{inventory:?}");
    }

    #[tokio::test]
    async fn what_is_declared_counts() {
        let source: GpuSource = "4xT4".parse().expect("a declaration");
        let labels = BTreeMap::from([("rack".to_owned(), "b2".to_owned())]);
        let declared = Params {
            cpu_milli: Some(64_000),
            memory_mb: Some(512),
            labels: &labels,
            pub_dir: Some(Path::new("/pub")),
            ..params()
        };
        let inventory = measure(&declared, &Probe::new(&source, "dev-1")).await.expect("nothing of NVML's");
        assert_eq!((inventory.cpu_milli, inventory.memory_mb), (64_000, 512));
        assert_eq!(inventory.labels, labels);
        assert_eq!(inventory.pub_dir.as_deref(), Some("/pub"));
        assert!(inventory.gpus_declared);
        assert_eq!(inventory.gpus.len(), 4);
    }

    #[tokio::test]
    async fn the_links_of_measured_gpus_are_told() {
        let gpus = declared_gpus("measured", &[(2, "A100-80GB".into())]);
        let links = vec![vec![0, 22], vec![22, 0]];
        let script = Script::new(Ok(gpus.clone()), Vec::new()).with_links(links.clone());
        let inventory = measure(&params(), &Probe::Scripted(script)).await.expect("nothing of NVML's");
        assert_eq!((&inventory.gpus, &inventory.links), (&gpus, &links));
        assert_eq!(inventory.check(), Ok(()));
    }
}
