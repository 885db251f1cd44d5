//! Counts along, on its own: what the policy says must be possible on the cluster as it is.
//!
//! It knows nothing of the policy's books. Every GPU has at most one job, nothing starts before it was submitted or
//! twice, a job gets all its GPUs at once, of types that it accepts, and CPUs and memory never go below nothing.

use berth_policy::Time;

use crate::cluster::Cluster;
use crate::trace::Job;

/// Violations that are kept in words; more of them say nothing new.
const KEPT: usize = 10;

/// GPUs, CPUs and memory of one container on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The device's place in [`Cluster::devices`].
    pub device: usize,
    /// Bit i: the GPU at place i.
    pub gpus: u64,
    pub cpu_milli: i64,
    pub memory_mb: i64,
}

/// What is free of one device.
struct Free {
    gpus: u64,
    cpu_milli: i64,
    memory_mb: i64,
}

pub struct Audit<'a> {
    cluster: &'a Cluster,
    free: Vec<Free>,
    /// How often something was wrong.
    pub count: usize,
    /// The first few in words.
    pub found: Vec<String>,
}

impl<'a> Audit<'a> {
    #[must_use]
    pub fn new(cluster: &'a Cluster) -> Self {
        let free = cluster.devices.iter().map(|device| Free {
            gpus: mask(device.gpus.len()),
            cpu_milli: device.cpu_milli,
            memory_mb: device.memory_mb,
        });
        Self { cluster, free: free.collect(), count: 0, found: Vec::new() }
    }

    pub fn wrong(&mut self, what: String) {
        self.count += 1;
        if self.found.len() < KEPT {
            self.found.push(what);
        }
    }

    /// `job` starts at `now` with `parts`; `types` are those that it accepts, none: any.
    pub fn starts(&mut self, job: &Job, types: &[&str], parts: &[Part], now: Time) {
        let id = &job.id;
        if now < job.submit {
            self.wrong(format!("{id} starts {} ms before it is submitted", job.submit - now));
        }
        let gpus: u32 = parts.iter().map(|part| part.gpus.count_ones()).sum();
        if gpus != job.gpus || parts.is_empty() {
            self.wrong(format!("{id} starts with {gpus} of its {} GPUs", job.gpus));
        }
        for part in parts {
            self.takes(id, types, part);
        }
    }

    fn takes(&mut self, id: &str, types: &[&str], part: &Part) {
        let (Some(free), Some(device)) =
            (self.free.get_mut(part.device), self.cluster.devices.get(part.device))
        else {
            return self.wrong(format!("{id} starts on a device that there is not"));
        };
        let busy = part.gpus & !free.gpus;
        free.gpus &= !part.gpus;
        free.cpu_milli -= part.cpu_milli;
        free.memory_mb -= part.memory_mb;
        let short = free.cpu_milli < 0 || free.memory_mb < 0;
        let name = &device.name;
        if busy != 0 {
            self.wrong(format!(
                "{id} starts on GPUs of {name} that another has, or that there are not: {busy:#b}"
            ));
        }
        if short {
            self.wrong(format!("{id} takes more CPUs or memory than {name} has left"));
        }
        let of_type =
            |(place, kind): (usize, &String)| part.gpus >> place & 1 == 0 || types.contains(&kind.as_str());
        if !types.is_empty() && !device.gpus.iter().enumerate().all(of_type) {
            self.wrong(format!("{id} starts on a type of GPU of {name} that it does not accept"));
        }
    }

    /// What had `parts` has ended.
    pub fn ends(&mut self, id: &str, parts: &[Part]) {
        for part in parts {
            let Some(free) = self.free.get_mut(part.device) else { continue };
            let twice = free.gpus & part.gpus;
            free.gpus |= part.gpus;
            free.cpu_milli += part.cpu_milli;
            free.memory_mb += part.memory_mb;
            if twice != 0 {
                self.wrong(format!("{id} gives back GPUs that were free: {twice:#b}"));
            }
        }
    }

    /// At the very end nothing may be left over.
    pub fn over(&mut self) {
        let whole = |(free, device): (&Free, &berth_policy::device::Inventory)| {
            free.gpus == mask(device.gpus.len())
                && free.cpu_milli == device.cpu_milli
                && free.memory_mb == device.memory_mb
        };
        let kept = self.free.iter().zip(&self.cluster.devices).filter(|pair| !whole(*pair)).count();
        if kept > 0 {
            self.wrong(format!("{kept} devices are not free though every job has ended"));
        }
    }
}

/// So many bits, from the lowest on.
fn mask(gpus: usize) -> u64 {
    u32::try_from(gpus).ok().and_then(|gpus| 1_u64.checked_shl(gpus)).map_or(u64::MAX, |bit| bit - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cluster, trace};

    fn job() -> Job {
        let lines = crate::source::Lines::of("t".as_ref(), Box::new(&b"id,submit,dur,gpus\n7,5,1,2\n"[..]));
        trace::read_lines(lines, false).unwrap().jobs.remove(0)
    }

    fn part(device: usize, gpus: u64) -> Part {
        Part { device, gpus, cpu_milli: 0, memory_mb: 0 }
    }

    #[test]
    fn a_start_as_it_should_be_and_all_others() {
        let cluster = cluster::of_hosts(2, 4).unwrap();
        let mut audit = Audit::new(&cluster);
        audit.starts(&job(), &[], &[part(0, 0b11)], 5_000);
        audit.ends("7", &[part(0, 0b11)]);
        audit.over();
        assert_eq!(audit.count, 0, "{:?}", audit.found);
        audit.starts(&job(), &[], &[part(0, 0b11)], 5_000);
        assert_eq!(audit.count, 0, "{:?}", audit.found);
        for (parts, now, types, said) in [
            (vec![part(1, 0b11)], 4_999, vec![], "before it is submitted"),
            (vec![part(1, 0b1000)], 5_000, vec![], "1 of its 2 GPUs"),
            (vec![part(0, 0b110)], 5_000, vec![], "that another has"),
            (vec![part(1, 0b11_0000)], 5_000, vec![], "that there are not"),
            (vec![part(2, 0b11)], 5_000, vec![], "device that there is not"),
            (vec![part(0, 0b1100)], 5_000, vec!["A100"], "does not accept"),
        ] {
            audit.found.clear();
            audit.starts(&job(), &types, &parts, now);
            assert!(audit.found.iter().any(|found| found.contains(said)), "{said}: {:?}", audit.found);
        }
    }

    #[test]
    fn devices_with_64_gpus() {
        assert_eq!((mask(0), mask(3), mask(64)), (0, 7, u64::MAX));
    }
}
