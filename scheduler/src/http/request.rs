//! What goes to the leader and to devices, as messages, and what their answers mean.
//!
//! A change is told by a message whoever leads, and its answer is awaited for a limited time: without
//! one it is accepted, and decided later.

use std::time::Duration;

use axum::http::HeaderMap;
use berth_common::broker::{Message, topology};
use berth_common::id::CELL;
use berth_common::message::{
    ADMIN, AdminRequest, COMMAND, CommandRequest, DEVICE_RPC, DeviceRpc, HEADER_DEADLINE, HEADER_JOB,
    HEADER_OWNER, LEADER_RPC, LeaderRpc, Reply, SUBMIT,
};
use berth_common::problem::Problem;
use berth_common::spec::JobSpec;
use berth_common::time;
use serde::Serialize;
use uuid::Uuid;

use super::refusal::Refusal;
use crate::ask::{AskError, Asker};

/// How long a submission or a command waits for the leader before it is answered with 202.
pub const LEADER_WAIT: Duration = Duration::from_secs(5);
/// A question that lay so long in a queue is not answered any more: nobody waits.
const QUESTION_EXPIRES_MS: u64 = 10_000;
/// A short string of AMQP, which a message's id is.
const MAX_KEY: usize = 255;

/// The `Idempotency-Key` of a request. `room` is kept free in it for what is added.
///
/// # Errors
/// 400 when it is not 1–255 visible ASCII characters, less `room`.
pub fn idempotency_key(headers: &HeaderMap, room: usize) -> Result<Option<&str>, Refusal> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let max = MAX_KEY - room;
    let key = value
        .to_str()
        .ok()
        .filter(|key| (1..=max).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()));
    match key {
        Some(key) => Ok(Some(key)),
        None => Err(Refusal::new(400, format!("Idempotency-Key must be 1–{max} visible ASCII characters"))),
    }
}

/// A submission in `owner`'s name.
pub fn submission(owner: &str, job: Uuid, key: Option<&str>, spec: &JobSpec) -> Message {
    let id = key.map_or_else(|| job.to_string(), str::to_owned);
    let mut message =
        Message::new(topology::REQUESTS, topology::KEY_SUBMIT, SUBMIT, id, spec.to_json().into_bytes());
    message.headers.insert(HEADER_OWNER.into(), owner.into());
    message.headers.insert(HEADER_JOB.into(), job.to_string());
    message.headers.insert(HEADER_DEADLINE.into(), deadline());
    message
}

/// A command in `actor`'s name.
pub fn command(actor: &str, id: Uuid, request: &CommandRequest) -> Message {
    let mut message =
        Message::new(topology::REQUESTS, topology::KEY_COMMAND, COMMAND, id.to_string(), body(request));
    message.headers.insert(HEADER_OWNER.into(), actor.into());
    message.headers.insert(HEADER_DEADLINE.into(), deadline());
    message
}

/// A change of the cluster in an administrator's name.
pub fn admin(actor: &str, request: &AdminRequest) -> Message {
    let id = Uuid::now_v7().to_string();
    let mut message = Message::new(topology::REQUESTS, topology::KEY_ADMIN, ADMIN, id, body(request));
    message.headers.insert(HEADER_OWNER.into(), actor.into());
    message.headers.insert(HEADER_DEADLINE.into(), deadline());
    message
}

/// How long a change is worth waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Until the leader has decided, or [`LEADER_WAIT`] is over.
    Decision,
    /// Until the broker has it.
    Confirm,
}

/// Tells the leader to change something, and waits for what it says.
///
/// # Errors
/// See [`AskError`]; `NoAnswer`: the broker has it, and it is decided later.
pub async fn decide(asker: &Asker, message: Message, patience: Patience) -> Result<Reply, AskError> {
    match patience {
        Patience::Decision => asker.ask(message, LEADER_WAIT).await,
        Patience::Confirm => asker.tell(message, LEADER_WAIT).await.and(Err(AskError::NoAnswer)),
    }
}

/// Asks the leader, without changing anything.
///
/// # Errors
/// See [`AskError`]; `Unroutable`: nobody leads.
pub async fn ask_leader(asker: &Asker, question: &LeaderRpc, wait: Duration) -> Result<Reply, AskError> {
    asker.ask(self::question(topology::leader_rpc_key(CELL), LEADER_RPC, body(question)), wait).await
}

/// Asks a device.
///
/// # Errors
/// See [`AskError`]; `Unroutable`: the device has no queue, for it is new or was deleted.
pub async fn ask_device(
    asker: &Asker,
    device: &str,
    question: &DeviceRpc,
    wait: Duration,
) -> Result<Reply, AskError> {
    asker.ask(self::question(device.to_owned(), DEVICE_RPC, body(question)), wait).await
}

/// The refusal that an answer is.
pub fn problem_of(reply: Reply) -> Problem {
    let status = if (400..=599).contains(&reply.status) { reply.status } else { 500 };
    match serde_json::from_value::<Problem>(reply.body) {
        Ok(problem) => Problem { status, ..problem },
        Err(error) => {
            tracing::warn!(%error, status, "a refusal that cannot be read");
            Problem::new(status, "it was refused without a reason that can be read")
        }
    }
}

fn question(key: String, kind: &str, body: Vec<u8>) -> Message {
    let mut message = Message::new(topology::RPC, key, kind, Uuid::new_v4().to_string(), body);
    message.expires_ms = Some(QUESTION_EXPIRES_MS);
    message
}

fn body(of: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(of).expect("messages have only string keys")
}

fn deadline() -> String {
    let wait_ms = i64::try_from(LEADER_WAIT.as_millis()).expect("a few seconds");
    time::plus_ms(time::now(), wait_ms).as_millisecond().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_visible_and_fit_a_message_id() {
        let key = |value: &str, room| {
            let value = axum::http::HeaderValue::from_bytes(value.as_bytes()).expect("a header");
            let headers = HeaderMap::from_iter([("idempotency-key".parse().expect("a name"), value)]);
            idempotency_key(&headers, room).map(|key| key.map(str::to_owned)).ok().flatten()
        };
        assert_eq!(key("night-run/7", 0).as_deref(), Some("night-run/7"));
        assert_eq!(key(&"k".repeat(255), 0), Some("k".repeat(255)));
        for (bad, room) in [("", 0), ("a b", 0), ("ä", 0), (&*"k".repeat(256), 0), (&*"k".repeat(250), 6)] {
            assert_eq!(key(bad, room), None, "{bad}");
        }
    }

    #[test]
    fn a_refusal_keeps_its_status_even_when_it_cannot_be_read() {
        let reply = |status, body| problem_of(Reply { status, body }).status;
        assert_eq!(reply(422, serde_json::json!({"status": 422})), 422);
        assert_eq!(reply(409, serde_json::to_value(Problem::new(409, "no")).expect("json")), 409);
        assert_eq!(reply(300, serde_json::Value::Null), 500);
    }
}
