//! Heartbeats that the leader refuses: another living worker has the name, or this one is too old.

use std::collections::BTreeSet;

use berth_common::broker::Delivery;
use berth_common::message::Reply;
use berth_common::problem::Problem;

/// Different ones that are remembered as told; there are only a few.
const MAX_TOLD: usize = 100;

/// Each is told once, though heartbeats come every few seconds.
#[derive(Debug, Default)]
pub struct Refusals {
    told: BTreeSet<String>,
}

impl Refusals {
    pub fn hear(&mut self, delivery: &Delivery) {
        if let Some(why) = self.news(&delivery.body) {
            tracing::warn!(why, "the scheduler refuses this worker");
        }
    }

    /// Why, where that was not told before.
    fn news(&mut self, body: &[u8]) -> Option<String> {
        let reply: Reply = serde_json::from_slice(body).ok()?;
        if reply.status < 400 {
            return None;
        }
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

    #[test]
    fn each_reason_is_told_once() {
        let refusal = |status: u16, why: &str| {
            let body = serde_json::to_value(Problem::new(status, why)).expect("json");
            serde_json::to_vec(&Reply { status, body }).expect("json")
        };
        let mut refusals = Refusals::default();
        let taken = refusal(409, "another worker has the name gpu1");
        assert_eq!(refusals.news(&taken).as_deref(), Some("another worker has the name gpu1"));
        assert_eq!(refusals.news(&taken), None);
        assert_eq!(refusals.news(&refusal(426, "too old")).as_deref(), Some("too old"));
        assert_eq!(refusals.news(&refusal(200, "welcome")), None);
        assert_eq!(refusals.news(b"{"), None);
    }
}
