//! Time limits: how long an attempt may run, and what its devices are told of it.
//!
//! The worker holds a container to its limit by Docker's clock; the leader does the same by its own,
//! for what the worker cannot.

use berth_common::id::{JobId, Replica};
use berth_common::message::{Limit, Order, PROTOCOL};
use berth_common::spec::JobSpec;
use jiff::Timestamp;

use super::Core;

impl Core {
    /// The seconds that an attempt may run: the job's own limit, else its queue's usual one, else the longest
    /// that its queue allows.
    pub(super) fn limit_s(&self, spec: &JobSpec) -> Option<u64> {
        spec.timeout_s.or_else(|| self.queues.get(&spec.queue)?.limit_of_others_s())
    }

    /// The limit of a job is another one now.
    pub(super) fn tell_limit(&mut self, id: JobId, now: Timestamp) {
        let Some(job) = self.jobs.get(&id) else { return };
        let live: Vec<(Replica, i64)> = job.live().map(|c| (c.replica, c.did)).collect();
        for (replica, did) in live {
            self.send_limit(replica, did, now);
        }
    }

    /// A new session has begun: a change that the one before did not take is lost.
    pub(super) fn tell_limits_again(&mut self, did: i64, now: Timestamp) {
        let containers: Vec<Replica> = self.devices[&did].containers.iter().copied().collect();
        for replica in containers {
            self.send_limit(replica, did, now);
        }
    }

    fn send_limit(&mut self, replica: Replica, did: i64, now: Timestamp) {
        let Some(job) = self.jobs.get(&replica.job) else { return };
        // A worker of the version before does not know this order; there the leader's clock counts.
        if self.devices.get(&did).is_some_and(|device| device.protocol >= PROTOCOL) {
            let timeout_s = self.limit_s(&job.row.spec);
            self.send(did, Order::Limit(Limit { replica, timeout_s }), now);
        }
    }
}
