//! A worker of the model: the real worker's decisions (`berth_worker::agent`), with an inbox, a Docker
//! and a connection that are a few lines each.
//!
//! What is written out here a second time, because the real worker does it among its I/O: the order in
//! which it writes, speaks and acts, and what it calls a container's own doing. Everything else is its code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use berth_common::id::Replica;
use berth_common::inventory::{Inventory, declared_gpus};
use berth_common::message::{
    Answer, Event, FromDevice, Heartbeat, Held, HeldState, Order, PROTOCOL, Start, Stop, ToDevice, Welcome,
    WhatBecame,
};
use berth_worker::agent::{self, AtWelcome, Numbers, Permission, Recollection, Verdict};
use berth_worker::inbox::{Phase, StopCause, StopTaken, Taken};
use jiff::Timestamp;
use uuid::Uuid;

use crate::engine::Engine;
use crate::world::DevicePlan;

/// How the broker is for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Link {
    Up,
    /// Nothing comes and nothing goes.
    Cut,
    /// For so long that the session is over.
    Fenced,
}

/// A stop that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grace {
    Left,
    Over,
}

/// What a process of the worker knows of an attempt that it looks after.
#[derive(Debug, Clone)]
pub struct Entry {
    pub state: HeldState,
    pub permission: Permission,
    pub stop: Option<Grace>,
    /// Docker may have been asked to start it.
    pub launched: bool,
    /// By a process before this one.
    pub before: bool,
    /// A stop had been taken before this process began.
    pub told_before: bool,
    /// It was seen to run.
    pub running: bool,
    pub asked: bool,
    pub signalled: bool,
    pub fenced: bool,
}

#[derive(Debug, Clone)]
pub struct Worker {
    pub name: &'static str,
    place: usize,
    gpus: u32,
    pub engine: Engine,
    /// The part of it that survives a crash are `greatest` and `instance`, and `last`, which means
    /// nothing without a session.
    pub numbers: Numbers,
    /// What the inbox keeps.
    pub inbox: BTreeMap<Replica, Taken>,
    pub entries: BTreeMap<Replica, Entry>,
    pub link: Link,
    /// Reports that wait for the broker.
    pub unsent: Vec<Event>,
    /// It is time for a heartbeat.
    pub beat_due: bool,
    boots: u32,
}

impl Worker {
    #[must_use]
    pub fn new(place: usize, plan: DevicePlan) -> Self {
        let numbers = Numbers { boot: Uuid::nil(), instance: None, session: None, greatest: 0, last: 0 };
        let mut worker = Self {
            name: plan.name,
            place,
            gpus: plan.gpus,
            engine: Engine::default(),
            numbers,
            inbox: BTreeMap::new(),
            entries: BTreeMap::new(),
            link: Link::Up,
            unsent: Vec::new(),
            beat_due: true,
            boots: 0,
        };
        worker.new_boot();
        worker
    }

    pub(crate) fn new_boot(&mut self) {
        self.boots += 1;
        self.numbers.boot = Uuid::from_u128((self.place as u128) << 64 | u128::from(self.boots));
        self.numbers.session = None;
    }

    /// How many boots ago one was spoken of; none: not one of this worker.
    #[must_use]
    pub fn boots_ago(&self, boot: Uuid) -> Option<u32> {
        u32::try_from(self.numbers.boot.as_u128().checked_sub(boot.as_u128())?).ok()
    }

    #[must_use]
    pub fn heartbeat(&self) -> FromDevice {
        let session = self.numbers.session;
        let inventory = session.is_none().then(|| Inventory {
            ip: "10.0.0.1".into(),
            cpu_milli: 8_000,
            cpu_name: "cpu".into(),
            memory_mb: 16_384,
            gpus: declared_gpus(self.name, &[(self.gpus, "T4".into())][..usize::from(self.gpus > 0)]),
            gpus_declared: true,
            engine: "model".into(),
            data_dir: "/data".into(),
            pub_dir: None,
        });
        let held = self.entries.iter().map(|(&replica, entry)| Held { replica, state: entry.state });
        self.told(Event::Heartbeat(Box::new(Heartbeat {
            protocol: PROTOCOL,
            session,
            last: session.map(|_| self.numbers.last),
            instance: self.numbers.instance,
            inventory,
            attempts: Some(held.collect()),
            health: None,
        })))
    }

    fn told(&self, event: Event) -> FromDevice {
        FromDevice {
            device: self.name.into(),
            worker_id: Uuid::from_u128(self.place as u128 + 1),
            boot: self.numbers.boot,
            at: Timestamp::UNIX_EPOCH,
            event,
        }
    }

    /// Says something, now or when the broker is back. What is said now is returned.
    pub(crate) fn say(&mut self, event: Event) -> Vec<FromDevice> {
        if self.link == Link::Up {
            return vec![self.told(event)];
        }
        self.unsent.push(event);
        Vec::new()
    }

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

    /// The process dies and is started again: it looks after what the inbox has.
    pub fn crash(&mut self) {
        self.new_boot();
        self.unsent.clear();
        self.beat_due = true;
        let open = self.inbox.values().filter(|taken| !is_reported(taken));
        self.entries = open.map(|taken| (taken.replica, look_after(taken, Permission::NotYet))).collect();
    }

    /// The broker has confirmed nothing for too long.
    pub fn fence(&mut self) {
        self.link = Link::Fenced;
        self.new_boot();
        self.entries.values_mut().for_each(|entry| entry.permission = Permission::Fenced);
    }

    /// The broker is back.
    pub fn reconnect(&mut self) -> Vec<FromDevice> {
        self.link = Link::Up;
        self.beat_due = true;
        let unsent = std::mem::take(&mut self.unsent);
        unsent.into_iter().map(|event| self.told(event)).collect()
    }

    /// Time passes.
    pub fn tick(&mut self) {
        self.beat_due = true;
        self.entries.values_mut().for_each(|e| e.stop = e.stop.map(|_| Grace::Over));
    }
}

/// When is decided by [`Entry::stop`].
const STOP_TAKEN: StopTaken =
    StopTaken { at: Timestamp::UNIX_EPOCH, grace: Duration::ZERO, cause: StopCause::Asked };

fn is_reported(taken: &Taken) -> bool {
    matches!(taken.phase, Phase::Ended { reported: true, .. })
}

fn look_after(taken: &Taken, permission: Permission) -> Entry {
    let (state, launched, fenced, stop) = match &taken.phase {
        Phase::Ended { .. } => (HeldState::Exited, true, false, None),
        Phase::Live { launched, fenced, stop, .. } => (HeldState::Taken, *launched, *fenced, *stop),
    };
    let stop = stop.map(|_| Grace::Over); // what is left of it is the shorter wait
    Entry {
        state,
        permission,
        stop,
        launched,
        before: launched,
        told_before: stop.is_some(),
        running: false,
        asked: false,
        signalled: false,
        fenced,
    }
}
