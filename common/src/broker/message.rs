//! What is published, and its properties on the wire.

use std::collections::BTreeMap;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

/// A message to be published. It is persistent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub exchange: String,
    pub routing_key: String,
    /// AMQP's `type`.
    pub kind: String,
    /// The same for every copy of the message.
    pub message_id: String,
    pub body: Vec<u8>,
    pub reply_to: Option<String>,
    pub correlation_id: Option<String>,
    pub headers: BTreeMap<String, String>,
    /// How long it is worth anything in a queue.
    pub expires_ms: Option<u64>,
    /// Whether it is an error that no queue takes it.
    pub mandatory: bool,
}

impl Message {
    /// A mandatory message that nobody answers.
    pub fn new(
        exchange: &str,
        routing_key: impl Into<String>,
        kind: &str,
        message_id: impl Into<String>,
        body: Vec<u8>,
    ) -> Self {
        Self {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            kind: kind.into(),
            message_id: message_id.into(),
            body,
            reply_to: None,
            correlation_id: None,
            headers: BTreeMap::new(),
            expires_ms: None,
            mandatory: true,
        }
    }

    pub(super) fn properties(&self, user: &str) -> BasicProperties {
        let mut headers = FieldTable::default();
        for (key, value) in &self.headers {
            headers.insert(key.as_str().into(), AMQPValue::LongString(value.as_str().into()));
        }
        let seconds = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
        let mut properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_type(self.kind.as_str().into())
            .with_message_id(self.message_id.as_str().into())
            .with_timestamp(seconds)
            .with_user_id(user.into())
            .with_headers(headers);
        if let Some(to) = &self.reply_to {
            properties = properties.with_reply_to(to.as_str().into());
        }
        if let Some(id) = &self.correlation_id {
            properties = properties.with_correlation_id(id.as_str().into());
        }
        if let Some(ms) = self.expires_ms {
            properties = properties.with_expiration(ms.to_string().as_str().into());
        }
        properties
    }
}
