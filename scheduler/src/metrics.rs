//! What the leader shows of itself in `/metrics`.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

use crate::core::Core;

/// Upper bounds in seconds: from one row on a local database to one that is in trouble.
const COMMIT_S: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

#[derive(Clone)]
pub struct LeaderMetrics {
    commit_seconds: Histogram,
    dropped_reports: IntCounter,
    jobs: IntGauge,
    waiting: IntGauge,
    reserved: IntGauge,
    outbox: IntGauge,
}

impl LeaderMetrics {
    /// # Panics
    /// When a metric of one of these names is registered already.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let gauge = |name, help| IntGauge::new(name, help).expect("the name is valid");
        let commit =
            HistogramOpts::new("berth_commit_seconds", "Seconds that the transaction of a batch took.");
        let this = Self {
            commit_seconds: Histogram::with_opts(commit.buckets(COMMIT_S.to_vec()))
                .expect("the name is valid"),
            dropped_reports: IntCounter::new(
                "berth_dropped_reports_total",
                "Reports of workers about containers that the leader does not know.",
            )
            .expect("the name is valid"),
            jobs: gauge("berth_jobs_unfinished", "Jobs that have not exited (0 on a standby)."),
            waiting: gauge("berth_jobs_pending", "Jobs that wait (0 on a standby)."),
            reserved: gauge("berth_gpus_reserved", "GPUs that are reserved (0 on a standby)."),
            outbox: gauge("berth_outbox", "Messages to devices that the broker has not confirmed."),
        };
        let all: [Box<dyn prometheus::core::Collector>; 6] = [
            Box::new(this.commit_seconds.clone()),
            Box::new(this.dropped_reports.clone()),
            Box::new(this.jobs.clone()),
            Box::new(this.waiting.clone()),
            Box::new(this.reserved.clone()),
            Box::new(this.outbox.clone()),
        ];
        for metric in all {
            registry.register(metric).expect("the leader is registered once per registry");
        }
        this
    }

    pub fn committed(&self, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
    }

    pub fn dropped(&self, n: u64) {
        self.dropped_reports.inc_by(n);
    }

    pub fn show(&self, core: &Core, outbox: usize) {
        let set = |gauge: &IntGauge, n: usize| gauge.set(i64::try_from(n).unwrap_or(i64::MAX));
        set(&self.jobs, core.job_count());
        set(&self.waiting, core.pending_count());
        set(&self.reserved, core.reserved_gpus());
        set(&self.outbox, outbox);
    }

    /// The reign is over: what it counted is somebody else's to show.
    pub fn forget(&self) {
        for gauge in [&self.jobs, &self.waiting, &self.reserved, &self.outbox] {
            gauge.set(0);
        }
    }
}
