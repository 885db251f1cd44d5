//! Whether what workers tell reaches the leader (`scheduler/src/leader/ear.rs`): markers to itself.

use std::rc::Rc;

use crate::broker::{EVENTS, Link, Message};
use crate::exec::Pid;
use crate::message::Payload;
use crate::world::World;

const EVERY_MS: u64 = 5_000;
const DEAF_AFTER_MS: u64 = 20_000;
const EXPIRES_MS: u64 = 15_000;
const MAX_SENT: usize = 8;

#[derive(Default)]
pub struct Ear {
    sent: Vec<(u64, u64)>,
    last_sent_ms: Option<u64>,
    heard_ms: Option<u64>,
}

impl Ear {
    /// The next marker, when it is time for one.
    pub fn due(&mut self, now_ms: u64, number: u64) -> Option<u64> {
        if self.last_sent_ms.is_some_and(|at_ms| now_ms - at_ms < EVERY_MS) {
            return None;
        }
        self.last_sent_ms = Some(now_ms);
        if self.sent.len() == MAX_SENT {
            self.sent.remove(0);
        }
        self.sent.push((number, now_ms));
        Some(number)
    }

    pub fn came(&mut self, number: u64) {
        if let Some(place) = self.sent.iter().position(|(sent, _)| *sent == number) {
            self.heard_ms = self.heard_ms.max(Some(self.sent[place].1));
            self.sent.drain(..=place);
        }
    }

    pub fn hears(&self, now_ms: u64) -> bool {
        self.heard_ms.is_some_and(|at_ms| now_ms - at_ms < DEAF_AFTER_MS)
    }
}

/// Sends a marker; that it is lost shows by itself.
pub fn send(w: &Rc<World>, pid: Pid, link: Rc<Link>, number: u64) {
    let world = Rc::clone(w);
    w.exec.spawn(pid, async move {
        let message = Message {
            payload: Rc::new(Payload::Marker(number)),
            reply_to: None,
            expires_at_ms: Some(world.exec.now_ms() + EXPIRES_MS),
        };
        let _ = link.publish(&world, EVENTS, message).await;
    });
}
