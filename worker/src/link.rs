//! The exchange with the leader: its orders come by the device's queue, questions by the RPC
//! queue, heartbeats go out, and their refusals come back.

mod fence;
mod heartbeat;
mod orders;
mod refusals;

use std::sync::Arc;

use berth_common::broker::{Broker, Declare, Delivery, Subscriber, Subscription, topology};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::refusals::Refusals;
use crate::agent::REFUSED_FOR;
use crate::rpc::Questions;
use crate::worker::Worker;

/// Orders in hand: as many as fsyncs can keep busy.
const ORDERS: u16 = 100;
/// Questions in hand.
const QUESTIONS: u16 = 100;

/// Starts the tasks of the exchange.
pub fn start(worker: &Arc<Worker>, broker: &Broker, questions: Questions) {
    let tasks = &worker.tasks;
    let (refusals, refused) = Refusals::new(worker.lease.clone());
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
        let subscribe = |queue, prefetch| {
            self.broker.subscribe(vec![Subscription { queue, declare: Declare::Existing, prefetch }])
        };
        // Each comes by itself: orders wait while the inbox's disk is full, and then above all somebody
        // wants to see logs.
        let orders = subscribe(topology::device_queue(&self.device), ORDERS);
        let questions = subscribe(topology::rpc_queue(&self.device), QUESTIONS);
        tokio::select! {
            () = self.take_orders(orders) => {}
            () = self.answer(questions) => {}
        }
    }

    async fn take_orders(&self, mut incoming: Subscriber) {
        while let Some(delivery) = incoming.deliveries.recv().await {
            if self.to_orders.send(delivery).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, mut incoming: Subscriber) {
        while let Some(delivery) = incoming.deliveries.recv().await {
            self.questions.answer(delivery).await;
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
