//! What queues have had of the cluster, which decides whose turn it is: kept over the end of a leader.

use berth_common::time::ms_between;
use jiff::Timestamp;

use super::Core;
use super::plan::ms;
use super::rows::QueueUsageRow;

/// It is written this often: so much of it is lost at most.
const KEPT_EVERY_MS: i64 = 60_000;

impl Core {
    /// As it was written last; a queue of which nothing was has had nothing.
    pub(super) fn load_shares(&mut self, rows: &[QueueUsageRow], now: Timestamp) {
        for name in self.queues.keys() {
            let Some(key) = self.plan.queue(name) else { continue };
            let row = rows.iter().find(|row| row.queue == *name);
            #[allow(clippy::cast_precision_loss, reason = "2^53 GPU-milliseconds are 285,000 GPU-years")]
            let (gpu_ms, at) = row.map_or((0.0, now), |row| (row.gpu_ms as f64, row.at));
            self.plan.policy.set_usage(key, gpu_ms, ms(at));
        }
    }

    /// Has it written, where it has changed.
    pub(super) fn keep_shares(&mut self, now: Timestamp) {
        if ms_between(self.shares_kept, now) < KEPT_EVERY_MS {
            return;
        }
        let since = ms(self.shares_kept);
        self.shares_kept = now;
        for name in self.queues.keys() {
            let policy = &self.plan.policy;
            let used = self.plan.queue(name).filter(|key| policy.has_used_since(*key, since));
            let Some(key) = used else { continue };
            #[allow(clippy::cast_possible_truncation, reason = "as above")]
            let gpu_ms = policy.usage(key, ms(now)).round() as i64;
            let row = QueueUsageRow { queue: name.clone(), gpu_ms, at: now };
            self.changes.queue_usages.push(row);
        }
    }
}
