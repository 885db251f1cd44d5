//! A vhost of its own per test, on the broker of `BERTH_TEST_AMQP_URL`, and a plain AMQP client.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::Value;

use crate::setting;

/// A vhost that is removed with this value.
pub struct Vhost {
    pub url: String,
    /// The account in the URL.
    pub user: String,
    name: String,
    api: String,
}

impl Vhost {
    /// # Panics
    /// When the broker's management API does not answer.
    pub async fn create() -> Self {
        Self::create_on(&setting("BERTH_TEST_AMQP_URL"), &setting("BERTH_TEST_RABBITMQ_API")).await
    }

    /// On a broker of the test's own: its address, and that of its management API.
    ///
    /// # Panics
    /// When the broker's management API does not answer.
    pub async fn create_on(base: &str, api: &str) -> Self {
        let name = format!("test-{}", uuid::Uuid::new_v4().simple());
        let user = user_of(base);
        let at = api.to_owned();
        let api = Api::new(&at);
        api.put(&format!("vhosts/{name}"), "{}").await;
        let rights = r#"{"configure":".*","write":".*","read":".*"}"#;
        api.put(&format!("permissions/{name}/{user}"), rights).await;
        Self { url: with_vhost(base, &name), user, name, api: at }
    }

    /// A client that is not Berth's.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub async fn client(&self) -> Client {
        let connection = Connection::connect(&self.url, ConnectionProperties::default())
            .await
            .expect("the broker answers");
        let channel = connection.create_channel().await.expect("a channel");
        Client { channel, user: self.user.clone(), connection }
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        let (name, api) = (self.name.clone(), self.api.clone());
        let gone = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime
                .expect("a runtime")
                .block_on(async { Api::new(&api).delete(&format!("vhosts/{name}")).await });
        });
        if gone.join().is_err() {
            eprintln!("the vhost {} was left over", self.name);
        }
    }
}

/// The management API.
struct Api {
    base: String,
    client: reqwest::Client,
}

impl Api {
    fn new(base: &str) -> Self {
        crate::process::install_crypto();
        Self { base: base.to_owned(), client: reqwest::Client::new() }
    }

    async fn put(&self, path: &str, body: &'static str) {
        let request = self.client.put(self.url(path)).header("content-type", "application/json").body(body);
        let answer = request.send().await.expect("the management API answers");
        assert!(answer.status().is_success(), "PUT {path}: {}", answer.status());
    }

    async fn delete(&self, path: &str) {
        let answer = self.client.delete(self.url(path)).send().await.expect("the management API answers");
        assert!(answer.status().is_success(), "DELETE {path}: {}", answer.status());
    }

    fn url(&self, path: &str) -> String {
        let base = self.base.trim_end_matches('/');
        let base = base.strip_suffix("/api").unwrap_or(base);
        format!("{base}/api/{path}")
    }
}

fn user_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split([':', '@']).next().unwrap_or_default().to_owned()
}

fn with_vhost(url: &str, vhost: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let (scheme, rest) = base.split_once("://").expect("an AMQP URL has a scheme");
    let authority = rest.split('/').next().unwrap_or_default();
    let new = format!("{scheme}://{authority}/{vhost}");
    query.map_or_else(|| new.clone(), |query| format!("{new}?{query}"))
}

/// A client with a channel.
pub struct Client {
    channel: Channel,
    pub user: String,
    connection: Connection,
}

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

impl Client {
    /// # Panics
    /// When the broker refuses the message.
    pub async fn publish(&self, exchange: &str, key: &str, body: &[u8], properties: BasicProperties) {
        let options = BasicPublishOptions::default();
        self.channel
            .basic_publish(exchange.into(), key.into(), options, body, properties)
            .await
            .expect("published")
            .await
            .expect("taken");
    }

    /// Publishes and waits for the reply on a queue of its own.
    ///
    /// # Panics
    /// When there is no reply, or it is no JSON.
    pub async fn ask(&self, exchange: &str, key: &str, body: &[u8], properties: BasicProperties) -> Value {
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let name = format!("test.reply.{}", uuid::Uuid::new_v4());
        let queue = name.as_str();
        self.channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
            .expect("a reply queue");
        let bind = lapin::options::QueueBindOptions::default();
        self.channel
            .queue_bind(queue.into(), "berth.replies".into(), queue.into(), bind, FieldTable::default())
            .await
            .expect("bound to berth.replies");
        let consume = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let mut replies = self
            .channel
            .basic_consume(queue.into(), "".into(), consume, FieldTable::default())
            .await
            .expect("a consumer");
        self.publish(exchange, key, body, properties.with_reply_to(queue.into())).await;
        let reply = tokio::time::timeout(ANSWER, replies.next()).await.expect("a reply in time");
        let reply = reply.expect("the stream goes on").expect("a delivery");
        serde_json::from_slice(&reply.data).expect("a reply is JSON")
    }

    /// Whether there is a queue of this name.
    ///
    /// # Panics
    /// When the broker is away.
    pub async fn has_queue(&self, queue: &str) -> bool {
        // A queue that is not there closes the channel that asks for it.
        let channel = self.connection.create_channel().await.expect("a channel");
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        channel.queue_declare(queue.into(), passive, FieldTable::default()).await.is_ok()
    }

    /// Takes a message from a queue, with its header `berth-reason`.
    ///
    /// # Panics
    /// When the queue is not there.
    pub async fn take(&self, queue: &str) -> Option<(Vec<u8>, String)> {
        let options = BasicGetOptions { no_ack: true };
        let message = self.channel.basic_get(queue.into(), options).await.expect("the queue is there")?;
        let reason = message.delivery.properties.headers().as_ref().and_then(|headers| {
            let value = headers.inner().get("berth-reason")?;
            value.as_long_string().map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned())
        });
        Some((message.delivery.data, reason.unwrap_or_default()))
    }
}
