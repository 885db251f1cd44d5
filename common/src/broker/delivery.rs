//! What arrives, and its acknowledgement.

use std::collections::BTreeMap;

use lapin::Acker;
use lapin::options::BasicAckOptions;
use lapin::types::AMQPValue;
use tokio_util::sync::CancellationToken;

/// A message that arrived.
#[derive(Debug)]
pub struct Delivery {
    pub queue: String,
    pub routing_key: String,
    /// AMQP's `type`; empty where the sender gave none. So are the other texts.
    pub kind: String,
    pub message_id: String,
    /// The account that published it, as the broker checked; empty where the sender did not say.
    pub user_id: String,
    pub reply_to: Option<String>,
    pub correlation_id: Option<String>,
    /// Those that are texts.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    acker: Acker,
    /// Its connection has ended.
    over: CancellationToken,
}

impl Delivery {
    pub(super) fn new(queue: &str, message: lapin::message::Delivery, over: CancellationToken) -> Self {
        let properties = &message.properties;
        let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
        let mut headers = BTreeMap::new();
        for (key, value) in properties.headers().iter().flat_map(|table| table.inner()) {
            match value {
                AMQPValue::LongString(value) => {
                    headers.insert(key.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned());
                }
                AMQPValue::ShortString(value) => {
                    headers.insert(key.to_string(), value.to_string());
                }
                _ => {} // not a text: no header of ours
            }
        }
        Self {
            queue: queue.to_owned(),
            routing_key: message.routing_key.to_string(),
            kind: text(properties.kind()).unwrap_or_default(),
            message_id: text(properties.message_id()).unwrap_or_default(),
            user_id: text(properties.user_id()).unwrap_or_default(),
            reply_to: text(properties.reply_to()),
            correlation_id: text(properties.correlation_id()),
            headers,
            body: message.data,
            acker: message.acker,
            over,
        }
    }

    /// Tells the broker that its effect is durable. `false`: the channel is gone meanwhile, and
    /// the message will come again.
    pub async fn ack(&self) -> bool {
        // lapin forgets one that is given to it in the moment in which its connection dies.
        let sent = self.over.run_until_cancelled(self.acker.ack(BasicAckOptions::default())).await;
        matches!(sent, Some(Ok(true)))
    }
}
