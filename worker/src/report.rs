//! Telling the leader: events on `berth.events`, each repeated under one message id until the
//! broker has confirmed it.

use std::sync::Arc;

use berth_common::broker::{LinkState, Message, PublishError, Publisher, topology};
use berth_common::message::{Event, FROM_DEVICE, FromDevice};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::BootTime;
use crate::lease::Lease;
use crate::worker::Backoff;

/// A heartbeat is news for so long; the next three have been sent by then.
const HEARTBEAT_EXPIRES_MS: u64 = 15_000;

#[derive(Clone)]
pub struct Reporter {
    pub publisher: Publisher,
    pub lease: Lease,
    pub device: String,
    pub worker_id: Uuid,
    /// The queue on which the leader answers heartbeats that it refuses.
    pub reply_to: String,
    boot: Arc<watch::Sender<Uuid>>,
}

impl Reporter {
    #[must_use]
    pub fn new(publisher: Publisher, lease: Lease, device: &str, worker_id: Uuid, boot: Uuid) -> Self {
        Self {
            publisher,
            lease,
            device: device.into(),
            worker_id,
            reply_to: topology::reply_queue(device, boot),
            boot: Arc::new(watch::Sender::new(boot)),
        }
    }

    /// Under which boot it speaks.
    #[must_use]
    pub fn boot(&self) -> Uuid {
        *self.boot.borrow()
    }

    /// Speaks under another boot from now on: what was said to the old one is not for us any more.
    pub fn set_boot(&self, boot: Uuid) {
        self.boot.send_replace(boot);
    }

    /// Publishes a heartbeat once: the next one is as good.
    ///
    /// # Errors
    /// When the broker did not confirm it.
    pub async fn heartbeat(&self, event: Event) -> Result<(), PublishError> {
        let message = Message {
            expires_ms: Some(HEARTBEAT_EXPIRES_MS),
            reply_to: Some(self.reply_to.clone()),
            ..self.message(event)
        };
        self.publish(message).await
    }

    /// Publishes until it is confirmed. False: `leave` came first.
    pub async fn until_confirmed(&self, event: Event, leave: &CancellationToken) -> bool {
        let message = self.message(event);
        leave.run_until_cancelled(self.repeat(message)).await.is_some()
    }

    async fn repeat(&self, message: Message) {
        let mut pause = Backoff::default();
        let mut state = self.publisher.state();
        loop {
            match self.publish(message.clone()).await {
                Ok(()) => return,
                Err(PublishError::Unavailable(_)) => {
                    // The link says itself that the broker is away. A program that ends drops it.
                    if state.wait_for(|state| *state == LinkState::Up).await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                Err(error @ (PublishError::Unroutable | PublishError::Nacked | PublishError::Unknown(_))) => {
                    let key = &message.routing_key;
                    tracing::debug!(%error, key, "a report was not confirmed; trying again");
                }
            }
            pause.wait().await;
        }
    }

    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        let sent = BootTime::now();
        self.publisher.publish(message).await?;
        self.lease.renew(sent);
        Ok(())
    }

    fn message(&self, event: Event) -> Message {
        let key = format!("{}.{}", self.device, event.key());
        let at = berth_common::time::now();
        let told = FromDevice {
            device: self.device.clone(),
            worker_id: self.worker_id,
            boot: self.boot(),
            at,
            event,
        };
        let body = serde_json::to_vec(&told).expect("an event has only string keys");
        Message::new(topology::EVENTS, key, FROM_DEVICE, Uuid::now_v7().to_string(), body)
    }
}
