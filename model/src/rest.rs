//! From every state everything comes to rest: when nothing goes wrong any more, every message arrives in
//! its order, every program ends (but not by itself when somebody wants it killed), and time passes, then
//! soon every job has exited, nothing is reserved, and nothing is alive.
//!
//! The way there is always the same from the same state, so a way that meets one that is known to lead to
//! rest needs to be followed no further.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use berth_common::id::Replica;
use berth_worker::inbox::Phase;

use crate::action::{Action, job_id};
use crate::after::after;
use crate::moves::Move;
use crate::state::{Client, State};
use crate::worker::Link;
use crate::world::World;

/// More than any way to rest takes: back-offs, questions that are asked again, and stops.
const MOST_TICKS: usize = 24;
const MOST_STEPS: usize = 2_000;

/// States, by their fingerprints, that are known to come to rest.
#[derive(Debug, Default)]
pub struct Rested(Mutex<HashSet<u64>>);

impl Rested {
    /// Whether it comes to rest.
    pub fn comes_to_rest(&self, world: &World, state: &State) -> bool {
        let mut way = Vec::new();
        let rests = follow(world, state, |state| {
            way.push(state.print);
            self.lock().contains(&state.print)
        });
        if rests.is_ok() {
            self.lock().extend(way);
        }
        rests.is_ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the way from a state until it rests or `enough` says so.
///
/// # Errors
/// Where it never rests, or a law is broken on the way.
pub fn follow(world: &World, from: &State, mut enough: impl FnMut(&State) -> bool) -> Result<(), String> {
    let mut state = from.clone();
    let mut ticks = 0;
    for _ in 0..MOST_STEPS {
        if enough(&state) || is_at_rest(&state) {
            return Ok(());
        }
        let action = next(&state);
        ticks += usize::from(action == Action::Tick);
        if ticks > MOST_TICKS {
            return Err(format!("{ticks} ticks were not enough"));
        }
        state = after(world, &state, action);
        if !state.broken.is_empty() {
            return Err(format!("{:?}", state.broken));
        }
    }
    Err(format!("{MOST_STEPS} steps were not enough"))
}

/// Every job that was submitted has exited, nothing is reserved, and no container is there.
#[must_use]
pub fn is_at_rest(state: &State) -> bool {
    let tables = &state.leader.tables;
    tables.jobs.values().all(|row| row.life.outcome.is_some())
        && tables.reservations.is_empty()
        && state.leader.core.memory().commands.is_empty()
        && state.workers.iter().all(|w| w.engine.containers.is_empty() && w.entries.is_empty())
}

/// What happens next when nothing goes wrong.
#[must_use]
pub fn next(state: &State) -> Action {
    for (device, worker) in state.workers.iter().enumerate() {
        if worker.link != Link::Up {
            return Action::Reconnect { device };
        }
    }
    if !state.to_leader.is_empty() {
        return Action::Read { report: 0, again: false };
    }
    if let Some(device) = state.to_device.iter().position(|messages| !messages.is_empty()) {
        return Action::Take { device, message: 0, again: false };
    }
    let mut ends = None;
    for (device, worker) in state.workers.iter().enumerate() {
        let mut moves: Vec<(Replica, Move)> = Vec::new();
        worker.moves(&mut moves);
        for (replica, one) in moves {
            match one {
                Move::End { code: 0 } if !must_be_stopped(state, replica) => {
                    ends = ends.or(Some(Action::Move { device, replica, one }));
                }
                Move::End { .. } => {}
                _ if one.is_crash() => {}
                _ => return Action::Move { device, replica, one },
            }
        }
    }
    if let Some(device) = state.workers.iter().position(|worker| worker.beat_due) {
        return Action::Beat { device, late: false };
    }
    ends.unwrap_or(Action::Tick)
}

/// Whether somebody counts on its being stopped: it would run for ever. So does what waits for a replica
/// of its gang that has failed.
fn must_be_stopped(state: &State, replica: Replica) -> bool {
    let client = state.clients.iter().enumerate().find(|(job, _)| job_id(*job) == replica.job);
    let is_killed = client.is_some_and(|(_, client)| *client == Client::KillAccepted);
    let mut taken = state.workers.iter().flat_map(|worker| worker.inbox.values());
    is_killed
        || taken.any(|taken| {
            let of_gang = (taken.replica.job, taken.replica.attempt) == (replica.job, replica.attempt);
            of_gang && matches!(&taken.phase, Phase::Ended { ending, .. } if ending.exit_code != Some(0))
        })
}
