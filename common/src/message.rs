//! The messages between the scheduler's leader and the workers, and the answers to those who ask.
//!
//! All are JSON. What travels leader → device carries a session and an id that only grows, so that
//! a repeated or late copy does nothing (see ARCHITECTURE.md, "Between the leader and a device").

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::command::{CommandStatus, Verb};
use crate::id::Replica;
use crate::inventory::Inventory;
use crate::job::StopReason;
use crate::problem::Problem;
use crate::queue::Queue;
use crate::spec::JobSpec;

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

/// A numbered message to a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToDevice {
    pub session: i64,
    pub id: i64,
    #[serde(flatten)]
    pub order: Order,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    Start(Box<Start>),
    Stop(Stop),
    /// "What became of this one?" An [`Event::Answer`] is due.
    Ask(Replica),
    /// Run something beside the job's program; an [`Event::Executed`] is due.
    Exec(Exec),
    /// Its time limit has changed.
    Limit(Limit),
    Welcome(Welcome),
}

/// Run one container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    #[serde(flatten)]
    pub replica: Replica,
    pub owner: String,
    pub spec: JobSpec,
    pub gpus: Vec<StartGpu>,
    /// For ssh and Jupyter in the container.
    pub password: String,
    /// Seconds that it may run, the queue's default included.
    #[serde(default)]
    pub timeout_s: Option<u64>,
    /// Its place in its array, from 0.
    #[serde(default)]
    pub array_index: Option<u32>,
    /// Only where the attempt has several replicas.
    #[serde(default)]
    pub gang: Option<Gang>,
}

/// How the replicas of an attempt find each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gang {
    pub replicas: u32,
    /// Address of the device that has replica 0.
    pub master_addr: String,
    /// A port of that device which no other live gang was given.
    pub master_port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartGpu {
    pub uuid: String,
    pub idx: u32,
    #[serde(rename = "type")]
    pub kind: String,
}

/// Stop one container: SIGTERM, and SIGKILL after the grace time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    #[serde(flatten)]
    pub replica: Replica,
    pub reason: StopReason,
    pub grace_ms: u64,
}

/// Run an argument list in a container, without a shell, at most once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The command's id: one that was taken before is not run again, whatever number it comes with.
    pub command: Uuid,
    #[serde(flatten)]
    pub replica: Replica,
    pub argv: Vec<String>,
    pub timeout_s: u64,
}

/// The time that one container may run from now on, counted from its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    #[serde(flatten)]
    pub replica: Replica,
    /// None: as long as it likes.
    pub timeout_s: Option<u64>,
}

/// The leader's answer to a heartbeat without the current session. It starts nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// For which process of the worker it is.
    pub boot: Uuid,
    /// The installation that speaks.
    pub instance: Uuid,
    /// What the leader believes to be on the device.
    pub expected: Vec<Replica>,
    /// Without a confirm of the broker for so long, the worker has no session any more.
    pub fence_after_s: u64,
}

/// What a worker tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FromDevice {
    pub device: String,
    /// Made once in the worker's data folder.
    pub worker_id: Uuid,
    /// Made at each start of the worker's process, and anew when it has fenced itself: a welcome from
    /// before is not for it any more.
    pub boot: Uuid,
    /// The worker's clock; for people, decides nothing.
    #[serde(with = "crate::time")]
    pub at: Timestamp,
    #[serde(flatten)]
    pub event: Event,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Heartbeat(Box<Heartbeat>),
    Started(Started),
    Exited(Exited),
    Answer(Answer),
    Executed(Executed),
}

/// Bytes that are kept of a text in a report: Docker's own messages are shorter.
const MAX_TEXT: usize = 4096;

