//! The exchange with the leader: its orders come by the device's queue, questions by the RPC
//! queue, heartbeats go out, and their refusals come back.

mod fence;
mod heartbeat;
mod orders;
mod refusals;

use std::sync::Arc;
use std::time::Duration;

use berth_common::broker::{Broker, Declare, Delivery, Subscription, topology};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::refusals::Refusals;
use crate::rpc::Questions;
use crate::worker::Worker;

/// Orders in hand: as many as fsyncs can keep busy.
const ORDERS: u16 = 100;
/// Questions in hand.
const QUESTIONS: u16 = 100;

/// A worker that is refused leaves the device's queues alone, until so long after the last refusal: two
/// heartbeats of it have been heard by then.
const REFUSED_FOR: Duration = Duration::from_secs(12);

/// Starts the tasks of the exchange.
pub fn start(worker: &Arc<Worker>, broker: &Broker, questions: Questions) {
    let tasks = &worker.tasks;
    let (refusals, refused) = Refusals::new();
    let reply_to = worker.reporter.reply_to.clone();
    let replies = Subscription { queue: reply_to, declare: Declare::Unbound, prefetch: QUESTIONS };
    tasks.tracker.spawn(refusals.hear_all(broker.subscribe(vec![replies]), tasks.stop.clone()));
    let (to_orders, orders) = mpsc::channel(usize::from(ORDERS));
    let receiving = Receiving { broker: broker.clone(), device: worker.device.clone(), questions, to_orders };
    let stop = tasks.stop.clone();
    tasks.tracker.spawn(async move {
        stop.run_until_cancelled(receiving.run(refused)).await;
    });
    tasks.tracker.spawn(orders::run(Arc::clone(worker), orders));
    tasks.tracker.spawn(heartbeat::run(Arc::clone(worker)));
    tasks.tracker.spawn(fence::run(Arc::clone(worker)));
}

/// What comes by the device's queues. The broker gives their messages to one consumer: a worker that is
/// not heard, because another one has the name, must not be that one.
struct Receiving {
    broker: Broker,
    device: String,
    questions: Questions,
    to_orders: mpsc::Sender<Delivery>,
}

impl Receiving {
    async fn run(self, mut refused: watch::Receiver<Option<Instant>>) {
        loop {
            until_heard(&mut refused).await;
            tokio::select! {
                () = self.receive() => return,
                changed = refused.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Ends when nobody takes orders any more.
    async fn receive(&self) {
        let orders = topology::device_queue(&self.device);
        let queue = |queue: String, prefetch| Subscription { queue, declare: Declare::Existing, prefetch };
        let mut incoming = self.broker.subscribe(vec![
            queue(orders.clone(), ORDERS),
            queue(topology::rpc_queue(&self.device), QUESTIONS),
        ]);
        while let Some(delivery) = incoming.deliveries.recv().await {
            if delivery.queue != orders {
                self.questions.answer(delivery).await;
            } else if self.to_orders.send(delivery).await.is_err() {
                return;
            }
        }
    }
}

async fn until_heard(refused: &mut watch::Receiver<Option<Instant>>) {
    loop {
        let Some(at) = *refused.borrow_and_update() else { return };
        tokio::select! {
            () = tokio::time::sleep_until(at + REFUSED_FOR) => return,
            changed = refused.changed() => if changed.is_err() { return },
        }
    }
}
