//! The leader of the model: the real core, and the tables that it writes.
//!
//! After each step the laws about the leader alone are looked at: the core's own invariants, the
//! constraints of the tables, and that a leader which loaded the tables now would remember the same.

use std::panic::{AssertUnwindSafe, catch_unwind};

use berth_common::id::JobId;
use berth_common::message::Reply;
use berth_common::time::plus_ms;
use berth_scheduler::core::check::violations;
use berth_scheduler::core::input::Input;
use berth_scheduler::core::rows::{OutboxRow, Rows};
use berth_scheduler::core::{Core, Limits};
use jiff::Timestamp;

use crate::tables::Tables;

/// What no law allows, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// `core::check`, or an assertion of the core itself.
    Invariant(String),
    /// A key or a reference of the tables.
    Constraint(String),
    /// The leader remembers something else than its tables.
    Memory(String),
    /// Docker was asked a second time to start an attempt.
    StartedTwice(String),
    /// A request got an answer that it must not get.
    Answer(String),
}

#[derive(Debug, Clone)]
pub struct Leader {
    pub core: Core,
    pub tables: Tables,
    pub now: Timestamp,
}

/// What a step made known outside.
#[derive(Debug, Default)]
pub struct Told {
    pub replies: Vec<Reply>,
    pub sent: Vec<OutboxRow>,
    pub broken: Vec<Broken>,
}

impl Default for Leader {
    fn default() -> Self {
        Self::new()
    }
}

impl Leader {
    #[must_use]
    pub fn new() -> Self {
        let (tables, now) = (Tables::new(), Timestamp::UNIX_EPOCH);
        Self { core: load(&tables, now), tables, now }
    }

    pub fn step(&mut self, inputs: Vec<Input>) -> Told {
        let facts = self.tables.facts(&self.core.needs(&inputs));
        let stepped = catch_unwind(AssertUnwindSafe(|| self.core.step(self.now, inputs, facts)));
        let Ok(decisions) = stepped else {
            let words = "the core panicked; what it said stands above".into();
            return Told { broken: vec![Broken::Invariant(words)], ..Told::default() };
        };
        let mut broken: Vec<Broken> = violations(&self.core).into_iter().map(Broken::Invariant).collect();
        let sent = decisions.rows.outbox.clone();
        let wrote = decisions.rows != Rows::default();
        if let Err(words) = self.tables.commit(decisions.rows) {
            broken.push(Broken::Constraint(words));
        }
        if wrote && broken.is_empty() {
            broken.extend(self.forgets().map(Broken::Memory));
        }
        Told { replies: decisions.replies.into_iter().map(|(_, reply)| reply).collect(), sent, broken }
    }

    /// The memory is lost: the tables are loaded, and what the last batch wanted published is
    /// published once more.
    pub fn crash(&mut self) -> Told {
        let again = self.tables.outbox.clone();
        self.core = load(&self.tables, self.now);
        let mut told = self.step(Vec::new());
        told.sent.splice(0..0, again);
        told
    }

    pub fn pass(&mut self, ms: i64) {
        self.now = plus_ms(self.now, ms);
    }

    /// What a leader that loaded the tables now would not know. Left out is what may be forgotten:
    /// when a device was heard, what it was asked and told in its session, which device to avoid.
    fn forgets(&self) -> Option<String> {
        let loaded = load(&self.tables, self.now);
        let (here, there) = (self.core.memory(), loaded.memory());
        // What is due is forgotten by the one, and about to be by the other.
        let awaited = |(at, _): &&(Timestamp, JobId)| *at > self.now;
        if here.waiting != there.waiting
            || !here.wakeups.iter().filter(awaited).eq(there.wakeups.iter().filter(awaited))
        {
            return Some(format!("waiting: {:?}, in the tables {:?}", here.waiting, there.waiting));
        }
        if here.commands != there.commands {
            return Some(format!("commands: {:?}, in the tables {:?}", here.commands, there.commands));
        }
        if !here.jobs.keys().eq(there.jobs.keys()) || !here.devices.keys().eq(there.devices.keys()) {
            return Some("other jobs or devices than the tables".into());
        }
        for (job, loaded) in here.jobs.values().zip(there.jobs.values()) {
            let same =
                job.row == loaded.row && job.containers == loaded.containers && job.kills == loaded.kills;
            if !same {
                return Some(format!("{job:?}, in the tables {loaded:?}"));
            }
        }
        for (device, loaded) in here.devices.values().zip(there.devices.values()) {
            let same = device.row == loaded.row
                && device.state == loaded.state
                && device.containers == loaded.containers;
            if !same {
                return Some(format!("{device:?}, in the tables {loaded:?}"));
            }
        }
        None
    }
}

fn load(tables: &Tables, now: Timestamp) -> Core {
    let mut core = Core::load(tables.snapshot(), Limits::default(), now);
    core.set_hearing(true, now);
    core
}