impl FromDevice {
    /// Reads a report, made fit to be stored: no database keeps a NUL character, and what a registry
    /// answers may be longer than anybody reads.
    ///
    /// # Errors
    /// What cannot be read, or makes no sense.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let mut value: serde_json::Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        without_nul(&mut value);
        let mut told: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        match &mut told.event {
            Event::Heartbeat(heartbeat) => {
                heartbeat.health.iter_mut().for_each(shorten);
                heartbeat.inventory.as_ref().map_or(Ok(()), Inventory::check)?;
            }
            Event::Exited(Exited { ending, .. })
            | Event::Answer(Answer { answer: WhatBecame::Ended { ending }, .. }) => {
                ending.fault.iter_mut().for_each(|fault| shorten(&mut fault.text));
            }
            Event::Executed(executed) if executed.status == CommandStatus::Pending => {
                return Err("a command that is over is not pending".into());
            }
            Event::Started(_) | Event::Answer(_) | Event::Executed(_) => {}
        }
        Ok(told)
    }
}

fn without_nul(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) if text.contains('\0') => *text = text.replace('\0', "\u{fffd}"),
        Value::Array(values) => values.iter_mut().for_each(without_nul),
        Value::Object(fields) => fields.values_mut().for_each(without_nul),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn shorten(text: &mut String) {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

impl Event {
    /// Last part of the routing key under which it is published.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Heartbeat(_) => "heartbeat",
            Self::Started(_) => "started",
            Self::Exited(_) => "exited",
            // A worker's account may use these four keys; this one too is an answer to an order.
            Self::Answer(_) | Self::Executed(_) => "answer",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub protocol: u32,
    /// None at first: that is the hello.
    pub session: Option<i64>,
    /// The largest id taken in this session.
    pub last: Option<i64>,
    /// The installation that the worker obeys; none before its first welcome.
    pub instance: Option<Uuid>,
    /// With the hello, and when it changed.
    pub inventory: Option<Inventory>,
    /// Every attempt taken whose end has not been reported with a confirm. None when Docker could
    /// not be read: that claims nothing.
    pub attempts: Option<Vec<Held>>,
    /// Why nothing should be started here now, in words for people; none when all is well.
    #[serde(default)]
    pub health: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    #[serde(flatten)]
    pub replica: Replica,
    pub state: HeldState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldState {
    Taken,
    Pulling,
    Created,
    Running,
    Exited,
}

/// The container runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Started {
    #[serde(flatten)]
    pub replica: Replica,
    pub session: i64,
    pub docker_id: String,
    #[serde(with = "crate::time")]
    pub started_at: Timestamp,
    /// Name of a port to its number on the host.
    pub ports: BTreeMap<String, u16>,
}

/// The container is gone, or never came to be. Judged by (job, attempt, replica, device), also
/// from an old session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exited {
    #[serde(flatten)]
    pub replica: Replica,
    pub session: i64,
    pub ending: Ending,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// The exit code of its first process; none where it never ran.
    pub exit_code: Option<i64>,
    /// The kernel killed a process of it for memory.
    pub oom: bool,
    /// Whether a stop of ours reached it before it ended.
    pub signalled: bool,
    /// Whether the worker stopped it because it had run for its time limit.
    #[serde(default)]
    pub timed_out: bool,
    /// What was not the user's doing.
    pub fault: Option<Fault>,
    #[serde(with = "crate::time::option")]
    pub started_at: Option<Timestamp>,
    #[serde(with = "crate::time")]
    pub exited_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub kind: FaultKind,
    /// Docker's own words, where they are Docker's.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Another try, or another device, may do: Docker failed, the registry did not answer.
    Transient,
    /// It can never start: image not found, access denied, refused by Docker as invalid.
    NeverStarts,
    /// Nobody knows how it ended: its container vanished.
    Unknown,
}

/// The answer to what a welcome expected and the worker does not run, or to an [`Order::Ask`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    #[serde(flatten)]
    pub replica: Replica,
    pub session: i64,
    pub answer: WhatBecame,
}

