//! Whether what workers tell reaches the leader: it sends itself a marker through `berth.events`,
//! and as long as markers come back, heartbeats would come too.
//!
//! Only then does silence say something about a device. A lost connection, a broker that takes
//! nothing, a leader that was frozen: each of them stops the markers first.

use std::time::Duration;

use berth_common::broker::{Message, Publisher, topology};
use berth_common::id::CELL;
use berth_common::message::MARKER;
use tokio::time::Instant;

/// How often a marker is sent: like a heartbeat.
const EVERY: Duration = Duration::from_secs(5);
/// Without a marker sent in the last so many seconds, nothing is heard.
const DEAF_AFTER: Duration = Duration::from_secs(20);
/// A marker that was not read in time says nothing.
const EXPIRES_MS: u64 = 15_000;
/// Markers on their way; more are as good as lost.
const MAX_SENT: usize = 8;

pub(super) struct Ear {
    /// When each marker that has not come back was sent.
    sent: Vec<(u64, Instant)>,
    last_sent: Option<Instant>,
    /// When the newest marker that came back was sent.
    heard: Option<Instant>,
}

impl Ear {
    pub fn new() -> Self {
        Self { sent: Vec::new(), last_sent: None, heard: None }
    }

    /// The next marker, when it is time for one.
    pub fn due(&mut self, now: Instant) -> Option<u64> {
        if self.last_sent.is_some_and(|at| now.duration_since(at) < EVERY) {
            return None;
        }
        self.last_sent = Some(now);
        if self.sent.len() == MAX_SENT {
            self.sent.remove(0);
        }
        // Nobody else's marker has this number: not those of a leader before us.
        let number = rand::random();
        self.sent.push((number, now));
        Some(number)
    }

    /// A marker has come through.
    pub fn came(&mut self, number: u64) {
        if let Some(place) = self.sent.iter().position(|(sent, _)| *sent == number) {
            self.heard = self.heard.max(Some(self.sent[place].1));
            self.sent.drain(..=place);
        }
    }

    pub fn hears(&self, now: Instant) -> bool {
        self.heard.is_some_and(|at| now.duration_since(at) < DEAF_AFTER)
    }
}

/// Sends a marker; that it is lost shows by itself.
pub(super) async fn send(publisher: Publisher, number: u64) {
    let key = topology::leader_event_key(CELL);
    let body = serde_json::to_vec(&number).expect("a number is plain JSON");
    let message = Message::new(topology::EVENTS, key, MARKER, number.to_string(), body);
    let _ = publisher.publish(Message { expires_ms: Some(EXPIRES_MS), ..message }).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_hears_as_long_as_markers_of_its_own_come_back_soon() {
        let mut ear = Ear::new();
        let began = Instant::now();
        let after = |s| began + Duration::from_secs(s);
        assert!(!ear.hears(began));
        let first = ear.due(began).expect("the first is due at once");
        assert_eq!(ear.due(after(4)), None);
        ear.came(first.wrapping_add(1));
        assert!(!ear.hears(after(4)), "somebody else's");
        ear.came(first);
        assert!(ear.hears(after(19)));
        assert!(!ear.hears(after(20)), "it was sent too long ago, however late it came");
        let second = ear.due(after(20)).expect("due again");
        ear.came(second);
        assert!(ear.hears(after(25)));
    }
}
