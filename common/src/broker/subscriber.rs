//! Consuming: deliveries of several queues in one stream that outlives its connections.
//!
//! After a lost connection the same messages come again: whoever reads them is idempotent, so
//! nothing is told about it but the state.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, SelectAll};
use lapin::options::{BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer, ExchangeKind};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::delivery::Delivery;
use super::link::{Broker, LinkState, SETUP_TIMEOUT, Session, is_missing, watch};
use super::topology;

/// How often a queue is looked for that is not there yet.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How often everything is declared again: an exchange or a binding that somebody has deleted tells
/// nobody that it is gone.
const DECLARE_AGAIN: Duration = Duration::from_secs(10);

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
    /// This connection, for itself alone, reached through [`topology::BY_QUEUE`] only: that takes
    /// no right but the one on the queue itself.
    Unbound,
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
    let mut watched = std::pin::pin!(watch(connection, state));
    let over = CancellationToken::new();
    let _ends = over.clone().drop_guard();
    let mut missing: Vec<&Subscription> = subscriptions.iter().collect();
    let mut all = SelectAll::new();
    let mut look = tokio::time::interval(LOOK_AGAIN);
    let mut again = tokio::time::interval_at(Instant::now() + DECLARE_AGAIN, DECLARE_AGAIN);
    let mut told = false;
    loop {
        let next = tokio::select! {
            error = &mut watched => return Err(error),
            Some(next) = all.next() => next,
            _ = look.tick(), if !missing.is_empty() => {
                missing = consume_those_there(connection, &missing, &mut all, &over).await?;
                tell(&missing, state, &mut told);
                continue;
            }
            _ = again.tick() => {
                declare_again(connection, subscriptions).await?;
                continue;
            }
        };
        if to.send(next?).await.is_err() {
            return Ok(());
        }
    }
}

async fn declare_again(connection: &Connection, subscriptions: &[Subscription]) -> Result<(), String> {
    let declare = async {
        let channel = connection.create_channel().await?;
        for subscription in subscriptions {
            declare(&channel, subscription).await?;
        }
        channel.close(200, "bye".into()).await
    };
    let declared = tokio::time::timeout(SETUP_TIMEOUT, declare).await;
    declared.map_err(|_| "declaring again took too long".to_owned())?.map_err(|error| error.to_string())
}

/// Consumes every queue that is there. Whose queue somebody else has yet to make is given back, and
/// holds up no other.
async fn consume_those_there<'a>(
    connection: &Connection,
    wanted: &[&'a Subscription],
    all: &mut SelectAll<BoxStream<'static, Result<Delivery, String>>>,
    over: &CancellationToken,
) -> Result<Vec<&'a Subscription>, String> {
    let mut missing = Vec::new();
    for subscription in wanted {
        let queue = subscription.queue.clone();
        match tokio::time::timeout(SETUP_TIMEOUT, consume(connection, subscription)).await {
            Ok(Ok(consumer)) => all.push(deliveries(queue, consumer, over.clone())),
            Ok(Err(error)) if is_missing(&error) => missing.push(*subscription),
            Ok(Err(error)) => return Err(format!("{queue}: {error}")),
            Err(_) => return Err(format!("consuming {queue} took too long")),
        }
    }
    Ok(missing)
}

/// `over` is cancelled at the end of the connection.
fn deliveries(
    queue: String,
    consumer: Consumer,
    over: CancellationToken,
) -> BoxStream<'static, Result<Delivery, String>> {
    // A consumer that the broker cancelled ends its stream: that is an error here.
    let ended = futures_util::stream::iter([Err(format!("the consumer of {queue} was cancelled"))]);
    consumer
        .map(move |next| next.map(|message| Delivery::new(&queue, message, over.clone())))
        .map(|next| next.map_err(|error| error.to_string()))
        .chain(ended)
        .boxed()
}

/// Says what is waited for, in the log once.
fn tell(missing: &[&Subscription], state: &watch::Sender<LinkState>, told: &mut bool) {
    let Some(first) = missing.first() else {
        state.send_replace(LinkState::Up);
        return;
    };
    let queue = &first.queue;
    if !std::mem::replace(told, true) {
        tracing::info!(%queue, "waiting for a scheduler to declare this queue");
    }
    let error = format!("the queue {queue} is not there yet: the leader makes it");
    state.send_if_modified(|state| {
        let waiting = LinkState::Connecting { error: Some(error) };
        let new = *state != waiting;
        *state = waiting;
        new
    });
}

async fn consume(connection: &Connection, subscription: &Subscription) -> Result<Consumer, lapin::Error> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(subscription.prefetch, BasicQosOptions::default()).await?;
    declare(&channel, subscription).await?;
    let (queue, options) = (subscription.queue.as_str(), BasicConsumeOptions::default());
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await
}

/// Makes what the subscription needs, where it is not there.
async fn declare(channel: &Channel, subscription: &Subscription) -> Result<(), lapin::Error> {
    let queue = subscription.queue.as_str();
    match &subscription.declare {
        Declare::Existing => Ok(()),
        Declare::Topology { cell } => topology::declare(channel, *cell).await,
        Declare::Unbound => declare_exclusive(channel, queue).await,
        Declare::Exclusive { exchange, routing_key } => {
            topology::declare_exchange(channel, exchange, ExchangeKind::Direct).await?;
            declare_exclusive(channel, queue).await?;
            let (exchange, key) = ((*exchange).into(), routing_key.as_str().into());
            let options = QueueBindOptions::default();
            channel.queue_bind(queue.into(), exchange, key, options, FieldTable::default()).await
        }
    }
}

async fn declare_exclusive(channel: &Channel, queue: &str) -> Result<(), lapin::Error> {
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    channel.queue_declare(queue.into(), options, FieldTable::default()).await.map(|_| ())
}
