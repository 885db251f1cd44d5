//! The exchange with the leader: its orders come by the device's queue, questions by the RPC
//! queue, heartbeats go out, and their refusals come back.

mod fence;
mod heartbeat;
mod orders;
mod refusals;

use std::sync::Arc;

use berth_common::broker::{Broker, Declare, Delivery, Subscription, topology};
use tokio::sync::mpsc;

use self::refusals::Refusals;
use crate::rpc::Questions;
use crate::worker::Worker;

/// Orders in hand: as many as fsyncs can keep busy.
const ORDERS: u16 = 100;
/// Questions in hand.
const QUESTIONS: u16 = 100;

/// Starts the tasks of the exchange.
pub fn start(worker: &Arc<Worker>, broker: &Broker, questions: Questions) {
    let refusals_queue = worker.reporter.reply_to.clone();
    let orders_queue = topology::device_queue(&worker.device);
    let queue = |queue: String, prefetch| Subscription { queue, declare: Declare::Existing, prefetch };
    let mut incoming = broker.subscribe(vec![
        queue(orders_queue.clone(), ORDERS),
        queue(topology::rpc_queue(&worker.device), QUESTIONS),
        Subscription { queue: refusals_queue.clone(), declare: Declare::Unbound, prefetch: QUESTIONS },
    ]);
    let (to_orders, orders) = mpsc::channel::<Delivery>(usize::from(ORDERS));
    let tasks = &worker.tasks;
    let stop = tasks.stop.clone();
    let sorted = tasks.tracker.clone();
    sorted.spawn(async move {
        let mut refusals = Refusals::default();
        while let Some(Some(delivery)) = stop.run_until_cancelled(incoming.deliveries.recv()).await {
            if delivery.queue == refusals_queue {
                refusals.hear(&delivery);
                delivery.ack().await;
            } else if delivery.queue != orders_queue {
                questions.answer(delivery).await;
            } else if to_orders.send(delivery).await.is_err() {
                return;
            }
        }
    });
    tasks.tracker.spawn(orders::run(Arc::clone(worker), orders));
    tasks.tracker.spawn(heartbeat::run(Arc::clone(worker)));
    tasks.tracker.spawn(fence::run(Arc::clone(worker)));
}
