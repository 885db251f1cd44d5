//! Who writes an attempt's log: nobody yet, a task that follows its container, or nobody any more.

use std::sync::Arc;
use std::time::Duration;

use berth_common::id::Replica;
use tokio::task::JoinHandle;

use crate::logs::{self, Writer};
use crate::worker::Worker;

/// Docker has the rest of a long log while its end has been reported; then its container goes anyway.
const LOG_DRAIN: Duration = Duration::from_secs(600);

/// An attempt's log, and who writes it.
pub(super) enum Log {
    /// Nobody will: it is complete, or could not be opened.
    None,
    Ready(Box<Writer>),
    Following(JoinHandle<Box<Writer>>),
}

impl Log {
    pub async fn open(worker: &Worker, replica: Replica) -> Self {
        let logs = worker.logs.clone();
        let opened = tokio::task::spawn_blocking(move || logs.open(replica)).await;
        match opened.expect("opening does not panic, and a runtime that ends runs no more tasks") {
            Ok(writer) => Self::Ready(Box::new(writer)),
            Err(error) => {
                tracing::warn!(%replica, %error, "its log cannot be kept");
                Self::None
            }
        }
    }

    /// Begins to follow the container, once.
    pub fn follow(&mut self, worker: &Arc<Worker>, name: &str) {
        *self = match std::mem::replace(self, Self::None) {
            Self::Ready(writer) => {
                let (worker, name) = (Arc::clone(worker), name.to_owned());
                let tracker = worker.tasks.tracker.clone();
                Self::Following(tracker.spawn(async move {
                    Box::new(logs::follow(&worker.docker, &name, *writer, &worker.tasks.stop).await)
                }))
            }
            same @ (Self::None | Self::Following(_)) => same,
        };
    }

    /// Waits until everything is kept, but no longer than `limit`.
    pub async fn complete(&mut self, limit: Duration) {
        if let Self::Following(task) = self
            && let Ok(followed) = tokio::time::timeout(limit, task).await
        {
            // A task that failed took the log with it: what it kept stays readable.
            *self = followed.map_or(Self::None, Self::Ready);
        }
    }

    pub fn is_idle(&self) -> bool {
        match self {
            Self::None | Self::Ready(_) => true,
            Self::Following(_) => false,
        }
    }

    /// Nothing more will be written.
    pub fn close(&mut self, worker: &Worker, replica: Replica) {
        *self = Self::None;
        worker.logs.finished(replica);
    }

    pub async fn drain(mut self, worker: &Worker, replica: Replica) {
        worker.tasks.stop.run_until_cancelled(self.complete(LOG_DRAIN)).await;
        if !worker.tasks.stop.is_cancelled() {
            self.close(worker, replica);
        }
    }
}
