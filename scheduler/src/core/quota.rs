//! Quotas per user: how many GPUs somebody may have in use and waiting in one queue.
//!
//! A job counts against every type that it may get, so that naming several types, or none, is no way
//! around a quota.

use std::collections::{BTreeMap, HashMap};

use berth_common::queue::{ANY_TYPE, Queue};
use berth_common::spec::JobSpec;

use super::rows::JobRow;

/// What the admitted jobs of each user ask for, by queue.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    of: HashMap<(String, String), Asked>,
    /// Admitted jobs by queue.
    jobs: HashMap<String, u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Asked {
    total: u64,
    /// By jobs that take any type.
    untyped: u64,
    by_type: BTreeMap<String, u64>,
    jobs: u64,
}

/// A cap of a queue that a job would exceed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    pub kind: String,
    pub used: u64,
    pub asked: u64,
    pub cap: u64,
}

impl Usage {
    pub fn add(&mut self, job: &JobRow) {
        *self.jobs.entry(job.spec.queue.clone()).or_default() += 1;
        let asked = self.of.entry(key(job)).or_default();
        let gpus = job.spec.gpus();
        asked.jobs += 1;
        asked.total += gpus;
        if job.spec.resources.gpu_type.is_empty() {
            asked.untyped += gpus;
        }
        for kind in &job.spec.resources.gpu_type {
            *asked.by_type.entry(kind.clone()).or_default() += gpus;
        }
    }

    /// The reverse of [`Self::add`].
    pub fn remove(&mut self, job: &JobRow) {
        let Some(asked) = self.of.get_mut(&key(job)) else { return };
        let gpus = job.spec.gpus();
        asked.jobs -= 1;
        asked.total -= gpus;
        if job.spec.resources.gpu_type.is_empty() {
            asked.untyped -= gpus;
        }
        for kind in &job.spec.resources.gpu_type {
            if let Some(of_kind) = asked.by_type.get_mut(kind) {
                *of_kind -= gpus;
            }
        }
        asked.by_type.retain(|_, gpus| *gpus > 0);
        if asked.jobs == 0 {
            self.of.remove(&key(job));
        }
        if let Some(jobs) = self.jobs.get_mut(&job.spec.queue) {
            *jobs -= 1;
            if *jobs == 0 {
                self.jobs.remove(&job.spec.queue);
            }
        }
    }

    /// The first cap of `queue` that `owner` would exceed with one more job.
    #[must_use]
    pub fn exceeded(&self, queue: &Queue, owner: &str, spec: &JobSpec) -> Option<Exceeded> {
        let asked = spec.gpus();
        if asked == 0 || queue.user_quota.is_empty() {
            return None;
        }
        let none = Asked::default();
        let used = self.of.get(&(queue.name.clone(), owner.to_owned())).unwrap_or(&none);
        let kinds = &spec.resources.gpu_type;
        let mut caps = queue.user_quota.iter().filter_map(|(kind, &cap)| {
            let used = if kind == ANY_TYPE {
                used.total
            } else if kinds.is_empty() || kinds.contains(kind) {
                used.untyped + used.by_type.get(kind).copied().unwrap_or_default()
            } else {
                return None;
            };
            Some(Exceeded { kind: kind.clone(), used, asked, cap: u64::from(cap) })
        });
        caps.find(|cap| cap.used + cap.asked > cap.cap)
    }

    /// Admitted jobs of everybody in one queue.
    #[must_use]
    pub fn jobs_in(&self, queue: &str) -> u64 {
        self.jobs.get(queue).copied().unwrap_or_default()
    }

    /// Admitted jobs of everybody: for [`super::check`].
    #[must_use]
    pub fn jobs(&self) -> u64 {
        self.of.values().map(|asked| asked.jobs).sum()
    }
}

fn key(job: &JobRow) -> (String, String) {
    (job.spec.queue.clone(), job.owner.clone())
}
