//! What a worker tells the leader.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::command::CommandStatus;
use crate::id::Replica;
use crate::inventory::Inventory;

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

/// The answer to what a welcome expected and the worker does not run, or to an [`super::Order::Ask`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    #[serde(flatten)]
    pub replica: Replica,
    pub session: i64,
    pub answer: WhatBecame,
}

/// How an [`super::Exec`] ended.
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
}
