//! What follows from an action: the next state.

use std::sync::Arc;

use berth_common::command::{CommandBody, Verb};
use berth_common::message::{Reply, Target};
use berth_common::spec::{JobSpec, from_value};
use berth_common::time::ms_between;
use berth_scheduler::core::input::{Command, Input, Submission};
use serde_json::json;
use uuid::Uuid;

use crate::action::{Action, is_quiet, job_id};
use crate::leader::Broken;
use crate::state::{Client, State};
use crate::tables::OWNER;
use crate::worker::Link;
use crate::world::World;

/// Longer than every limit of the exchange and every back-off of a first retry, shorter than the fence.
pub const TICK_MS: i64 = 20_000;
const FENCE_AFTER_MS: i64 = 240_000;
const LOST_AFTER_MS: i64 = 300_000;

/// Lets it happen.
#[must_use]
pub fn after(world: &World, state: &State, action: Action) -> State {
    let mut state = state.clone();
    state.broken.clear();
    match action {
        Action::Submit { job } => submit(world, &mut state, job),
        Action::Kill { job } => kill(&mut state, job),
        Action::Read { report, again } => read(&mut state, report, again),
        Action::LoseReport { report } => {
            state.left.losses -= 1;
            state.to_leader.remove(report);
        }
        Action::Take { device, message, again } => take(&mut state, device, message, again),
        Action::LoseMessage { device, message } => {
            state.left.losses -= 1;
            state.to_device[device].remove(message);
        }
        Action::Beat { device, late } => beat(&mut state, device, late),
        Action::Move { device, replica, one } => {
            state.left.worker_crashes -= u32::from(one.is_crash());
            let (told, twice) = state.worker(device).perform(replica, one);
            if twice {
                state.broken.push(Broken::StartedTwice(replica.to_string()));
            }
            state.tell(told);
        }
        Action::CrashWorker { device } => {
            state.left.worker_crashes -= 1;
            state.worker(device).crash();
        }
        Action::CrashLeader => {
            state.left.leader_crashes -= 1;
            let told = state.leader().crash();
            state.broken.extend(told.broken);
            state.send(told.sent);
        }
        Action::Cut { device } => {
            state.left.cuts -= 1;
            state.worker(device).link = Link::Cut;
        }
        Action::Fence { device } => {
            state.worker(device).fence();
            long_time(&mut state, FENCE_AFTER_MS);
        }
        Action::Lose { device } => lose(&mut state, device),
        Action::Reconnect { device } => {
            let told = state.worker(device).reconnect();
            state.tell(told);
        }
        Action::Tick => {
            state.left.ticks = state.left.ticks.saturating_sub(1);
            if !is_quiet(&state) {
                state.left.slow_ticks = state.left.slow_ticks.saturating_sub(1);
            }
            state.tick(TICK_MS);
            state.step(&[]);
        }
    }
    state.settle();
    state
}

fn read(state: &mut State, report: usize, again: bool) {
    let told = state.to_leader.remove(report);
    state.read(&told);
    if again {
        state.left.repeats -= 1;
        state.to_leader.push(told);
    }
}

fn take(state: &mut State, device: usize, message: usize, again: bool) {
    let taken = if again {
        state.left.repeats -= 1;
        Arc::clone(&state.to_device[device][message])
    } else {
        state.to_device[device].remove(message)
    };
    state.take(device, &taken);
}

fn beat(state: &mut State, device: usize, late: bool) {
    let beat = Arc::new(state.beat(device));
    if late {
        state.left.late_beats -= 1;
        state.to_leader.push(beat);
    } else {
        state.read(&beat);
    }
}

/// The leader has not heard of it for so long that it gives it up.
fn lose(state: &mut State, device: usize) {
    let name = state.workers[device].name;
    let memory = state.leader.core.memory();
    let seen = memory.devices.values().find(|d| d.row.name == name).map(|d| d.seen);
    let passed = seen.map_or(0, |seen| ms_between(seen, state.leader.now));
    long_time(state, (LOST_AFTER_MS - passed).max(TICK_MS));
}

/// A time in which the leader goes on hearing of the connected workers: of each, the last heartbeat.
fn long_time(state: &mut State, ms: i64) {
    state.tick(ms);
    let connected = state.workers.iter().filter(|worker| worker.link == Link::Up);
    let beats: Vec<_> = connected.map(|worker| Arc::new(worker.heartbeat())).collect();
    state.step(&beats);
}

fn submit(world: &World, state: &mut State, job: usize) {
    let plan = world.jobs[job];
    let spec: JobSpec = from_value(json!({
        "image": "busybox", "replicas": plan.replicas, "retries": plan.retries, "backoff_s": 1,
        "resources": {"gpus": plan.gpus}, "disconnect": plan.disconnect,
    }))
    .expect("a valid specification");
    let submission = Submission { id: job_id(job), owner: OWNER.into(), hash: spec.hash(), spec };
    let reply = ask(state, Input::Submit(Box::new(submission)));
    if reply.as_ref().is_none_or(|reply| reply.status != 201) {
        state.broken.push(Broken::Answer(format!("a valid job gets {reply:?}")));
    }
    state.clients[job] = Client::Submitted;
}

/// A kill is accepted, unless the job has exited.
fn kill(state: &mut State, job: usize) {
    let id = job_id(job);
    let exited = state.leader.tables.jobs.get(&id).is_some_and(|row| row.life.outcome.is_some());
    let body = CommandBody::new(Verb::Kill);
    let command = Command {
        id: Uuid::from_u128(1000 + job as u128),
        target: Target::Job(id),
        actor: OWNER.into(),
        body,
    };
    let reply = ask(state, Input::Command(command));
    let status = reply.as_ref().map(|reply| reply.status);
    if status == Some(202) {
        state.clients[job] = Client::KillAccepted;
    }
    if status != Some(if exited { 409 } else { 202 }) {
        state.broken.push(Broken::Answer(format!("a kill gets {reply:?}")));
    }
}

fn ask(state: &mut State, input: Input) -> Option<Reply> {
    let mut told = state.leader().step(vec![input]);
    state.broken.extend(told.broken);
    state.send(told.sent);
    told.replies.pop()
}
