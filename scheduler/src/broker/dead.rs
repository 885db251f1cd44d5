//! `berth.dead`: messages that nobody could read, or that alone made a batch fail, with the reason.

use berth_common::broker::{Delivery, Message, PublishError, Publisher, topology};
use berth_common::message::HEADER_REASON;

/// AMQP headers have room for more, a person's patience has not.
const MAX_REASON: usize = 2048;

/// Puts a copy of `delivery` into `berth.dead`.
///
/// # Errors
/// The broker has not confirmed it: the delivery must not be acknowledged, so that it comes again.
pub async fn lay_aside(publisher: &Publisher, delivery: &Delivery, reason: &str) -> Result<(), PublishError> {
    tracing::warn!(
        queue = %delivery.queue, routing_key = %delivery.routing_key, message_id = %delivery.message_id,
        sender = %delivery.user_id, reason, "a message went to berth.dead"
    );
    let id = if delivery.message_id.is_empty() { "unnamed" } else { &delivery.message_id };
    let mut message = Message::new(topology::DEAD, "", &delivery.kind, id, delivery.body.clone());
    message.headers.clone_from(&delivery.headers);
    for (key, value) in [
        (HEADER_REASON, reason.chars().take(MAX_REASON).collect()),
        ("berth-queue", delivery.queue.clone()),
        ("berth-routing-key", delivery.routing_key.clone()),
        ("berth-sender", delivery.user_id.clone()),
    ] {
        message.headers.insert(key.into(), value);
    }
    publisher.publish(message).await
}
