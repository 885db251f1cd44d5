//! Answering questions about this device: logs and telemetry, for those who cannot reach it.

use std::sync::Arc;

use berth_common::broker::{Delivery, Message, Publisher, topology};
use berth_common::message::{DeviceRpc, REPLY, Reply};
use berth_common::problem::Problem;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::logs::Logs;
use crate::telemetry::Store;
use crate::worker::Tasks;

/// Questions answered at a time; followers of logs wait up to 8 s each.
const AT_A_TIME: usize = 64;
/// Who asks has given up by then.
const REPLY_EXPIRES_MS: u64 = 10_000;

#[derive(Clone)]
pub struct Questions {
    logs: Logs,
    telemetry: Arc<Store>,
    publisher: Publisher,
    tasks: Tasks,
    places: Arc<Semaphore>,
}

impl Questions {
    #[must_use]
    pub fn new(logs: Logs, telemetry: Arc<Store>, publisher: Publisher, tasks: Tasks) -> Self {
        Self { logs, telemetry, publisher, tasks, places: Arc::new(Semaphore::new(AT_A_TIME)) }
    }

    /// Answers in a task of its own. A question is asked once; one that is lost is asked again by who asked.
    pub async fn answer(&self, delivery: Delivery) {
        delivery.ack().await;
        let Some(to) = delivery.reply_to else {
            tracing::debug!(message = delivery.message_id, "a question without reply_to");
            return;
        };
        let place = Arc::clone(&self.places).try_acquire_owned();
        let this = self.clone();
        let tasks = self.tasks.tracker.clone();
        tasks.spawn(async move {
            let answer = match place {
                Ok(_place) => {
                    let answer = this.consider(&delivery.body);
                    match this.tasks.stop.run_until_cancelled(answer).await {
                        Some(answer) => answer,
                        None => Err(Problem::new(503, "the worker is stopping")),
                    }
                }
                Err(_) => Err(Problem::new(503, "the device answers too many questions at the moment")),
            };
            this.reply(to, delivery.correlation_id, answer).await;
        });
    }

    async fn consider(&self, body: &[u8]) -> Result<serde_json::Value, Problem> {
        let question = serde_json::from_slice(body)
            .map_err(|error| Problem::new(400, format!("the question cannot be read: {error}")))?;
        match question {
            DeviceRpc::Logs(query) => {
                let piece = self.logs.query(&query).await?;
                Ok(serde_json::to_value(piece).expect("a piece has only string keys"))
            }
            DeviceRpc::Telemetry(query) => self.telemetry.query(&query).await,
        }
    }

    async fn reply(
        &self,
        to: String,
        correlation_id: Option<String>,
        answer: Result<serde_json::Value, Problem>,
    ) {
        let reply = match answer {
            Ok(body) => Reply { status: 200, body },
            Err(problem) => Reply {
                status: problem.status,
                body: serde_json::to_value(problem).expect("a problem has only string keys"),
            },
        };
        let body = serde_json::to_vec(&reply).expect("a reply has only string keys");
        let id = Uuid::now_v7().to_string();
        let message = Message {
            correlation_id,
            expires_ms: Some(REPLY_EXPIRES_MS),
            mandatory: false, // who asked may have left
            ..Message::new(topology::REPLIES, to, REPLY, id, body)
        };
        if let Err(error) = self.publisher.publish(message).await {
            tracing::debug!(%error, "an answer was lost");
        }
    }
}
