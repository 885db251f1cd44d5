//! The messages between the scheduler's leader and the workers, and the answers to those who ask.
//!
//! All are JSON. What travels leader → device carries a session and an id that only grows, so that
//! a repeated or late copy does nothing (see ARCHITECTURE.md, "Between the leader and a device").

mod event;
mod order;
mod question;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::command::Verb;
use crate::problem::Problem;
use crate::queue::Queue;

pub use self::event::{
    Answer, Ending, Event, Executed, Exited, Fault, FaultKind, FromDevice, Heartbeat, Held, HeldState,
    Started, WhatBecame,
};
pub use self::order::{Exec, Gang, Limit, Order, Start, StartGpu, Stop, ToDevice, Welcome};
pub use self::question::{DeviceRpc, LeaderRpc, LogPiece, LogQuery, LogStream, Reasons, Waiting, Why};

/// Version of these messages; a leader understands its own and the one before.
pub const PROTOCOL: u32 = 2;
/// The oldest version that is understood: a device whose worker speaks it drains.
pub const OLDEST_PROTOCOL: u32 = PROTOCOL - 1;

/// Status by which the leader refuses a worker that obeys another installation: 421, Misdirected Request.
/// By it the worker knows that its containers are to go on; every other refusal lets its lease run out.
pub const OTHER_INSTALLATION: u16 = 421;

/// `type` of a submission; its body is that of `POST /v1/jobs`.
pub const SUBMIT: &str = "job.submit.v1";
/// `type` of a command; its body is a [`CommandRequest`].
pub const COMMAND: &str = "command.v1";
/// `type` of an [`AdminRequest`].
pub const ADMIN: &str = "admin.v1";
/// `type` of a [`Reply`].
pub const REPLY: &str = "reply.v1";
/// `type` of a [`ToDevice`].
pub const TO_DEVICE: &str = "device.order.v1";
/// `type` of a [`FromDevice`].
pub const FROM_DEVICE: &str = "device.event.v1";
/// `type` of a [`DeviceRpc`].
pub const DEVICE_RPC: &str = "device.rpc.v1";
/// `type` of a [`LeaderRpc`].
pub const LEADER_RPC: &str = "leader.rpc.v1";

/// `type` of what a leader sends to itself through `berth.events`; its body is a number.
pub const MARKER: &str = "leader.marker.v1";

/// Header: in whose name the scheduler's own shim asks. Counts from the scheduler's account only.
pub const HEADER_OWNER: &str = "berth-owner";
/// Header: the id that the shim gave to the job. Counts from the scheduler's account only.
pub const HEADER_JOB: &str = "berth-job";
/// Header: until when somebody waits for the answer, in milliseconds since 1970.
pub const HEADER_DEADLINE: &str = "berth-deadline-ms";
/// Header of what lies in `berth.dead`: why.
pub const HEADER_REASON: &str = "berth-reason";

/// A command on a job or a device; the message's `message_id` is the command's id (a UUID).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandRequest {
    #[serde(flatten)]
    pub target: Target,
    /// A [`crate::command::CommandBody`], read by the receiver so that it can answer what is wrong.
    pub body: serde_json::Value,
}

/// What a command aims at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    Job(Uuid),
    /// By its name.
    Device(String),
}

impl Target {
    /// # Errors
    /// 422 when `verb` aims at something else.
    pub fn check(&self, verb: Verb) -> Result<(), Problem> {
        let wrong = match (self, verb.is_for_device()) {
            (Self::Job(_), true) => "is a command of devices, not of jobs",
            (Self::Device(_), false) => "is a command of jobs, not of devices",
            (Self::Job(_), false) | (Self::Device(_), true) => return Ok(()),
        };
        Err(Problem::invalid_field("/command", format!("{verb} {wrong}")))
    }
}

/// What an admin changes in the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum AdminRequest {
    CreateQueue { queue: Box<Queue> },
    ReplaceQueue { queue: Box<Queue> },
    DeleteQueue { name: String },
    DeleteDevice { name: String },
}

/// The answer to a request, as HTTP would give it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    pub status: u16,
    pub body: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::id::Replica;
    use crate::job::StopReason;

    #[test]
    fn messages_survive_the_wire() {
        let replica = Replica { job: Uuid::nil(), attempt: 1, replica: 0 };
        let order = ToDevice {
            session: 7,
            id: 8,
            order: Order::Stop(Stop { replica, reason: StopReason::Kill, grace_ms: 10_000 }),
        };
        let text = serde_json::to_string(&order).expect("json");
        assert_eq!(serde_json::from_str::<ToDevice>(&text).expect("reads"), order);
        let exec = Exec { command: Uuid::max(), replica, argv: vec!["ls".into()], timeout_s: 9 };
        let order = ToDevice { session: 7, id: 9, order: Order::Exec(exec) };
        let text = serde_json::to_string(&order).expect("json");
        assert_eq!(serde_json::from_str::<ToDevice>(&text).expect("reads"), order);
        let event = FromDevice {
            device: "dev-1".into(),
            worker_id: Uuid::nil(),
            boot: Uuid::nil(),
            at: Timestamp::UNIX_EPOCH,
            event: Event::Answer(Answer { replica, session: 7, answer: WhatBecame::NeverTaken }),
        };
        let text = serde_json::to_string(&event).expect("json");
        assert_eq!(serde_json::from_str::<FromDevice>(&text).expect("reads"), event);
    }
}
