//! What queues have used: written, written again, deleted with its queue, and many of it in one batch.

use berth_common::queue::Queue;
use berth_scheduler::core::rows::{QueueUsageRow, Rows};
use berth_scheduler::store::StoreError;

use crate::database::{Fresh, at_ms, with_database};

fn used(queue: &str, gpu_ms: i64, ms: i64) -> QueueUsageRow {
    QueueUsageRow { queue: queue.into(), gpu_ms, at: at_ms(ms) }
}

fn usages(queue_usages: Vec<QueueUsageRow>) -> Rows {
    Rows { queue_usages, ..Rows::default() }
}

#[tokio::test]
async fn what_a_queue_has_used_outlives_its_leader() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        assert_eq!(lead.load().await.expect("loads").queue_usages, []);
        // Its queue is made in the same step; more than 2^53 fits.
        let first = Rows {
            new_queues: vec![Queue::new("nlp")],
            queue_usages: vec![used("default", 0, 1), used("nlp", i64::MAX, 1)],
            ..Rows::default()
        };
        lead.commit(&first, &[], at_ms(1)).await.expect("commits");
        let second = usages(vec![used("nlp", 3_600_000, 60_001)]);
        lead.commit(&second, &[], at_ms(60_001)).await.expect("commits");
        // Other changes of the queue leave it alone.
        let changed = Queue { weight: 2, ..Queue::new("nlp") };
        let changed = Rows { queues: vec![changed], ..Rows::default() };
        lead.commit(&changed, &[], at_ms(60_002)).await.expect("commits");
        drop(lead);
        let mut next = fresh.take_over(fresh.connect().await, "second", at_ms(70_000)).await;
        let loaded = next.load().await.expect("loads").queue_usages;
        assert_eq!(loaded, [used("default", 0, 1), used("nlp", 3_600_000, 60_001)]);
    })
    .await;
}

#[tokio::test]
async fn what_a_queue_has_used_goes_with_it() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        let first = Rows {
            new_queues: ["again", "both", "gone", "stays"].map(Queue::new).to_vec(),
            queue_usages: ["again", "both", "gone", "stays"].map(|name| used(name, 5, 1)).to_vec(),
            ..Rows::default()
        };
        lead.commit(&first, &[], at_ms(1)).await.expect("commits");
        let second = Rows {
            deleted_queues: vec!["again".into(), "both".into(), "gone".into()],
            // Of one name, the second is another queue: it has used nothing.
            new_queues: vec![Queue::new("again")],
            queue_usages: vec![used("both", 7, 2), used("stays", 7, 2), used("unheard-of", 7, 2)],
            ..Rows::default()
        };
        lead.commit(&second, &[], at_ms(2)).await.expect("commits what is left");
        assert_eq!(lead.load().await.expect("loads").queue_usages, [used("stays", 7, 2)]);
        // Also where its name comes back later.
        let third = Rows { new_queues: vec![Queue::new("gone")], ..Rows::default() };
        lead.commit(&third, &[], at_ms(3)).await.expect("commits");
        assert_eq!(lead.load().await.expect("loads").queue_usages, [used("stays", 7, 2)]);

        let negative = lead.commit(&usages(vec![used("stays", -1, 4)]), &[], at_ms(4)).await;
        assert!(matches!(negative, Err(StoreError::Poison { .. })), "{negative:?}");
        assert_eq!(lead.load().await.expect("loads").queue_usages, [used("stays", 7, 2)]);
    })
    .await;
}

/// The rows of one statement carry the number of their command within the transaction.
#[tokio::test]
async fn two_hundred_are_written_by_one_statement() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        let names: Vec<String> = (0..200).map(|n| format!("queue-{n:03}")).collect();
        let all = |ms: i64| names.iter().map(|name| used(name, ms, ms)).collect::<Vec<_>>();
        let first = Rows {
            new_queues: names.iter().map(Queue::new).collect(),
            queue_usages: all(1),
            ..Rows::default()
        };
        lead.commit(&first, &[], at_ms(1)).await.expect("commits");
        lead.commit(&usages(all(60_001)), &[], at_ms(60_001)).await.expect("commits");
        assert_eq!(lead.load().await.expect("loads").queue_usages, all(60_001));
        let client = fresh.connect().await.client;
        let commands = "SELECT count(*), count(DISTINCT cmin::TEXT) FROM sched.queue_usage";
        let row = client.query_one(commands, &[]).await.expect("counts");
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (200, 1));
    })
    .await;
}