/// How an [`Exec`] ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    pub command: Uuid,
    /// `done` with whatever exit code; `failed`: it could not be run, or not to its end in time;
    /// `unknown`: a crash hid how it ended.
    pub status: CommandStatus,
    pub exit_code: Option<i64>,
    /// What it wrote to both streams, at most [`crate::command::MAX_OUTPUT`] bytes; or why it failed.
    pub output: String,
    pub truncated: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "became", rename_all = "snake_case")]
pub enum WhatBecame {
    /// The start never reached the inbox, and this session will not take it any more.
    NeverTaken,
    /// It is here.
    Live {
        state: HeldState,
    },
    Ended {
        ending: Ending,
    },
    /// It was taken, and how it ended is not known.
    Unknown,
}

/// A question to a worker on `berth.rpc`, answered to `reply_to` with a [`Reply`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum DeviceRpc {
    Logs(LogQuery),
    Telemetry(crate::telemetry::Query),
}

/// A piece of a container's log. Answered with a [`LogPiece`], 404 when the device has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogQuery {
    #[serde(flatten)]
    pub replica: Replica,
    /// Only this stream.
    pub stream: Option<LogStream>,
    /// Only the last so many lines; with `cursor` it means nothing.
    pub tail: Option<u64>,
    /// Only lines written at or after this time.
    #[serde(with = "crate::time::option")]
    pub since: Option<Timestamp>,
    /// Where the last piece ended; none: from the beginning (or `tail`).
    pub cursor: Option<u64>,
    /// How long the worker may wait for something new before it answers with an empty piece.
    pub wait_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    Stdout,
    Stderr,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPiece {
    pub text: String,
    /// Give it with the next query.
    pub cursor: u64,
    /// The container is gone and nothing will come after this piece.
    pub end: bool,
}

/// A question to the leader of a cell on `berth.rpc`, answered to `reply_to` with a [`Reply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum LeaderRpc {
    /// Why these jobs wait; answered with a [`Reasons`]. At most 1000.
    Reasons { jobs: Vec<Uuid> },
    /// Why this job waits, and what would let it start; answered with a [`Why`].
    Why { job: Uuid },
}

/// By job; those that do not wait are left out.
pub type Reasons = BTreeMap<Uuid, Waiting>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    pub reason: crate::job::Reason,
    pub position: Option<u64>,
    #[serde(with = "crate::time::option")]
    pub start_by: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// None: it does not wait.
    pub waiting: Option<Waiting>,
    pub changes: Vec<crate::job::Suggestion>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_tells_can_be_stored_whatever_a_registry_answered() {
        let ending = Ending {
            exit_code: None,
            oom: false,
            signalled: false,
            timed_out: false,
            fault: Some(Fault { kind: FaultKind::Transient, text: format!("a\0b{}", "ä".repeat(9000)) }),
            started_at: None,
            exited_at: Timestamp::UNIX_EPOCH,
        };
        let replica = Replica { job: Uuid::nil(), attempt: 1, replica: 0 };
        let told = |event| FromDevice {
            device: "dev-1".into(),
            worker_id: Uuid::nil(),
            boot: Uuid::nil(),
            at: Timestamp::UNIX_EPOCH,
            event,
        };
        let body =
            serde_json::to_vec(&told(Event::Exited(Exited { replica, session: 1, ending }))).expect("json");
        let Event::Exited(exited) = FromDevice::read(&body).expect("read").event else { panic!("an exit") };
        let text = exited.ending.fault.expect("a fault").text;
        assert!(text.starts_with("a\u{fffd}bä") && text.len() < 5000 && text.ends_with('…'));
        let executed = Executed {
            command: Uuid::nil(),
            status: CommandStatus::Pending,
            exit_code: None,
            output: String::new(),
            truncated: false,
        };
        let body = serde_json::to_vec(&told(Event::Executed(executed))).expect("json");
        assert!(FromDevice::read(&body).is_err());
    }

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
