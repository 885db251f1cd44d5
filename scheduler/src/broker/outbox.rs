//! Publishes what was committed: rows of the outbox become messages to devices, and what the broker
//! has confirmed may be deleted with the next batch.
//!
//! A row may go out twice (a confirm was lost, a new leader sends it again); numbers make the second
//! copy harmless. It is never lost: until it is confirmed and deleted, the row is there. What must
//! always hold: a device's rows go out in their order, each after the one before was confirmed, for a
//! worker takes a smaller number than its last for a repetition; and no device waits for another. That
//! a device was deleted stands in the same order: its queues go before it gets anything new.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_common::broker::{Broker, Message, PublishError, Publisher, topology};
use berth_common::message::{Order, TO_DEVICE};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::core::rows::OutboxRow;

/// Pause of a device of which a row could not be published.
const PAUSE: Duration = Duration::from_millis(500);
/// Devices whose queues are declared or deleted at the same moment: each takes a connection of its own, and
/// after the broker was set up anew all of them need it.
const DECLARING: usize = 4;

/// The rows on their way. It ends when it is dropped: a leader that was deposed publishes nothing.
pub struct Outbox {
    shared: Arc<Shared>,
    _ends: DropGuard,
}

struct Shared {
    waiting: Mutex<Waiting>,
    published: Mutex<Vec<i64>>,
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    /// A device is here as long as somebody works on what is to be done for it.
    of_device: HashMap<String, VecDeque<Work>>,
    /// Devices for which nobody works yet.
    fresh: Vec<String>,
    /// Rows that are not published, those in hand included.
    rows: usize,
}

enum Work {
    Publish(OutboxRow),
    /// The device was deleted: its queues go.
    DeleteQueues,
}

impl Waiting {
    fn of(&mut self, device: &str) -> &mut VecDeque<Work> {
        if !self.of_device.contains_key(device) {
            self.fresh.push(device.to_owned());
        }
        self.of_device.entry(device.to_owned()).or_default()
    }
}

impl Outbox {
    #[must_use]
    pub fn start(broker: &Broker, publisher: Publisher) -> Self {
        let shared =
            Arc::new(Shared { waiting: Mutex::default(), published: Mutex::default(), more: Notify::new() });
        let stop = CancellationToken::new();
        let declaring = Semaphore::new(DECLARING);
        let task = Relay { shared: Arc::clone(&shared), broker: broker.clone(), publisher, declaring };
        let stopped = stop.clone();
        broker.tasks().spawn(async move { stopped.run_until_cancelled(task.run()).await });
        Self { shared, _ends: stop.drop_guard() }
    }

    /// Takes rows that were committed, in their order.
    pub fn send(&self, rows: Vec<OutboxRow>) {
        if rows.is_empty() {
            return;
        }
        let mut waiting = lock(&self.shared.waiting);
        waiting.rows += rows.len();
        for row in rows {
            waiting.of(&row.device).push_back(Work::Publish(row));
        }
        self.shared.more.notify_one();
    }

    /// A device was deleted, and its rows with it: what waits for it is dropped, its queues go.
    pub fn forget(&self, device: &str) {
        let mut waiting = lock(&self.shared.waiting);
        let dropped = std::mem::replace(waiting.of(device), VecDeque::from([Work::DeleteQueues]));
        waiting.rows -= dropped.iter().filter(|work| matches!(work, Work::Publish(_))).count();
        self.shared.more.notify_one();
    }

    /// The ids of rows that the broker has: to be deleted.
    #[must_use]
    pub fn take_published(&self) -> Vec<i64> {
        std::mem::take(&mut lock(&self.shared.published))
    }

    /// Rows that wait to be published.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.shared.waiting).rows
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
    declaring: Semaphore,
}

impl Relay {
    async fn run(&self) {
        let mut devices = FuturesUnordered::new();
        loop {
            let fresh = std::mem::take(&mut lock(&self.shared.waiting).fresh);
            devices.extend(fresh.into_iter().map(|device| self.device(device)));
            tokio::select! {
                () = self.shared.more.notified() => {}
                Some(()) = devices.next() => {}
            }
        }
    }

    /// Does what is to be done for one device until there is nothing more.
    async fn device(&self, device: String) {
        while let Some(work) = self.take(&device) {
            match work {
                Work::Publish(row) => {
                    self.publish(&row).await;
                    lock(&self.shared.waiting).rows -= 1;
                    lock(&self.shared.published).push(row.message.id);
                }
                Work::DeleteQueues => self.delete_queues(&device).await,
            }
        }
    }

    /// The next work for a device. None: there is none, and the device is forgotten.
    fn take(&self, device: &str) -> Option<Work> {
        let mut waiting = lock(&self.shared.waiting);
        let work = waiting.of_device.get_mut(device).and_then(VecDeque::pop_front);
        if work.is_none() {
            waiting.of_device.remove(device);
        }
        work
    }

    /// Publishes a row, again and again until the broker has it.
    async fn publish(&self, row: &OutboxRow) {
        let mut declared = false;
        loop {
            match self.publisher.publish(message(row)).await {
                Ok(()) => return,
                // The first message to a device that has no queue yet, or whose broker lost it.
                Err(PublishError::Unroutable) if !declared => {
                    // In the middle of a session somebody has deleted it. RabbitMQ moves consumers of
                    // a queue that is at once there again, and then tells them nothing more.
                    if !matches!(row.message.order, Order::Welcome(_)) {
                        tokio::time::sleep(PAUSE).await;
                    }
                    declared = self.declare(&row.device).await;
                    if declared {
                        continue;
                    }
                }
                // Declared, and gone again: once more after the pause.
                Err(PublishError::Unroutable) => declared = false,
                // The link says by itself that the broker is away, once.
                Err(PublishError::Unavailable(_) | PublishError::Nacked | PublishError::Unknown(_)) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Once: queues that stay because the broker is away cost it little, and serve the device again
    /// should it come back.
    async fn delete_queues(&self, device: &str) {
        let _turn = self.declaring.acquire().await.expect("it is never closed");
        match self.broker.delete_device(device).await {
            Ok(()) => tracing::info!(device, "a device was deleted, and its queues with it"),
            Err(error) => {
                tracing::warn!(device, error, "the queues of a deleted device stay: they cannot be deleted");
            }
        }
    }

    /// Whether the queues of a device are there now.
    async fn declare(&self, device: &str) -> bool {
        let _turn = self.declaring.acquire().await.expect("it is never closed");
        match self.broker.declare_device(device).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(device, error, "the queue of a device cannot be declared");
                false
            }
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
