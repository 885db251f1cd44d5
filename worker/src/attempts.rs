//! The attempts that this process looks after: where each one is, and what is wished of it.
//!
//! One task per attempt works towards the wishes; everybody else only changes them here. An attempt
//! stays until its container is gone, but is told to the leader only until its end has been
//! reported: that is what a heartbeat lists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_common::id::Replica;
use berth_common::message::{Held, HeldState};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

pub use crate::agent::Permission;
pub use crate::inbox::StopCause;

/// What is wished of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wishes {
    pub permission: Permission,
    pub stop: Option<Stopping>,
    /// How long it may run.
    pub limit: Option<Duration>,
}

/// A stop: a signal now, SIGKILL at the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopping {
    pub asked_at: Timestamp,
    pub deadline: Instant,
    pub cause: StopCause,
}

#[derive(Debug)]
struct Entry {
    state: HeldState,
    reported: bool,
    wishes: watch::Sender<Wishes>,
}

#[derive(Debug, Default)]
pub struct Attempts {
    entries: Mutex<BTreeMap<Replica, Entry>>,
}

impl Attempts {
    /// Looks after one more. None where that one is here already.
    pub fn add(&self, replica: Replica, state: HeldState, wishes: Wishes) -> Option<watch::Receiver<Wishes>> {
        let mut entries = self.lock();
        if entries.contains_key(&replica) {
            return None;
        }
        let (wishes, receiver) = watch::channel(wishes);
        entries.insert(replica, Entry { state, reported: false, wishes });
        Some(receiver)
    }

    /// It is in `state` now; whether that is news.
    pub fn set(&self, replica: Replica, state: HeldState) -> bool {
        let mut entries = self.lock();
        entries.get_mut(&replica).is_some_and(|entry| std::mem::replace(&mut entry.state, state) != state)
    }

    /// The broker has confirmed the report of its end.
    pub fn reported(&self, replica: Replica) {
        if let Some(entry) = self.lock().get_mut(&replica) {
            entry.reported = true;
        }
    }

    /// Its container is gone.
    pub fn remove(&self, replica: Replica) {
        self.lock().remove(&replica);
    }

    /// For a heartbeat: all whose end has not been reported.
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        let entries = self.lock();
        let unreported = entries.iter().filter(|(_, entry)| !entry.reported);
        unreported.map(|(&replica, entry)| Held { replica, state: entry.state }).collect()
    }

    /// The same, by name.
    #[must_use]
    pub fn held_replicas(&self) -> BTreeSet<Replica> {
        self.held().into_iter().map(|held| held.replica).collect()
    }

    /// Where it is, while its end has not been reported.
    #[must_use]
    pub fn state(&self, replica: Replica) -> Option<HeldState> {
        self.lock().get(&replica).filter(|entry| !entry.reported).map(|entry| entry.state)
    }

    /// Whether a task looks after it.
    #[must_use]
    pub fn attends(&self, replica: Replica) -> bool {
        self.lock().contains_key(&replica)
    }

    /// Changes the wishes for one attempt; false where it is not here.
    pub fn wish(&self, replica: Replica, change: impl FnOnce(&mut Wishes)) -> bool {
        let entries = self.lock();
        let Some(entry) = entries.get(&replica) else { return false };
        entry.wishes.send_modify(change);
        true
    }

    /// Changes the permission of all.
    pub fn permit_all(&self, permission: Permission) {
        for entry in self.lock().values() {
            entry.wishes.send_modify(|wishes| wishes.permission = permission);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Replica, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wishes {
    /// One more stop was taken: the earlier deadline counts, and the first cause.
    pub fn stop(&mut self, asked: Stopping) {
        let first = self.stop.unwrap_or(asked);
        self.stop = Some(Stopping { deadline: first.deadline.min(asked.deadline), ..first });
    }
}
