//! Publishes what was committed: rows of the outbox become messages to devices, and what the broker
//! has confirmed may be deleted with the next batch.
//!
//! A row may go out twice (a confirm was lost, a new leader sends it again); numbers make the second
//! copy harmless. It is never lost: until it is confirmed and deleted, the row is there.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_common::broker::{Broker, Message, PublishError, Publisher, topology};
use berth_common::message::TO_DEVICE;
use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::core::rows::OutboxRow;

/// Messages that are published together.
const WINDOW: usize = 500;
/// Pause after a window in which something could not be published.
const PAUSE: Duration = Duration::from_millis(500);

/// The rows on their way. It ends when it is dropped: a leader that was deposed publishes nothing.
pub struct Outbox {
    shared: Arc<Shared>,
    _ends: DropGuard,
}

struct Shared {
    waiting: Mutex<VecDeque<OutboxRow>>,
    published: Mutex<Vec<i64>>,
    more: Notify,
}

impl Outbox {
    #[must_use]
    pub fn start(broker: &Broker, publisher: Publisher) -> Self {
        let shared =
            Arc::new(Shared { waiting: Mutex::default(), published: Mutex::default(), more: Notify::new() });
        let stop = CancellationToken::new();
        let task = Relay { shared: Arc::clone(&shared), broker: broker.clone(), publisher };
        let stopped = stop.clone();
        broker.tasks().spawn(async move { stopped.run_until_cancelled(task.run()).await });
        Self { shared, _ends: stop.drop_guard() }
    }

    /// Takes rows that were committed, in their order.
    pub fn send(&self, rows: Vec<OutboxRow>) {
        if !rows.is_empty() {
            lock(&self.shared.waiting).extend(rows);
            self.shared.more.notify_one();
        }
    }

    /// The ids of rows that the broker has: to be deleted.
    #[must_use]
    pub fn take_published(&self) -> Vec<i64> {
        std::mem::take(&mut lock(&self.shared.published))
    }

    /// Rows that wait to be published.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.shared.waiting).len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

struct Relay {
    shared: Arc<Shared>,
    broker: Broker,
    publisher: Publisher,
}

impl Relay {
    async fn run(&self) {
        loop {
            let window = self.take_window();
            if window.is_empty() {
                self.shared.more.notified().await;
                continue;
            }
            let outcomes = join_all(window.iter().map(|row| self.publisher.publish(message(row)))).await;
            let mut again = Vec::new();
            for (row, outcome) in window.into_iter().zip(outcomes) {
                if self.settle(&row, outcome).await {
                    lock(&self.shared.published).push(row.message.id);
                } else {
                    again.push(row);
                }
            }
            if !again.is_empty() {
                self.put_back(again);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn take_window(&self) -> Vec<OutboxRow> {
        let mut waiting = lock(&self.shared.waiting);
        let n = waiting.len().min(WINDOW);
        waiting.drain(..n).collect()
    }

    /// In their order, before everything that waits.
    fn put_back(&self, rows: Vec<OutboxRow>) {
        let mut waiting = lock(&self.shared.waiting);
        rows.into_iter().rev().for_each(|row| waiting.push_front(row));
    }

    /// Whether the row is done with.
    async fn settle(&self, row: &OutboxRow, outcome: Result<(), PublishError>) -> bool {
        match outcome {
            Ok(()) => true,
            // The first message to a device that has no queue yet, or whose broker lost it.
            Err(PublishError::Unroutable) => {
                if let Err(error) = self.broker.declare_device(&row.device).await {
                    tracing::warn!(device = %row.device, error, "the queue of a device cannot be declared");
                }
                false
            }
            // The link says by itself that the broker is away, once.
            Err(PublishError::Unavailable(_) | PublishError::Nacked | PublishError::Unknown(_)) => false,
        }
    }
}

fn message(row: &OutboxRow) -> Message {
    let body = serde_json::to_vec(&row.message).expect("an order is plain JSON");
    Message::new(topology::DEVICES, row.device.as_str(), TO_DEVICE, row.message.id.to_string(), body)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics while one is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
