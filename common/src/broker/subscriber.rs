//! Consuming: deliveries of several queues in one stream that outlives its connections.
//!
//! After a lost connection the same messages come again: whoever reads them is idempotent, so
//! nothing is told about it but the state.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::select_all;
use lapin::Acker;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, Consumer, ErrorKind, ExchangeKind};
use tokio::sync::{mpsc, watch};

use super::link::{Broker, LinkState, SETUP_TIMEOUT, Session, watch};
use super::topology;

/// How often a queue is looked for that is not there yet.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// A queue to read.
#[derive(Debug, Clone)]
pub struct Subscription {
    pub queue: String,
    pub declare: Declare,
    /// Messages in hand without an acknowledgement.
    pub prefetch: u16,
}

/// Who makes the queue.
#[derive(Debug, Clone)]
pub enum Declare {
    /// Somebody else; while it is not there, it is waited for.
    Existing,
    /// This connection, with the whole topology of a cell: its leader's queues.
    Topology { cell: i32 },
    /// This connection, for itself alone, bound to a direct exchange.
    Exclusive { exchange: &'static str, routing_key: String },
}

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
}

impl Delivery {
    /// Tells the broker that its effect is durable. `false`: the channel is gone meanwhile, and
    /// the message will come again.
    pub async fn ack(&self) -> bool {
        self.acker.ack(BasicAckOptions::default()).await.unwrap_or(false)
    }
}

/// The stream of deliveries of one connection.
pub struct Subscriber {
    pub deliveries: mpsc::Receiver<Delivery>,
    pub state: watch::Receiver<LinkState>,
}

impl Subscriber {
    pub(super) fn start(broker: &Broker, subscriptions: Vec<Subscription>) -> Self {
        let room = subscriptions.iter().map(|s| usize::from(s.prefetch)).sum::<usize>().max(1);
        let (to, deliveries) = mpsc::channel(room);
        let (set_state, state) = watch::channel(LinkState::Connecting { error: None });
        let keeper = broker.clone();
        broker.tracker.spawn(async move {
            let task = Task { subscriptions, to: to.clone(), state: set_state.clone() };
            // Whoever dropped the stream wants no more of it.
            tokio::select! {
                () = keeper.keep(&set_state, task) => {}
                () = to.closed() => {}
            }
        });
        Self { deliveries, state }
    }
}

/// What the task owns.
struct Task {
    subscriptions: Vec<Subscription>,
    to: mpsc::Sender<Delivery>,
    state: watch::Sender<LinkState>,
}

impl Session for Task {
    async fn run(&mut self, connection: &Connection) -> Result<(), String> {
        let ended = session(connection, &self.subscriptions, &self.to, &self.state).await;
        self.state.send_replace(LinkState::Connecting { error: ended.clone().err() });
        ended
    }
}

async fn session(
    connection: &Connection,
    subscriptions: &[Subscription],
    to: &mpsc::Sender<Delivery>,
    state: &watch::Sender<LinkState>,
) -> Result<(), String> {
    let mut streams = Vec::new();
    for subscription in subscriptions {
        let consumer = consume_when_there(connection, subscription).await?;
        let queue = subscription.queue.clone();
        // A consumer that the broker cancelled ends its stream: that is an error here.
        let ended = futures_util::stream::iter([Err(format!("the consumer of {queue} was cancelled"))]);
        streams.push(
            consumer
                .map(move |next| next.map(|message| delivery(&queue, message)).map_err(|e| e.to_string()))
                .chain(ended)
                .boxed(),
        );
    }
    state.send_replace(LinkState::Up);
    let mut all = select_all(streams);
    let mut watched = std::pin::pin!(watch(connection, state));
    loop {
        let next = tokio::select! {
            error = &mut watched => return Err(error),
            next = all.next() => next,
        };
        match next {
            Some(Ok(delivery)) => {
                if to.send(delivery).await.is_err() {
                    return Ok(());
                }
            }
            Some(Err(error)) => return Err(error),
            None => return Err("nothing to consume".into()),
        }
    }
}

/// Waits for a queue that somebody else has to make.
async fn consume_when_there(
    connection: &Connection,
    subscription: &Subscription,
) -> Result<Consumer, String> {
    let queue = &subscription.queue;
    let mut told = false;
    loop {
        match tokio::time::timeout(SETUP_TIMEOUT, consume(connection, subscription)).await {
            Ok(Ok(consumer)) => return Ok(consumer),
            Ok(Err(error)) if is_missing(&error) => {
                if !told {
                    tracing::info!(%queue, "waiting for a scheduler to declare this queue");
                    told = true;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Ok(Err(error)) => return Err(format!("{queue}: {error}")),
            Err(_) => return Err(format!("consuming {queue} took too long")),
        }
    }
}

/// 404 closes the channel, not the connection.
fn is_missing(error: &lapin::Error) -> bool {
    match error.kind() {
        ErrorKind::ProtocolError(error) => *error.kind() == AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND),
        _ => false,
    }
}

async fn consume(connection: &Connection, subscription: &Subscription) -> Result<Consumer, lapin::Error> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(subscription.prefetch, BasicQosOptions::default()).await?;
    let queue = subscription.queue.as_str();
    match &subscription.declare {
        Declare::Existing => {}
        Declare::Topology { cell } => topology::declare(&channel, *cell).await?,
        Declare::Exclusive { exchange, routing_key } => {
            topology::declare_exchange(&channel, exchange, ExchangeKind::Direct).await?;
            let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
            channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
            let (exchange, key) = ((*exchange).into(), routing_key.as_str().into());
            let options = QueueBindOptions::default();
            channel.queue_bind(queue.into(), exchange, key, options, FieldTable::default()).await?;
        }
    }
    let options = BasicConsumeOptions::default();
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await
}

fn delivery(queue: &str, message: lapin::message::Delivery) -> Delivery {
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
    Delivery {
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
    }
}
