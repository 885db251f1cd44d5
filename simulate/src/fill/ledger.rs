//! Counts along, on its own, what pods have of each GPU: none more than all of it, none of a type that it does not accept.

use berth_policy::demand::{Need, WHOLE};
use berth_policy::device::Held;

use crate::cluster::Cluster;

/// What is left of one device: thousandths of each GPU, CPUs and memory.
struct Left {
    gpus: Vec<i32>,
    cpu_milli: i64,
    memory_mb: i64,
}

pub struct Ledger<'a> {
    cluster: &'a Cluster,
    left: Vec<Left>,
    /// Of all that was given, thousandths of GPUs.
    pub given: u64,
    pub violations: usize,
}

impl<'a> Ledger<'a> {
    #[must_use]
    pub fn new(cluster: &'a Cluster) -> Self {
        let left = cluster.devices.iter().map(|device| Left {
            gpus: vec![i32::from(WHOLE); device.gpus.len()],
            cpu_milli: device.cpu_milli,
            memory_mb: device.memory_mb,
        });
        Self { cluster, left: left.collect(), given: 0, violations: 0 }
    }

    /// `pod` is placed on the device at `place` of the cluster's list.
    pub fn take(&mut self, pod: &Need, place: usize, held: &Held) {
        self.violations += usize::from(!self.may_take(pod, place, held));
        self.given += pod.gpu_milli();
    }

    fn may_take(&mut self, pod: &Need, place: usize, held: &Held) -> bool {
        let (Some(left), Some(device)) = (self.left.get_mut(place), self.cluster.devices.get(place)) else {
            return false;
        };
        left.cpu_milli -= pod.cpu_milli;
        left.memory_mb -= pod.memory_mb;
        let mut fits =
            left.cpu_milli >= 0 && left.memory_mb >= 0 && held.gpus.count_ones() == u32::from(pod.gpus);
        for gpu in (0..64).filter(|gpu| held.gpus >> gpu & 1 == 1) {
            let (Some(of_gpu), Some(kind)) = (left.gpus.get_mut(gpu), device.gpus.get(gpu)) else {
                return false;
            };
            *of_gpu -= i32::from(pod.share);
            fits &= *of_gpu >= 0 && pod.accepts(kind);
        }
        fits
    }
}
