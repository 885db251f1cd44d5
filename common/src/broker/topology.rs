//! Names of exchanges and queues, and their declaration.
//!
//! Queues are durable quorum queues declared with their type alone: limits and expiry come by
//! policy, because declaring again with other arguments is an error that closes the channel.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

pub const REQUESTS: &str = "berth.requests";
pub const DEVICES: &str = "berth.devices";
pub const EVENTS: &str = "berth.events";
pub const RPC: &str = "berth.rpc";
pub const REPLIES: &str = "berth.replies";
pub const STATUS: &str = "berth.status";
pub const TELEMETRY: &str = "berth.telemetry";
pub const DEAD: &str = "berth.dead";
/// The default exchange: its routing keys are the names of queues. Answers to devices go by it, not by
/// [`REPLIES`]: an account that may bind its reply queue there could bind it under another's key too,
/// and overhear that one's answers.
pub const BY_QUEUE: &str = "";

/// Routing keys of cell 0 on `berth.requests`; another cell's number stands before its own.
pub const KEY_SUBMIT: &str = "job.submit";
pub const KEY_COMMAND: &str = "command";
pub const KEY_ADMIN: &str = "admin";

#[must_use]
pub fn requests_queue(cell: i32) -> String {
    format!("{REQUESTS}.{cell}")
}

#[must_use]
pub fn events_queue(cell: i32) -> String {
    format!("{EVENTS}.{cell}")
}

/// What the leader sends to a device.
#[must_use]
pub fn device_queue(device: &str) -> String {
    format!("berth.device.{device}")
}

/// Questions to a device.
#[must_use]
pub fn rpc_queue(device: &str) -> String {
    format!("{RPC}.{device}")
}

/// Routing key on `berth.rpc` under which a cell's leader answers questions. No device can have
/// this name.
#[must_use]
pub fn leader_rpc_key(cell: i32) -> String {
    format!("_leader.{cell}")
}

/// Routing key on `berth.events` of what a leader sends to itself. No device can have this name.
#[must_use]
pub fn leader_event_key(cell: i32) -> String {
    format!("_leader.{cell}.marker")
}

/// A name for an exclusive reply queue; `who` is a device's name or `shim`, `boot` differs per process.
#[must_use]
pub fn reply_queue(who: &str, boot: uuid::Uuid) -> String {
    format!("berth.reply.{who}.{boot}")
}

/// Whether [`reply_queue`] gives `who` queues with names like `queue`.
#[must_use]
pub fn is_reply_queue_of(who: &str, queue: &str) -> bool {
    let boot = queue.strip_prefix("berth.reply.").and_then(|rest| rest.strip_prefix(who)?.strip_prefix('.'));
    boot.is_some_and(|boot| boot.parse::<uuid::Uuid>().is_ok())
}

/// Declares everything but the devices' own queues.
///
/// # Errors
/// What the broker answers, e.g. 406 where something of that name exists with other arguments.
pub async fn declare(channel: &Channel, cell: i32) -> Result<(), lapin::Error> {
    for (name, kind) in [
        (REQUESTS, ExchangeKind::Topic),
        (DEVICES, ExchangeKind::Direct),
        (EVENTS, ExchangeKind::Topic),
        (RPC, ExchangeKind::Direct),
        (REPLIES, ExchangeKind::Direct),
        (STATUS, ExchangeKind::Topic),
        (TELEMETRY, ExchangeKind::Topic),
        (DEAD, ExchangeKind::Fanout),
    ] {
        declare_exchange(channel, name, kind).await?;
    }
    let requests = requests_queue(cell);
    quorum_queue(channel, &requests, FieldTable::default()).await?;
    for key in [KEY_SUBMIT, KEY_COMMAND, KEY_ADMIN] {
        if cell == 0 {
            bind(channel, &requests, REQUESTS, key).await?;
        }
        bind(channel, &requests, REQUESTS, &format!("{cell}.{key}")).await?;
    }
    let events = events_queue(cell);
    quorum_queue(channel, &events, FieldTable::default()).await?;
    bind(channel, &events, EVENTS, "#").await?;
    quorum_queue(channel, DEAD, FieldTable::default()).await?;
    bind(channel, DEAD, DEAD, "").await
}

/// Declares the two queues of a device; the leader does it at the first heartbeat.
///
/// # Errors
/// What the broker answers.
pub async fn declare_device(channel: &Channel, device: &str) -> Result<(), lapin::Error> {
    // Orders come last: whoever can be given one can be asked about it.
    let questions = rpc_queue(device);
    quorum_queue(channel, &questions, FieldTable::default()).await?;
    bind(channel, &questions, RPC, device).await?;
    let mut single = FieldTable::default();
    single.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    let orders = device_queue(device);
    quorum_queue(channel, &orders, single).await?;
    bind(channel, &orders, DEVICES, device).await
}

/// Deletes the two queues of a device, with what is in them.
///
/// # Errors
/// What the broker answers; that there are none is no error.
pub async fn delete_device(channel: &Channel, device: &str) -> Result<(), lapin::Error> {
    for queue in [device_queue(device), rpc_queue(device)] {
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
    }
    Ok(())
}

/// Declares one of the exchanges above.
///
/// # Errors
/// What the broker answers.
pub async fn declare_exchange(channel: &Channel, name: &str, kind: ExchangeKind) -> Result<(), lapin::Error> {
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(name.into(), kind, durable, FieldTable::default()).await
}

async fn quorum_queue(channel: &Channel, name: &str, mut arguments: FieldTable) -> Result<(), lapin::Error> {
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(name.into(), durable, arguments).await.map(|_| ())
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<(), lapin::Error> {
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ones_own_reply_queue_is_known() {
        let own = reply_queue("gpu1", uuid::Uuid::nil());
        assert!(is_reply_queue_of("gpu1", &own));
        for other in
            [&reply_queue("gpu1.lab", uuid::Uuid::nil()), "berth.requests.0", "berth.reply.gpu1.", ""]
        {
            assert!(!is_reply_queue_of("gpu1", other), "{other}");
        }
    }
}
