//! How a worker takes the leader's messages, in the order of the real one: written down first.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_common::id::Replica;
use berth_common::message::{
    Answer, Event, FromDevice, HeldState, Order, Start, Stop, ToDevice, Welcome, WhatBecame,
};
use berth_worker::agent::{self, AtWelcome, Numbers, Permission, Recollection, Verdict};
use berth_worker::inbox::{Phase, StopCause, StopTaken, Taken};
use jiff::Timestamp;

use crate::worker::{Entry, Grace, Worker, look_after};

/// When is decided by [`Entry::stop`].
const STOP_TAKEN: StopTaken =
    StopTaken { at: Timestamp::UNIX_EPOCH, grace: Duration::ZERO, cause: StopCause::Asked };

impl Worker {
    /// A message from the leader arrives.
    pub fn take(&mut self, message: &ToDevice) -> Vec<FromDevice> {
        match agent::judge(&self.numbers, message) {
            Verdict::Take => {}
            Verdict::Drop(_) => return Vec::new(),
        }
        match &message.order {
            Order::Welcome(welcome) => self.take_welcome(message, welcome),
            Order::Start(start) => {
                self.numbers.last = message.id;
                self.take_start(message.session, start)
            }
            Order::Stop(stop) => {
                self.numbers.last = message.id;
                self.take_stop(stop)
            }
            Order::Ask(replica) => {
                self.numbers.last = message.id;
                self.answer(*replica)
            }
            Order::Exec(_) | Order::Limit(_) => {
                self.numbers.last = message.id;
                Vec::new()
            }
        }
    }

    fn take_welcome(&mut self, message: &ToDevice, welcome: &Welcome) -> Vec<FromDevice> {
        self.numbers = Numbers {
            boot: self.numbers.boot,
            instance: Some(welcome.instance),
            session: Some(message.session),
            greatest: message.session,
            last: message.id,
        };
        let held: BTreeSet<Replica> = self.entries.keys().copied().collect();
        let mut told = Vec::new();
        for action in agent::at_welcome(&held, &welcome.expected) {
            match action {
                AtWelcome::GoOn(replica) => self.wish(replica, |e| e.permission = Permission::Granted),
                AtWelcome::Stop(replica) => self.wish(replica, |e| {
                    if e.state != HeldState::Exited {
                        e.stop = e.stop.or(Some(Grace::Left));
                    }
                }),
                AtWelcome::Answer(replica) => told.extend(self.answer(replica)),
            }
        }
        self.beat_due = true;
        told
    }

    fn wish(&mut self, replica: Replica, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries.get_mut(&replica) {
            change(entry);
        }
    }

    fn take_start(&mut self, session: i64, start: &Start) -> Vec<FromDevice> {
        let replica = start.replica;
        if self.inbox.contains_key(&replica) {
            return self.answer(replica);
        }
        let phase =
            Phase::Live { start: Box::new(start.clone()), launched: false, fenced: false, stop: None };
        let taken = Taken { replica, session, phase };
        self.entries.insert(replica, look_after(&taken, Permission::Granted));
        self.inbox.insert(replica, taken);
        Vec::new()
    }

    fn take_stop(&mut self, order: &Stop) -> Vec<FromDevice> {
        if let Some(Taken { phase: Phase::Live { stop, .. }, .. }) = self.inbox.get_mut(&order.replica) {
            stop.get_or_insert(STOP_TAKEN);
        }
        match self.entries.get_mut(&order.replica) {
            Some(entry) => {
                entry.stop = entry.stop.or(Some(Grace::Left));
                Vec::new()
            }
            None => self.answer(order.replica),
        }
    }

    fn answer(&mut self, replica: Replica) -> Vec<FromDevice> {
        let held = self.entries.get(&replica).map(|entry| entry.state);
        let answer = match agent::recollect(held, self.inbox.get(&replica)) {
            Recollection::Answer(answer) => answer,
            // Its container would have to be gone first.
            Recollection::LookFor if self.engine.containers.contains_key(&replica) => WhatBecame::Unknown,
            Recollection::LookFor => WhatBecame::NeverTaken,
        };
        let session = self.numbers.session.unwrap_or_default();
        self.say(Event::Answer(Answer { replica, session, answer }))
    }
}
