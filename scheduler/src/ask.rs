//! Questions over the broker: a message goes out, and its reply is awaited for a limited time.
//!
//! Replies come to one exclusive queue of this process and are matched by correlation id. What must
//! always hold: a question that is given up leaves nothing behind, and whoever asked learns whether
//! its message certainly was not sent, was taken by a queue, or nobody knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_common::broker::{
    Broker, Declare, LinkState, Message, PublishError, Publisher, Subscriber, Subscription, topology,
};
use berth_common::message::Reply;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

/// Questions that wait for their reply at one moment. Each costs about a kilobyte here and a place
/// in the leader's queue; who comes beyond that is told to come later.
const MAX_WAITING: usize = 20_000;
/// Replies in hand: they are matched at once, so this only has to cover the way to the broker.
const PREFETCH: u16 = 500;

/// A queue that is deleted and made again sooner may keep a consumer that hears nothing more.
const QUEUE_GONE: Duration = Duration::from_millis(500);

/// Why there is no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The question was certainly not sent.
    #[error("RabbitMQ is away: {0}")]
    BrokerAway(String),
    /// Nobody has a queue for it: the question was dropped.
    #[error("nobody is there to answer")]
    Unroutable,
    /// It may have been sent or not.
    #[error("RabbitMQ did not confirm the message: {0}")]
    Unconfirmed(String),
    /// A queue has it, and may still be read.
    #[error("no answer in time")]
    NoAnswer,
    /// Too many others wait; nothing was sent.
    #[error("too many requests are waiting for an answer")]
    Busy,
}

/// Asks over the broker. Clones share the connections and the reply queue.
#[derive(Clone)]
pub struct Asker {
    shared: Arc<Shared>,
}

struct Shared {
    broker: Broker,
    publisher: Publisher,
    replies: watch::Receiver<LinkState>,
    reply_queue: String,
    waiting: Mutex<HashMap<Uuid, oneshot::Sender<Reply>>>,
}

impl Asker {
    /// Opens the two connections and the reply queue; all of it comes back by itself when the broker
    /// was away.
    #[must_use]
    pub fn start(broker: &Broker) -> Self {
        let reply_queue = topology::reply_queue("shim", Uuid::new_v4());
        let subscriber = broker.subscribe(vec![Subscription {
            queue: reply_queue.clone(),
            declare: Declare::Exclusive { exchange: topology::REPLIES, routing_key: reply_queue.clone() },
            prefetch: PREFETCH,
        }]);
        let shared = Arc::new(Shared {
            broker: broker.clone(),
            publisher: broker.publisher(),
            replies: subscriber.state.clone(),
            reply_queue,
            waiting: Mutex::default(),
        });
        broker.tasks().spawn(hand_out(subscriber, Arc::clone(&shared)));
        Self { shared }
    }

    /// Publishes `message` as a mandatory one and waits for its reply, all in all at most `wait`.
    ///
    /// # Errors
    /// See [`AskError`]; a reply that says no is not an error.
    pub async fn ask(&self, mut message: Message, wait: Duration) -> Result<Reply, AskError> {
        self.shared.reply_link()?;
        let (ticket, mut reply) = Ticket::take(&self.shared)?;
        message.reply_to = Some(self.shared.reply_queue.clone());
        message.correlation_id = Some(ticket.id.to_string());
        message.mandatory = true;
        let mut publishing = std::pin::pin!(self.shared.publisher.publish(message));
        let mut too_late = std::pin::pin!(tokio::time::sleep(wait));
        let mut confirmed = false;
        loop {
            tokio::select! {
                biased;
                reply = &mut reply => return reply.map_err(|_| AskError::NoAnswer),
                published = &mut publishing, if !confirmed => match published {
                    Ok(()) => confirmed = true,
                    Err(error) => return Err(error.into()),
                },
                () = &mut too_late => return Err(if confirmed {
                    AskError::NoAnswer
                } else {
                    AskError::Unconfirmed(format!("not within {} ms", wait.as_millis()))
                }),
            }
        }
    }

    /// Publishes `message` as a mandatory one, without waiting for a reply.
    ///
    /// # Errors
    /// See [`AskError`]; `NoAnswer` and `Busy` do not happen.
    pub async fn tell(&self, mut message: Message, wait: Duration) -> Result<(), AskError> {
        message.mandatory = true;
        match tokio::time::timeout(wait, self.shared.publisher.publish(message)).await {
            Ok(published) => published.map_err(AskError::from),
            Err(_) => Err(AskError::Unconfirmed(format!("not within {} ms", wait.as_millis()))),
        }
    }

    /// Makes the queues of a device that lives and has lost them. That it failed shows at the next
    /// question.
    pub async fn make_queues(&self, device: &str) {
        // As in the outbox: the broker must have told the old queue's consumer.
        tokio::time::sleep(QUEUE_GONE).await;
        if let Err(error) = self.shared.broker.declare_device(device).await {
            tracing::warn!(device, error, "the queues of a device cannot be declared");
        }
    }

    /// How many questions wait for their reply.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.waiting().len()
    }

    /// How the publishing and the consuming connection are.
    #[must_use]
    pub fn links(&self) -> (watch::Receiver<LinkState>, watch::Receiver<LinkState>) {
        (self.shared.publisher.state(), self.shared.replies.clone())
    }
}

impl Shared {
    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, oneshot::Sender<Reply>>> {
        // Nothing panics while it is held; and the map is whole after each call in any case.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A question without a queue for its reply would be answered into nothing.
    fn reply_link(&self) -> Result<(), AskError> {
        match &*self.replies.borrow() {
            LinkState::Up | LinkState::Blocked { .. } => Ok(()),
            LinkState::Connecting { error } => {
                Err(AskError::BrokerAway(error.as_deref().unwrap_or("not connected yet").to_owned()))
            }
        }
    }
}

impl From<PublishError> for AskError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Unavailable(why) => Self::BrokerAway(why),
            PublishError::Unroutable => Self::Unroutable,
            PublishError::Nacked => Self::Unconfirmed("it refused the message".into()),
            PublishError::Unknown(why) => Self::Unconfirmed(why),
        }
    }
}

/// A place among those that wait, given back when it is dropped.
struct Ticket<'a> {
    id: Uuid,
    shared: &'a Shared,
}

impl<'a> Ticket<'a> {
    fn take(shared: &'a Shared) -> Result<(Self, oneshot::Receiver<Reply>), AskError> {
        let (sender, reply) = oneshot::channel();
        let id = Uuid::new_v4();
        let mut waiting = shared.waiting();
        if waiting.len() >= MAX_WAITING {
            return Err(AskError::Busy);
        }
        waiting.insert(id, sender);
        Ok((Self { id, shared }, reply))
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.shared.waiting().remove(&self.id);
    }
}

/// Gives each reply to whoever waits for it. What nobody waits for any more is dropped.
async fn hand_out(mut subscriber: Subscriber, shared: Arc<Shared>) {
    while let Some(delivery) = subscriber.deliveries.recv().await {
        let id = delivery.correlation_id.as_deref().and_then(|id| id.parse::<Uuid>().ok());
        match serde_json::from_slice::<Reply>(&delivery.body) {
            Ok(reply) => {
                let waiting = id.and_then(|id| shared.waiting().remove(&id));
                if let Some(waiting) = waiting {
                    let _ = waiting.send(reply); // given up in this very moment
                }
            }
            Err(error) => {
                tracing::warn!(%error, sender = %delivery.user_id, "a reply cannot be read; dropped");
            }
        }
        // Not acknowledged: it comes again, and then nobody waits for it.
        let _ = delivery.ack().await;
    }
}
