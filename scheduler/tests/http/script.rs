//! Whoever answers questions over the broker, by a script of the test.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use berth_common::broker::{Declare, Delivery, LinkState, Message, Publisher, Subscription, topology};
use berth_common::message::{LEADER_RPC, REPLY, Reply};
use serde_json::Value;
use uuid::Uuid;

use crate::stage::Stage;

/// A message as the script gets it.
#[derive(Debug, Clone)]
pub struct Heard {
    pub kind: String,
    pub message_id: String,
    pub headers: BTreeMap<String, String>,
    pub body: Value,
}

/// Everything that was heard, in order.
pub type Log = Arc<Mutex<Vec<Heard>>>;

impl Stage {
    /// A leader that answers submissions and commands by `script` (none: not at all), and gives no
    /// reasons.
    pub async fn lead(&self, script: impl Fn(&Heard) -> Option<Reply> + Send + 'static) -> Log {
        let key = topology::leader_rpc_key(0);
        let requests =
            Subscription { queue: topology::requests_queue(0), declare: Declare::Existing, prefetch: 100 };
        let script = move |heard: &Heard| {
            let silent = || {
                (heard.kind == LEADER_RPC)
                    .then(|| Reply { status: 200, body: Value::Object(Default::default()) })
            };
            script(heard).or_else(silent)
        };
        self.perform(vec![requests, questions(&key)], script).await
    }

    /// A device that answers questions by `script`.
    pub async fn device(&self, name: &str, script: impl Fn(&Heard) -> Option<Reply> + Send + 'static) -> Log {
        self.perform(vec![questions(name)], script).await
    }

    async fn perform(
        &self,
        subscriptions: Vec<Subscription>,
        script: impl Fn(&Heard) -> Option<Reply> + Send + 'static,
    ) -> Log {
        let log = Log::default();
        let mut subscriber = self.broker.subscribe(subscriptions);
        let publisher = self.broker.publisher();
        subscriber.state.wait_for(|state| *state == LinkState::Up).await.expect("it listens");
        publisher.state().wait_for(|state| *state == LinkState::Up).await.expect("it speaks");
        let heard_all = Arc::clone(&log);
        self.tasks.spawn(async move {
            while let Some(delivery) = subscriber.deliveries.recv().await {
                let heard = hear(&delivery);
                heard_all.lock().expect("nobody panicked").push(heard.clone());
                if let Some(answer) = script(&heard) {
                    reply(&publisher, &delivery, &answer).await;
                }
                delivery.ack().await;
            }
        });
        log
    }
}

fn questions(key: &str) -> Subscription {
    Subscription {
        queue: format!("test.{}", Uuid::new_v4()),
        declare: Declare::Exclusive { exchange: topology::RPC, routing_key: key.to_owned() },
        prefetch: 100,
    }
}

fn hear(delivery: &Delivery) -> Heard {
    Heard {
        kind: delivery.kind.clone(),
        message_id: delivery.message_id.clone(),
        headers: delivery.headers.clone(),
        body: serde_json::from_slice(&delivery.body).expect("messages are JSON"),
    }
}

async fn reply(publisher: &Publisher, to: &Delivery, answer: &Reply) {
    let Some(queue) = to.reply_to.clone() else { return };
    let body = serde_json::to_vec(answer).expect("JSON");
    let mut message = Message::new(topology::REPLIES, queue, REPLY, Uuid::new_v4().to_string(), body);
    message.correlation_id = to.correlation_id.clone();
    message.mandatory = false;
    // Whoever asked may be gone: then nobody misses the answer.
    let _ = publisher.publish(message).await;
}
