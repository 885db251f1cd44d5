//! Publishing with confirms: what is confirmed is in the queue's log, what is not is told.
//!
//! One task owns the channel. It takes whatever is waiting, up to a window, publishes it, and then
//! collects all confirms: an unroutable message comes back *and* is confirmed, and may hang on
//! another message's confirm, so they are matched by `message_id` when the window is complete.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{Channel, Confirmation, Connection};
use tokio::sync::{mpsc, oneshot, watch};

use super::link::{Broker, LinkState, SETUP_TIMEOUT, Session, watch};
use super::message::Message;

/// Messages in flight; beyond about a thousand nothing is gained, at one it is very slow.
const WINDOW: usize = 500;
/// A confirm that takes longer is as good as lost.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(15);
/// Messages that wait for the window; then publishers wait.
const QUEUE: usize = 2 * WINDOW;

/// What became of a message that was not confirmed as delivered to a queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Nothing was sent.
    #[error("RabbitMQ is away: {0}")]
    Unavailable(String),
    /// No queue takes it.
    #[error("no queue takes the message")]
    Unroutable,
    /// The broker refused it.
    #[error("RabbitMQ refused the message")]
    Nacked,
    /// It may have arrived: publish it again under the same `message_id`.
    #[error("RabbitMQ did not confirm the message: {0}")]
    Unknown(String),
}

type Confirmed = Result<(), PublishError>;

struct Request {
    message: Message,
    done: oneshot::Sender<Confirmed>,
}

/// A handle on the task that publishes.
#[derive(Clone)]
pub struct Publisher {
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<LinkState>,
}

impl Publisher {
    pub(super) fn start(broker: &Broker) -> Self {
        let (requests, incoming) = mpsc::channel(QUEUE);
        let (set_state, state) = watch::channel(LinkState::Connecting { error: None });
        let keeper = broker.clone();
        broker.tracker.spawn(async move {
            let task = Task { broker: keeper.clone(), incoming, state: set_state.clone() };
            keeper.keep(&set_state, task).await;
        });
        Self { requests, state }
    }

    /// Publishes `message` and waits for its confirm.
    ///
    /// # Errors
    /// See [`PublishError`]; only after `Unavailable` it is certain that nothing was sent.
    pub async fn publish(&self, message: Message) -> Confirmed {
        match &*self.state.borrow() {
            LinkState::Up => {}
            LinkState::Blocked { reason } => {
                return Err(PublishError::Unavailable(format!("it takes no messages now: {reason}")));
            }
            LinkState::Connecting { error } => {
                let error = error.as_deref().unwrap_or("not connected yet");
                return Err(PublishError::Unavailable(error.to_owned()));
            }
        }
        let (done, confirmed) = oneshot::channel();
        let stopping = || "the program is stopping".to_owned();
        self.requests
            .send(Request { message, done })
            .await
            .map_err(|_| PublishError::Unavailable(stopping()))?;
        // Taken and dropped: whether it went out before, nobody knows.
        confirmed.await.unwrap_or_else(|_| Err(PublishError::Unknown(stopping())))
    }

    /// How its connection is, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }
}

/// What the task owns.
struct Task {
    broker: Broker,
    incoming: mpsc::Receiver<Request>,
    state: watch::Sender<LinkState>,
}

impl Session for Task {
    async fn run(&mut self, connection: &Connection) -> Result<(), String> {
        let ended = session(&self.broker, connection, &mut self.incoming, &self.state).await;
        self.state.send_replace(LinkState::Connecting { error: ended.clone().err() });
        // Whatever slipped in while the connection was dying was not sent.
        while let Ok(request) = self.incoming.try_recv() {
            let _ = request.done.send(Err(PublishError::Unavailable("the connection was lost".into())));
        }
        ended
    }
}

