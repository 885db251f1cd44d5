//! Reading the host: CPU and memory through sysinfo, disks and interfaces from `/proc`.
//!
//! Counters are read per disk and per interface and subtracted per disk and per interface: a sum
//! over all of them would jump when one comes or goes. Nothing else is refreshed; in particular no
//! list of processes, and no file system is asked for its size, which hangs on a dead NFS server.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

const MB: f64 = (1 << 20) as f64;
/// The unit of `/proc/diskstats`, whatever the disk's own sectors are.
const SECTOR: u64 = 512;

/// Keeps what sysinfo needs from one reading to the next.
pub(super) struct Host {
    system: System,
}

/// The host at one moment.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub at: Instant,
    /// Percent since the reading before.
    pub cpu: f64,
    pub memory_total_mb: f64,
    pub memory_used_mb: f64,
    /// Bytes read and written since the host started, by disk.
    pub disks: Counters,
    /// Bytes sent and received since the host started, by interface.
    pub interfaces: Counters,
}

pub(super) type Counters = BTreeMap<String, (u64, u64)>;

impl Host {
    pub(super) fn new() -> Result<Self, sysinfo::Error> {
        let kind = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        Ok(Self { system: System::new_with_specifics(kind)? })
    }

    /// Reads everything once; under a millisecond. Its `cpu` is right from the second reading on.
    pub(super) fn read(&mut self) -> Reading {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        Reading {
            at: Instant::now(),
            cpu: f64::from(self.system.global_cpu_usage()),
            memory_total_mb: to_mb(self.system.total_memory()),
            memory_used_mb: to_mb(self.system.used_memory()),
            disks: disks(&read("/proc/diskstats"), is_whole_disk),
            interfaces: interfaces(&read("/proc/net/dev")),
        }
    }
}

/// MB per second in both directions between two readings; `None` without a measured time between.
pub(super) fn rates(before: &Counters, after: &Counters, elapsed: Duration) -> Option<(f64, f64)> {
    let seconds = elapsed.as_secs_f64();
    if seconds <= 0.0 {
        return None;
    }
    let grown = after.iter().filter_map(|(name, new)| {
        let old = before.get(name)?;
        // A counter that went back belongs to a disk or interface that was replaced.
        Some((new.0.checked_sub(old.0)?, new.1.checked_sub(old.1)?))
    });
    let (first, second) =
        grown.fold((0, 0), |sum: (u64, u64), one| (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1)));
    Some((to_mb(first) / seconds, to_mb(second) / seconds))
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53 bytes, and nobody reads more digits")]
fn to_mb(bytes: u64) -> f64 {
    bytes as f64 / MB
}

/// What cannot be read is as if there were no disk and no interface.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Partitions have no entry of their own there, and what is made of other disks (RAID, LVM, loop)
/// has no hardware behind it, so nothing is counted twice.
fn is_whole_disk(name: &str) -> bool {
    Path::new("/sys/block").join(name).join("device").exists()
}

/// `/proc/diskstats`: major, minor, name, reads, merged, sectors read, ms, writes, merged, sectors
/// written, …
fn disks(text: &str, counts: impl Fn(&str) -> bool) -> Counters {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let name = *fields.get(2)?;
        let sectors = |i: usize| fields.get(i)?.parse::<u64>().ok();
        let (read, written) = (sectors(5)?, sectors(9)?);
        counts(name).then(|| (name.to_owned(), (read.saturating_mul(SECTOR), written.saturating_mul(SECTOR))))
    };
    text.lines().filter_map(line).collect()
}

/// `/proc/net/dev`: name: received bytes, seven more, sent bytes, …
fn interfaces(text: &str) -> Counters {
    let line = |line: &str| {
        let (name, fields) = line.split_once(':')?;
        let name = name.trim();
        let bytes = |i: usize| fields.split_whitespace().nth(i)?.parse::<u64>().ok();
        let (received, sent) = (bytes(0)?, bytes(8)?);
        leads_outside(name).then(|| (name.to_owned(), (sent, received)))
    };
    text.lines().filter_map(line).collect()
}

/// The host's own loop and Docker's bridges show traffic that stays inside, or a second time.
fn leads_outside(name: &str) -> bool {
    !(name == "lo" || name == "docker0" || name.starts_with("veth") || name.starts_with("br-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISKSTATS: &str = "\
   7       0 loop0 12 0 24 0 0 0 0 0 0 0 0 0 0 0 0 0 0
 259       0 nvme0n1 1000 10 4096 100 500 20 2048 300 0 400 500 0 0 0 0 0 0
 259       1 nvme0n1p1 900 10 4000 90 500 20 2048 300 0 400 500 0 0 0 0 0 0
 253       0 dm-0 900 0 4000 90 500 0 2048 300 0 400 500
 nonsense
";

    const NET_DEV: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:  999999      10    0    0    0     0          0         0   999999      10    0    0    0     0       0          0
  eth0: 5000000     100    0    0    0     0          0         0  3000000      90    0    0    0     0       0          0
docker0: 777       1    0    0    0     0          0         0  888       1    0    0    0     0       0          0
veth12ab: 777       1    0    0    0     0          0         0  888       1    0    0    0     0       0          0
br-9f8e: 777       1    0    0    0     0          0         0  888       1    0    0    0     0       0          0
";

    #[test]
    fn only_whole_disks_count() {
        let found = disks(DISKSTATS, |name| name == "nvme0n1");
        assert_eq!(found, Counters::from([("nvme0n1".into(), (4096 * 512, 2048 * 512))]));
    }

    #[test]
    fn only_interfaces_to_the_outside_count() {
        assert_eq!(interfaces(NET_DEV), Counters::from([("eth0".into(), (3_000_000, 5_000_000))]));
    }

    #[test]
    fn rates_are_divided_by_the_measured_time() {
        let mb = 1 << 20;
        let before = Counters::from([
            ("a".into(), (mb, mb)),
            ("replaced".into(), (9 * mb, 9 * mb)),
            ("gone".into(), (mb, mb)),
        ]);
        let after = Counters::from([
            ("a".into(), (11 * mb, 6 * mb)),
            ("replaced".into(), (0, 0)),
            ("new".into(), (500 * mb, 500 * mb)),
        ]);
        assert_eq!(rates(&before, &after, Duration::from_secs(5)), Some((2.0, 1.0)));
        assert_eq!(rates(&before, &after, Duration::ZERO), None);
    }

    #[test]
    fn this_host_can_be_read() {
        let reading = Host::new().expect("Linux").read();
        assert!(reading.memory_total_mb > 0.0 && reading.memory_used_mb > 0.0, "{reading:?}");
    }
}
