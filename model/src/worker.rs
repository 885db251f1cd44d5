//! A worker of the model: the real worker's decisions (`berth_worker::agent`), with an inbox, a Docker
//! and a connection that are a few lines each.
//!
//! What is written out here a second time, because the real worker does it among its I/O: the order in
//! which it writes, speaks and acts, and what it calls a container's own doing. Everything else is its code.

use std::collections::BTreeMap;

use berth_common::id::Replica;
use berth_common::inventory::{Inventory, declared_gpus};
use berth_common::message::{Event, FromDevice, Heartbeat, Held, HeldState, PROTOCOL};
use berth_worker::agent::{Numbers, Permission};
use berth_worker::inbox::{Phase, Taken};
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
            links: Vec::new(),
            engine: "model".into(),
            data_dir: "/data".into(),
            pub_dir: None,
            labels: std::collections::BTreeMap::new(),
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

fn is_reported(taken: &Taken) -> bool {
    matches!(taken.phase, Phase::Ended { reported: true, .. })
}

pub(crate) fn look_after(taken: &Taken, permission: Permission) -> Entry {
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
