//! What a job of a trace asks of a cluster, and whether the cluster could ever give it.

use std::collections::HashMap;

use berth_policy::Policy;
use berth_policy::demand::{Demand, Need, WHOLE};

use crate::cluster::Cluster;
use crate::trace::{Job, Trace};

/// Shapes that are remembered: jobs of real traces have a few hundred.
const REMEMBERED: usize = 100_000;

/// GPUs, GPU type, CPUs and memory.
type Shape = (u32, u32, i64, i64);

pub struct Shapes<'a> {
    cluster: &'a Cluster,
    trace: &'a Trace,
    /// By GPU type of the trace: the most GPUs of it on one device.
    widest: HashMap<u32, u16>,
    known: HashMap<Shape, Option<Demand>>,
}

impl<'a> Shapes<'a> {
    #[must_use]
    pub fn new(cluster: &'a Cluster, trace: &'a Trace) -> Self {
        Self { cluster, trace, widest: HashMap::new(), known: HashMap::new() }
    }

    /// The types that a job accepts; none: any.
    #[must_use]
    pub fn types(&self, job: &Job) -> Vec<&'a str> {
        let text = if self.cluster.typed { self.trace.types.text(job.gpu_type) } else { "" };
        text.split('|').map(str::trim).filter(|kind| !kind.is_empty()).collect()
    }

    /// None: this cluster could never run it.
    pub fn demand(&mut self, job: &Job, policy: &Policy<u32>) -> Option<Demand> {
        let shape = (job.gpus, job.gpu_type, job.cpu_milli, job.memory_mb);
        if let Some(known) = self.known.get(&shape) {
            return known.clone();
        }
        if self.known.len() == REMEMBERED {
            self.known.clear();
        }
        let demand = self.ask(job).filter(|demand| policy.can_ever_run(demand));
        self.known.insert(shape, demand.clone());
        demand
    }

    fn ask(&mut self, job: &Job) -> Option<Demand> {
        let types: Vec<String> = self.types(job).into_iter().map(str::to_owned).collect();
        let widest = self.widest(job.gpu_type, &types);
        if job.gpus > 0 && widest == 0 {
            return None;
        }
        let mut demand = Demand::spanning(job.gpus, widest);
        let (cpu_milli, memory_mb) =
            if self.cluster.measured { (job.cpu_milli, job.memory_mb) } else { (0, 0) };
        for (need, _) in &mut demand.parts {
            // Each container has CPUs and memory in proportion to its GPUs.
            let of =
                |all: i64| if job.gpus == 0 { all } else { all * i64::from(need.gpus) / i64::from(job.gpus) };
            let part = (of(cpu_milli), of(memory_mb));
            *need = Need {
                gpus: need.gpus,
                share: WHOLE,
                types: types.clone(),
                cpu_milli: part.0,
                memory_mb: part.1,
            };
        }
        Some(demand)
    }

    fn widest(&mut self, gpu_type: u32, types: &[String]) -> u16 {
        let cluster = self.cluster;
        *self.widest.entry(gpu_type).or_insert_with(|| {
            let accepted = |kind: &&String| types.is_empty() || types.contains(kind);
            let counts = cluster.devices.iter().map(|device| device.gpus.iter().filter(accepted).count());
            counts.max().and_then(|most| u16::try_from(most).ok()).unwrap_or(0)
        })
    }
}
