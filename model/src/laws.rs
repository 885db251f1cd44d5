//! What must hold in every state, besides what [`crate::leader`] looks at after each of its steps.

use std::collections::BTreeSet;

use berth_common::job::Outcome;

use crate::action::job_id;
use crate::leader::Broken;
use crate::state::{Client, State};

/// No GPU is in two live containers of a device's Docker.
#[must_use]
pub fn gpus_are_used_once(state: &State) -> bool {
    state.workers.iter().all(|worker| {
        let mut used = BTreeSet::new();
        worker.engine.running().flat_map(|(_, container)| &container.gpus).all(|gpu| used.insert(gpu))
    })
}

/// No job has containers of two attempts alive, on all devices together.
#[must_use]
pub fn one_attempt_is_alive(state: &State) -> bool {
    let mut alive = std::collections::BTreeMap::new();
    let running = state.workers.iter().flat_map(|worker| worker.engine.running());
    running.map(|(replica, _)| replica).all(|r| *alive.entry(r.job).or_insert(r.attempt) == r.attempt)
}

/// A kill that was accepted ends in `killed`, and nothing else.
#[must_use]
pub fn kills_are_final(state: &State) -> bool {
    state.clients.iter().enumerate().all(|(job, client)| {
        let outcome = state.leader.tables.jobs.get(&job_id(job)).and_then(|row| row.life.outcome);
        *client != Client::KillAccepted || outcome.is_none_or(|outcome| outcome == Outcome::Killed)
    })
}

/// A job that is placed has all its containers, another one none.
#[must_use]
pub fn gangs_are_whole(state: &State) -> bool {
    state.leader.core.memory().jobs.values().all(|job| {
        let wanted = if job.row.life.status.is_placed() { job.row.spec.replicas as usize } else { 0 };
        job.containers.len() == wanted
    })
}

/// A job that was accepted is there.
#[must_use]
pub fn jobs_are_kept(state: &State) -> bool {
    let submitted = state.clients.iter().filter(|client| **client != Client::Waits).count();
    state.leader.tables.jobs.len() == submitted
}

/// Whether a law of that kind was broken by the step to this state.
#[must_use]
pub fn holds(state: &State, kind: fn(&Broken) -> bool) -> bool {
    !state.broken.iter().any(kind)
}
