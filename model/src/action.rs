//! What can happen in a state, in any order: one of these at a time.

use berth_common::id::{JobId, Replica};
use berth_common::spec::Disconnect;
use uuid::Uuid;

use crate::moves::Move;
use crate::state::{Client, State, is_heartbeat};
use crate::worker::Link;
use crate::world::World;

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
pub(crate) fn is_quiet(state: &State) -> bool {
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
