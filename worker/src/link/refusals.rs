//! Heartbeats that the leader refuses: another living worker has the name, this one is too old, or it
//! obeys another installation.
//!
//! What must always hold: a worker that the leader does not hear wins no time by what the broker confirms;
//! one that obeys another installation keeps its containers.

use std::collections::BTreeSet;

use berth_common::broker::Subscriber;
use berth_common::message::Reply;
use berth_common::problem::Problem;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agent::{self, Refusal};
use crate::lease::Lease;

/// Different ones that are remembered as told; there are only a few.
const MAX_TOLD: usize = 100;

/// Each is told once, though heartbeats come every few seconds.
pub struct Refusals {
    told: BTreeSet<String>,
    last: watch::Sender<Option<Instant>>,
    lease: Lease,
}

impl Refusals {
    /// With when the last one came.
    pub fn new(lease: Lease) -> (Self, watch::Receiver<Option<Instant>>) {
        let (last, seen) = watch::channel(None);
        (Self { told: BTreeSet::new(), last, lease }, seen)
    }

    /// Hears them until `stop`.
    pub async fn hear_all(mut self, mut replies: Subscriber, stop: CancellationToken) {
        while let Some(Some(delivery)) = stop.run_until_cancelled(replies.deliveries.recv()).await {
            if let Some(why) = self.hear(&delivery.body) {
                tracing::warn!(why, "the scheduler refuses this worker");
            }
            delivery.ack().await;
        }
    }

    /// Why, where that was not told before.
    fn hear(&mut self, body: &[u8]) -> Option<String> {
        let reply: Reply = serde_json::from_slice(body).ok()?;
        match agent::refusal(reply.status)? {
            Refusal::OtherInstallation => {}
            Refusal::NotHeard => self.lease.refused(),
        }
        self.last.send_replace(Some(Instant::now()));
        let problem = serde_json::from_value::<Problem>(reply.body);
        let why = problem.map_or_else(|_| format!("status {}", reply.status), |problem| problem.detail);
        if self.told.len() >= MAX_TOLD {
            self.told.clear();
        }
        self.told.insert(why.clone()).then_some(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::BootTime;
    use crate::lease::Holder;
    use crate::scratch::Scratch;
    use std::time::Duration;

    fn lease(dir: &Scratch) -> Lease {
        let fence_after = Some(Duration::from_secs(240));
        let holder = Holder { device: "gpu1".into(), instance: None, docker_host: None, fence_after };
        Lease::open(dir, holder).expect("writable")
    }

    #[test]
    fn each_reason_is_told_once() {
        let refusal = |status: u16, why: &str| {
            let body = serde_json::to_value(Problem::new(status, why)).expect("json");
            serde_json::to_vec(&Reply { status, body }).expect("json")
        };
        let dir = Scratch::new();
        let (mut refusals, last) = Refusals::new(lease(&dir));
        let taken = refusal(409, "another worker has the name gpu1");
        assert_eq!(*last.borrow(), None);
        assert_eq!(refusals.hear(&taken).as_deref(), Some("another worker has the name gpu1"));
        assert_eq!(refusals.hear(&taken), None);
        assert!(last.borrow().is_some());
        assert_eq!(refusals.hear(&refusal(426, "too old")).as_deref(), Some("too old"));
        assert_eq!(refusals.hear(&refusal(200, "welcome")), None);
        assert_eq!(refusals.hear(b"{"), None);
    }

    #[test]
    fn the_lease_of_another_installation_goes_on_and_that_of_a_name_in_use_does_not() {
        let dir = Scratch::new();
        let lease = lease(&dir);
        let (mut refusals, _last) = Refusals::new(lease.clone());
        let mut hear = |status: u16| {
            let body = serde_json::to_value(Problem::new(status, "no")).expect("json");
            refusals.hear(&serde_json::to_vec(&Reply { status, body }).expect("json"));
        };
        let later = |s| BootTime::now().plus(Duration::from_secs(s));
        hear(421);
        assert!(lease.renew(later(1)));
        hear(409);
        assert!(!lease.renew(later(5)));
    }
}
