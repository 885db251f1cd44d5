//! Rows of the outbox reach each device in their order, and no device waits for another.

use std::time::Duration;

use berth_common::broker::{Declare, Subscription, topology};
use berth_common::id::Replica;
use berth_common::message::{Order, ToDevice};
use berth_scheduler::broker::outbox::Outbox;
use berth_scheduler::core::rows::OutboxRow;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use uuid::Uuid;

use crate::stage::{LIMIT, at_ms, with_stage};

fn row(id: i64, device: &str) -> OutboxRow {
    let order = Order::Ask(Replica { job: Uuid::from_u128(1), attempt: 1, replica: 0 });
    OutboxRow { device: device.into(), message: ToDevice { session: 1, id, order }, created_at: at_ms(0) }
}

/// Waits until so many rows are published; their ids.
async fn published(outbox: &Outbox, enough: usize) -> Vec<i64> {
    let end = tokio::time::Instant::now() + LIMIT;
    let mut ids = Vec::new();
    while ids.len() < enough {
        ids.extend(outbox.take_published());
        assert!(tokio::time::Instant::now() < end, "only {ids:?} of {enough} were published");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ids
}

#[tokio::test]
async fn a_device_that_cannot_be_reached_holds_nobody_back() {
    with_stage(async |stage| {
        let channel = stage.channel().await;
        // Nobody can declare this one's queue: there is one of another kind.
        let (bad, durable) =
            (topology::device_queue("bad"), QueueDeclareOptions { durable: true, ..Default::default() });
        channel.queue_declare(bad.as_str().into(), durable, FieldTable::default()).await.expect("declared");
        let outbox = Outbox::start(&stage.broker, stage.broker.publisher());
        outbox.send((0..10).map(|n| row(n, "bad")).chain((10..30).map(|n| row(n, "good"))).collect());
        let mut first = published(&outbox, 20).await;
        first.sort_unstable();
        assert_eq!((first, outbox.len()), ((10..30).collect(), 10));

        channel.queue_delete(bad.as_str().into(), QueueDeleteOptions::default()).await.expect("deleted");
        outbox.send(vec![row(30, "bad")]);
        assert_eq!(published(&outbox, 11).await, (0..10).chain([30]).collect::<Vec<_>>());
        assert!(outbox.is_empty());

        for (device, expected) in
            [("good", (10..30).collect()), ("bad", (0..10).chain([30]).collect::<Vec<_>>())]
        {
            let queue = topology::device_queue(device);
            let orders = Subscription { queue, declare: Declare::Existing, prefetch: 100 };
            let mut orders = stage.broker.subscribe(vec![orders]).deliveries;
            let mut found = Vec::new();
            while found.len() < expected.len() {
                let next = tokio::time::timeout(LIMIT, orders.recv()).await;
                let next = next.unwrap_or_else(|_| panic!("{device}: only {found:?}")).expect("it consumes");
                let order: ToDevice = serde_json::from_slice(&next.body).expect("an order");
                found.push(order.id);
                next.ack().await;
            }
            assert_eq!(found, expected, "{device}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_waits_for_a_deleted_device_is_dropped_and_its_queues_go() {
    with_stage(async |stage| {
        let channel = stage.channel().await;
        let outbox = Outbox::start(&stage.broker, stage.broker.publisher());
        outbox.send((0..3).map(|n| row(n, "dev")).collect());
        assert_eq!(published(&outbox, 3).await, [0, 1, 2]);
        outbox.forget("dev");
        // It came back: what it gets now goes into a new queue.
        outbox.send(vec![row(3, "dev")]);
        assert_eq!(published(&outbox, 1).await, [3]);
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = topology::device_queue("dev");
        let queue = channel.queue_declare(queue.into(), passive, FieldTable::default()).await.expect("there");
        assert_eq!((queue.message_count(), outbox.len()), (1, 0));
    })
    .await;
}
