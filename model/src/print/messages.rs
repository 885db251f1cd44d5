//! What counts of the messages that are on their way.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use berth_common::message::{Event, FromDevice, Order, ToDevice, WhatBecame};

use super::{OfDevice, hash_ending, hash_replica};

impl OfDevice<'_> {
    pub(super) fn order(&self, message: &ToDevice, hasher: &mut impl Hasher) {
        (self.ranks.rank(message.session), self.ranks.rank(message.id)).hash(hasher);
        match &message.order {
            Order::Start(start) => {
                1.hash(hasher);
                hash_replica(start.replica, hasher);
                start.gpus.iter().for_each(|gpu| gpu.idx.hash(hasher));
            }
            Order::Stop(stop) => {
                2.hash(hasher);
                hash_replica(stop.replica, hasher);
            }
            Order::Ask(replica) => {
                3.hash(hasher);
                hash_replica(*replica, hasher);
            }
            Order::Welcome(welcome) => {
                (4, self.worker.boots_ago(welcome.boot)).hash(hasher);
                welcome.expected.iter().for_each(|replica| hash_replica(*replica, hasher));
            }
            Order::Exec(_) | Order::Limit(_) => 5.hash(hasher),
        }
    }

    pub(super) fn report(&self, told: &FromDevice) -> u64 {
        let mut hasher = DefaultHasher::new();
        if let Event::Heartbeat(beat) = &told.event {
            let rank = |number: Option<i64>| number.map(|number| self.ranks.rank(number));
            (self.worker.boots_ago(told.boot), rank(beat.session), rank(beat.last)).hash(&mut hasher);
        }
        self.event(&told.event, &mut hasher);
        hasher.finish()
    }

    pub(super) fn event(&self, event: &Event, hasher: &mut impl Hasher) {
        match event {
            Event::Heartbeat(beat) => {
                for held in beat.attempts.iter().flatten() {
                    hash_replica(held.replica, hasher);
                    (held.state as u8).hash(hasher);
                }
            }
            Event::Started(started) => {
                1.hash(hasher);
                hash_replica(started.replica, hasher);
            }
            Event::Exited(exited) => {
                2.hash(hasher);
                hash_replica(exited.replica, hasher);
                if self.is_believed_live(exited.replica) {
                    hash_ending(&exited.ending, hasher);
                }
            }
            Event::Answer(answer) => {
                3.hash(hasher);
                hash_replica(answer.replica, hasher);
                match &answer.answer {
                    WhatBecame::NeverTaken => 0.hash(hasher),
                    WhatBecame::Live { state } => (1, *state as u8).hash(hasher),
                    WhatBecame::Ended { ending } => hash_ending(ending, hasher),
                    WhatBecame::Unknown => 2.hash(hasher),
                }
            }
            Event::Executed(_) => 4.hash(hasher),
        }
    }
}