async fn session(
    broker: &Broker,
    connection: &Connection,
    incoming: &mut mpsc::Receiver<Request>,
    state: &watch::Sender<LinkState>,
) -> Result<(), String> {
    let channel = tokio::time::timeout(SETUP_TIMEOUT, open(connection))
        .await
        .map_err(|_| "opening a channel took too long".to_owned())?
        .map_err(|error| error.to_string())?;
    state.send_replace(LinkState::Up);
    let mut watched = std::pin::pin!(watch(connection, state));
    let mut window = Vec::with_capacity(WINDOW);
    loop {
        tokio::select! {
            error = &mut watched => return Err(error),
            n = incoming.recv_many(&mut window, WINDOW) => if n == 0 { return Ok(()) },
        }
        let (messages, waiting): (Vec<_>, Vec<_>) = window.drain(..).map(|r| (r.message, r.done)).unzip();
        let (outcomes, broken) = tokio::select! {
            // The window's messages went out: how they fared is not known.
            error = &mut watched => (unknown(messages.len(), &error), Some(error)),
            late = overdue(state) => (unknown(messages.len(), &late), Some(late)),
            outcomes = publish_window(&channel, &messages, broker.user()) => outcomes,
        };
        for (done, outcome) in waiting.into_iter().zip(outcomes) {
            let _ = done.send(outcome); // nobody waits any more: then nobody needs to know
        }
        if let Some(error) = broken {
            return Err(error);
        }
    }
}

async fn open(connection: &Connection) -> Result<Channel, lapin::Error> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

fn unknown(n: usize, error: &str) -> Vec<Confirmed> {
    vec![Err(PublishError::Unknown(error.to_owned())); n]
}

/// Ends when confirms take too long. As long as the broker takes nothing, it need not confirm
/// anything: a new connection would only be blocked again, at its first message.
async fn overdue(state: &watch::Sender<LinkState>) -> String {
    let mut state = state.subscribe();
    let is_blocked = |state: &LinkState| matches!(state, LinkState::Blocked { .. });
    loop {
        // The sender is here: it does not go away.
        let _ = state.wait_for(|state| !is_blocked(state)).await;
        tokio::select! {
            () = tokio::time::sleep(CONFIRM_TIMEOUT) => {
                return format!("no confirm within {} s", CONFIRM_TIMEOUT.as_secs());
            }
            _ = state.wait_for(is_blocked) => {}
        }
    }
}

/// Publishes a window and waits for all its confirms. The second part is why the channel cannot be
/// used any more, where that is so.
async fn publish_window(
    channel: &Channel,
    messages: &[Message],
    user: &str,
) -> (Vec<Confirmed>, Option<String>) {
    let each = messages.iter().map(|message| async move {
        let options = BasicPublishOptions { mandatory: message.mandatory, ..Default::default() };
        let (exchange, key) = (message.exchange.as_str().into(), message.routing_key.as_str().into());
        channel.basic_publish(exchange, key, options, &message.body, message.properties(user)).await?.await
    });
    let confirms = join_all(each).await;
    let mut broken = None;
    let mut returned: HashSet<ShortString> = HashSet::new();
    let mut outcomes = Vec::with_capacity(messages.len());
    for confirm in confirms {
        outcomes.push(match confirm {
            Ok(Confirmation::Ack(back)) => {
                returned.extend(back.and_then(|message| message.delivery.properties.message_id().clone()));
                Ok(())
            }
            Ok(Confirmation::Nack(back)) => {
                returned.extend(back.and_then(|message| message.delivery.properties.message_id().clone()));
                Err(PublishError::Nacked)
            }
            Ok(Confirmation::NotRequested) => Err(PublishError::Unknown("confirms are off".into())),
            Err(error) => {
                broken = Some(error.to_string());
                Err(PublishError::Unknown(error.to_string()))
            }
        });
    }
    for (message, outcome) in messages.iter().zip(&mut outcomes) {
        if outcome.is_ok() && returned.contains(message.message_id.as_str()) {
            *outcome = Err(PublishError::Unroutable);
        }
    }
    (outcomes, broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_taken_and_dropped_may_have_been_sent() {
        let (requests, mut incoming) = mpsc::channel(1);
        let (_up, state) = watch::channel(LinkState::Up);
        let publisher = Publisher { requests, state };
        let message = || Message::new("exchange", "key", "kind", "id", Vec::new());
        let (outcome, ()) = tokio::join!(publisher.publish(message()), async {
            drop(incoming.recv().await);
            incoming.close();
        });
        assert!(matches!(outcome, Err(PublishError::Unknown(_))), "{outcome:?}");
        let outcome = publisher.publish(message()).await;
        assert!(matches!(outcome, Err(PublishError::Unavailable(_))), "{outcome:?}");
    }
}
