//! Reads what came in: who asks, for what, and whether it can be understood at all.
//!
//! Whose submission it is follows from the account that the broker has checked (`user_id`). Only
//! the scheduler's own account may speak for others, because the shim has authenticated them.

use berth_common::broker::{Delivery, topology};
use berth_common::command::CommandBody;
use berth_common::id::{CELL, job_id_for_key};
use berth_common::message::{
    AdminRequest, CommandRequest, FromDevice, HEADER_DEADLINE, HEADER_JOB, HEADER_OWNER, LeaderRpc,
};
use berth_common::problem::Problem;
use berth_common::queue::Queue;
use berth_common::spec;
use jiff::Timestamp;
use uuid::Uuid;

use crate::core::input::{Admin, Command, Input, Submission};

/// The same as over HTTP: what is larger could not be sent on to a device.
const MAX_BODY: usize = 1 << 20;
/// AMQP's short strings end here.
const MAX_KEY: usize = 255;
/// Under which a command whose `message_id` is no UUID gets its id. Fixed for ever, like that of jobs.
const COMMAND_NAMESPACE: Uuid = Uuid::from_u128(0x0f2c_51a7_9be4_4d0e_8a35_77c1_d2e9_4b60);

/// What a delivery is.
#[derive(Debug)]
pub enum Read {
    Input(Box<Input>),
    /// What this leader, or one before it, sent to itself.
    Marker(u64),
    /// A question to the leader.
    Question(LeaderRpc),
    /// Understood, and invalid: to be answered.
    Refused(Problem),
    /// Not understood, or of no use to anybody.
    Unreadable(String),
}

/// Reads a delivery. `account` is the scheduler's own.
#[must_use]
pub fn read(delivery: &Delivery, account: &str) -> Read {
    let key = delivery.routing_key.as_str();
    if delivery.queue == topology::requests_queue(CELL) {
        if delivery.body.len() > MAX_BODY {
            return Read::Refused(Problem::new(
                413,
                format!("the body is larger than {} MiB", MAX_BODY >> 20),
            ));
        }
        let result = match key.rsplit_once('.').map_or(key, |(_, last)| last) {
            "submit" => submission(delivery, account),
            "command" => command(delivery, account),
            "admin" => admin(delivery, account),
            _ => {
                return Read::Unreadable(format!(
                    "the routing key {key:?} is none of job.submit, command and admin"
                ));
            }
        };
        return result.map_or_else(Read::Refused, |input| Read::Input(Box::new(input)));
    }
    if delivery.queue == topology::events_queue(CELL) {
        return event(delivery);
    }
    match serde_json::from_slice(&delivery.body) {
        Ok(question) => Read::Question(question),
        Err(error) => Read::Refused(Problem::new(400, format!("the question cannot be read: {error}"))),
    }
}

fn submission(delivery: &Delivery, account: &str) -> Result<Input, Problem> {
    let owner = owner(delivery, account)?;
    let spec = spec::parse(&delivery.body)?;
    let key = delivery.message_id.as_str();
    if key.is_empty() || key.len() > MAX_KEY {
        let text = "a submission needs the property message_id (1–255 bytes): it is its idempotency key";
        return Err(Problem::new(400, text));
    }
    let given = trusted(delivery, account, HEADER_JOB).and_then(|id| id.parse::<Uuid>().ok());
    let id = given.unwrap_or_else(|| job_id_for_key(&owner, &spec.queue, key));
    Ok(Input::Submit(Box::new(Submission { id, owner, hash: spec.hash(), spec })))
}

fn command(delivery: &Delivery, account: &str) -> Result<Input, Problem> {
    let actor = owner(delivery, account)?;
    let request: CommandRequest = serde_json::from_slice(&delivery.body)
        .map_err(|error| Problem::new(400, format!("the command cannot be read: {error}")))?;
    let body = CommandBody::from_value(request.body)?;
    request.target.check(body.command)?;
    let key = delivery.message_id.as_str();
    if key.is_empty() {
        return Err(Problem::new(400, "a command needs the property message_id: its id"));
    }
    let id = key
        .parse()
        .unwrap_or_else(|_| Uuid::new_v5(&COMMAND_NAMESPACE, format!("{actor}\0{key}").as_bytes()));
    Ok(Input::Command(Command { id, target: request.target, actor, body }))
}

/// Whether whoever asks is an admin is the core's affair, as for every command.
fn admin(delivery: &Delivery, account: &str) -> Result<Input, Problem> {
    let actor = owner(delivery, account)?;
    let mut request: AdminRequest = serde_json::from_slice(&delivery.body)
        .map_err(|error| Problem::new(400, format!("the request cannot be read: {error}")))?;
    match &mut request {
        AdminRequest::CreateQueue { queue } | AdminRequest::ReplaceQueue { queue } => {
            **queue = Queue::from_value(serde_json::to_value(&**queue).expect("a queue is plain JSON"))?;
        }
        AdminRequest::DeleteQueue { .. } | AdminRequest::DeleteDevice { .. } => {}
    }
    Ok(Input::Admin(Admin { actor, request }))
}

fn event(delivery: &Delivery) -> Read {
    if delivery.routing_key == topology::leader_event_key(CELL) {
        return match serde_json::from_slice(&delivery.body) {
            Ok(number) => Read::Marker(number),
            Err(error) => Read::Unreadable(format!("the marker cannot be read: {error}")),
        };
    }
    let told = match FromDevice::read(&delivery.body) {
        Ok(told) => told,
        Err(error) => return Read::Unreadable(format!("the report cannot be read: {error}")),
    };
    // The broker lets a worker publish under its own name only; its word inside must be the same.
    if delivery.routing_key != format!("{}.{}", told.device, told.event.key()) {
        return Read::Unreadable(format!("{:?} speaks under {:?}", told.device, delivery.routing_key));
    }
    if !berth_common::id::is_device_name(&told.device) {
        return Read::Unreadable(format!("{:?} is no device's name", told.device));
    }
    Read::Input(Box::new(Input::Device(Box::new(told))))
}

fn owner(delivery: &Delivery, account: &str) -> Result<String, Problem> {
    if let Some(owner) = trusted(delivery, account, HEADER_OWNER) {
        return Ok(owner.to_owned());
    }
    if delivery.user_id.is_empty() {
        let text = "the message has no user_id: set that property to the account you signed in with, the broker checks it";
        return Err(Problem::new(403, text));
    }
    Ok(delivery.user_id.clone())
}

/// A header that counts from the scheduler's own account only.
fn trusted<'a>(delivery: &'a Delivery, account: &str, header: &str) -> Option<&'a str> {
    let own = delivery.user_id == account;
    delivery.headers.get(header).filter(|_| own).map(String::as_str)
}

/// Whether somebody still waits for the answer.
#[must_use]
pub fn is_awaited(delivery: &Delivery, now: Timestamp) -> bool {
    let deadline = delivery.headers.get(HEADER_DEADLINE).and_then(|ms| ms.parse::<i64>().ok());
    delivery.reply_to.is_some() && deadline.is_none_or(|ms| ms >= now.as_millisecond())
}
