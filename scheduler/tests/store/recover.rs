//! After a restore: every number rises, unless somebody still leads.

use std::time::Duration;

use berth_scheduler::core::rows::Rows;
use berth_scheduler::store::{RecoverError, StoreError, read_lease, recover};

use crate::database::{CELL, Fresh, at_ms, with_database};
use crate::sample;

/// For tests in which nobody else is there.
const AT_ONCE: Duration = Duration::ZERO;
const RAISE: i64 = 1 << 20;

#[tokio::test]
async fn every_number_rises_and_the_next_leader_knows_it() {
    with_database(async |fresh: Fresh| {
        let mut old = fresh.lead().await;
        old.commit(&sample::cluster(), &[], at_ms(100)).await.expect("commits");
        let mut connected = fresh.connect().await;
        let raised = recover(&mut connected, CELL, AT_ONCE, at_ms(200)).await.expect("recovers");
        assert_eq!((raised.epoch, raised.next_id), (1 + RAISE, 10_000 + RAISE));
        assert_eq!(i64::from(raised.attempt_floor), RAISE);

        // One that still runs has lost the cell, and nobody has to wait for it.
        assert_eq!(old.renew(at_ms(300)).await, Err(StoreError::Deposed));
        assert_eq!(old.commit(&sample::cluster(), &[], at_ms(300)).await, Err(StoreError::Deposed));
        let free = read_lease(&connected, CELL).await.expect("a lease");
        assert_eq!((free.holder.as_deref(), free.backend), (None, None));

        let mut lead = fresh.take_over(connected, "second", at_ms(400)).await;
        let snapshot = lead.load().await.expect("loads");
        assert_eq!((snapshot.next_id, snapshot.recovering), (10_000 + RAISE, true));
        assert_eq!(i64::from(snapshot.attempt_floor), RAISE);
        assert_eq!(snapshot.jobs.len(), 4, "what the backup has is there");
        let sessions: Vec<i64> = snapshot.device_states.iter().map(|state| state.session).collect();
        assert_eq!(sessions, [0], "a device begins a new one before anything is started there");
        let done = Rows { recovered: true, ..Rows::default() };
        lead.commit(&done, &[], at_ms(500)).await.expect("commits");
        let snapshot = lead.load().await.expect("loads");
        assert!(!snapshot.recovering);
        assert_eq!(i64::from(snapshot.attempt_floor), RAISE, "it stays for ever");
    })
    .await;
}

#[tokio::test]
async fn a_second_recovery_rises_further_even_where_the_clock_was_set_back() {
    with_database(async |fresh: Fresh| {
        let mut connected = fresh.migrated().await;
        let first = recover(&mut connected, CELL, AT_ONCE, at_ms(200)).await.expect("recovers");
        let second = recover(&mut connected, CELL, AT_ONCE, at_ms(100)).await.expect("recovers");
        assert_eq!((second.epoch, second.next_id), (first.epoch + RAISE, first.next_id + RAISE));
        assert_eq!(i64::from(second.attempt_floor), 2 * RAISE);
        assert!(read_lease(&connected, CELL).await.expect("a lease").renewed_at > at_ms(200));
    })
    .await;
}

#[tokio::test]
async fn a_scheduler_that_leads_is_seen_and_nothing_is_changed() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        let mut connected = fresh.connect().await;
        let long = Duration::from_secs(60);
        let refusal = {
            let mut recovering = std::pin::pin!(recover(&mut connected, CELL, long, at_ms(1)));
            let mut ms = 2;
            loop {
                // A leader renews until the watcher has seen it.
                lead.renew(at_ms(ms)).await.expect("it leads");
                ms += 1;
                let look = tokio::time::timeout(Duration::from_millis(100), &mut recovering);
                if let Ok(ended) = look.await {
                    break ended.expect_err("somebody leads");
                }
            }
        };
        assert!(matches!(&refusal, RecoverError::Led { holder } if holder == "first"), "{refusal}");
        assert!(refusal.to_string().contains("stop every scheduler"), "{refusal}");
        let snapshot = lead.load().await.expect("it still leads");
        assert_eq!((snapshot.next_id, snapshot.attempt_floor, snapshot.recovering), (1, 0, false));
    })
    .await;
}

#[tokio::test]
async fn an_empty_database_has_nothing_to_recover_and_stays_empty() {
    with_database(async |fresh: Fresh| {
        let mut connected = fresh.connect().await;
        let refusal = recover(&mut connected, CELL, AT_ONCE, at_ms(1)).await.expect_err("refused");
        assert!(matches!(refusal, RecoverError::Empty), "{refusal}");
        let schemas = "SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = 'core'";
        assert_eq!(connected.client.query_one(schemas, &[]).await.expect("counts").get::<_, i64>(0), 0);
    })
    .await;
}
