//! What can happen in a state, in any order: one of these at a time.

use std::sync::Arc;

use berth_common::command::{CommandBody, Verb};
use berth_common::id::{JobId, Replica};
use berth_common::message::{Reply, Target};
use berth_common::spec::{Disconnect, JobSpec, from_value};
use berth_common::time::ms_between;
use berth_scheduler::core::input::{Command, Input, Submission};
use serde_json::json;
use uuid::Uuid;

use crate::leader::Broken;
use crate::moves::Move;
use crate::state::{Client, State, is_heartbeat};
use crate::tables::OWNER;
use crate::worker::Link;
use crate::world::World;

/// Longer than every limit of the exchange and every back-off of a first retry, shorter than the fence.
pub const TICK_MS: i64 = 20_000;
const FENCE_AFTER_MS: i64 = 240_000;
const LOST_AFTER_MS: i64 = 300_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Submit {
        job: usize,
    },
    Kill {
        job: usize,
    },
    /// The leader reads a report; `again`: a copy stays.
    Read {
        report: usize,
        again: bool,
    },
    LoseReport {
        report: usize,
    },
    /// A worker takes a message; `again`: a copy stays.
    Take {
        device: usize,
        message: usize,
        again: bool,
    },
    LoseMessage {
        device: usize,
        message: usize,
    },
    /// A heartbeat, read at once; `late`: it will be read some time, or not at all.
    Beat {
        device: usize,
        late: bool,
    },
    Move {
        device: usize,
        replica: Replica,
        one: Move,
    },
    CrashWorker {
        device: usize,
    },
    CrashLeader,
    /// The broker is away for a device, …
    Cut {
        device: usize,
    },
    /// … for so long that its worker has no session any more, …
    Fence {
        device: usize,
    },
    /// … for so long that the leader gives it up.
    Lose {
        device: usize,
    },
    Reconnect {
        device: usize,
    },
    Tick,
}

#[must_use]
pub fn job_id(job: usize) -> JobId {
    Uuid::from_u128(job as u128 + 1)
}

/// Every action that is possible.
pub fn possible(world: &World, state: &State, actions: &mut Vec<Action>) {
    let left = state.left;
    for (job, client) in state.clients.iter().enumerate() {
        match client {
            Client::Waits => {
                actions.push(Action::Submit { job });
                break; // in their order
            }
            Client::Submitted if world.jobs[job].may_be_killed => actions.push(Action::Kill { job }),
            Client::Submitted | Client::KillAccepted => {}
        }
    }
    for (report, told) in state.to_leader.iter().enumerate() {
        actions.push(Action::Read { report, again: false });
        if left.repeats > 0 {
            actions.push(Action::Read { report, again: true });
        }
        if left.losses > 0 && !is_heartbeat(told) {
            actions.push(Action::LoseReport { report });
        }
    }
    for device in 0..state.workers.len() {
        of_device(world, state, device, actions);
    }
    if left.leader_crashes > 0 {
        actions.push(Action::CrashLeader);
    }
    if left.ticks > 0 && (left.slow_ticks > 0 || is_quiet(state)) {
        actions.push(Action::Tick);
    }
}

/// Whether everything has arrived, and every connected worker was heard.
fn is_quiet(state: &State) -> bool {
    let mut devices = state.workers.iter().zip(&state.to_device);
    state.to_leader.is_empty()
        && devices
            .all(|(worker, messages)| worker.link != Link::Up || (messages.is_empty() && !worker.beat_due))
}

fn of_device(world: &World, state: &State, device: usize, actions: &mut Vec<Action>) {
    let (left, worker) = (state.left, &state.workers[device]);
    if worker.link == Link::Up {
        for message in 0..state.to_device[device].len() {
            actions.push(Action::Take { device, message, again: false });
            if left.repeats > 0 {
                actions.push(Action::Take { device, message, again: true });
            }
            if left.losses > 0 {
                actions.push(Action::LoseMessage { device, message });
            }
        }
        if worker.beat_due {
            actions.push(Action::Beat { device, late: false });
            if left.late_beats > 0 {
                actions.push(Action::Beat { device, late: true });
            }
        }
    }
    let mut moves = Vec::new();
    worker.moves(&mut moves);
    let possible = moves.into_iter().filter(|(_, one)| left.worker_crashes > 0 || !one.is_crash());
    actions.extend(possible.map(|(replica, one)| Action::Move { device, replica, one }));
    if left.worker_crashes > 0 {
        actions.push(Action::CrashWorker { device });
    }
    match worker.link {
        Link::Up if left.cuts > 0 && world.devices[device].may_be_cut => actions.push(Action::Cut { device }),
        Link::Up => {}
        Link::Cut => actions.extend([Action::Fence { device }, Action::Reconnect { device }]),
        Link::Fenced => {
            // The fence is complete before the leader gives the device up: that is what the fifty
            // seconds between them are for.
            if is_fenced(state, device) && !is_lost(state, device) {
                actions.push(Action::Lose { device });
            }
            actions.push(Action::Reconnect { device });
        }
    }
}

fn is_fenced(state: &State, device: usize) -> bool {
    let left = |c: &crate::engine::Container| c.start_on_its_way || c.state == crate::engine::Run::Running;
    let mut containers = state.workers[device].engine.containers.values();
    !containers.any(|c| c.disconnect == Disconnect::Requeue && left(c))
}

fn is_lost(state: &State, device: usize) -> bool {
    let memory = state.leader.core.memory();
    let mut devices = memory.devices.values().filter(|d| d.row.name == state.workers[device].name);
    devices.any(|d| d.shown_state() == berth_common::device::DeviceState::Lost)
}

/// Lets it happen.
#[must_use]
pub fn after(world: &World, state: &State, action: Action) -> State {
    let mut state = state.clone();
    state.broken.clear();
    match action {
        Action::Submit { job } => submit(world, &mut state, job),
        Action::Kill { job } => kill(&mut state, job),
        Action::Read { report, again } => {
            let told = state.to_leader.remove(report);
            state.read(&told);
            if again {
                state.left.repeats -= 1;
                state.to_leader.push(told);
            }
        }
        Action::LoseReport { report } => {
            state.left.losses -= 1;
            state.to_leader.remove(report);
        }
        Action::Take { device, message, again } => {
            let taken = if again {
                state.left.repeats -= 1;
                Arc::clone(&state.to_device[device][message])
            } else {
                state.to_device[device].remove(message)
            };
            state.take(device, &taken);
        }
        Action::LoseMessage { device, message } => {
            state.left.losses -= 1;
            state.to_device[device].remove(message);
        }
        Action::Beat { device, late } => {
            let beat = Arc::new(state.beat(device));
            if late {
                state.left.late_beats -= 1;
                state.to_leader.push(beat);
            } else {
                state.read(&beat);
            }
        }
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
        Action::Lose { device } => {
            let name = state.workers[device].name;
            let memory = state.leader.core.memory();
            let seen = memory.devices.values().find(|d| d.row.name == name).map(|d| d.seen);
            let passed = seen.map_or(0, |seen| ms_between(seen, state.leader.now));
            long_time(&mut state, (LOST_AFTER_MS - passed).max(TICK_MS));
        }
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
