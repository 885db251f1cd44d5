//! Who leads: taking, renewing, losing and giving up the lease.

use berth_scheduler::core::rows::Rows;
use berth_scheduler::store::{StoreError, ensure_cell, read_lease, take_lease};

use crate::database::{CELL, Fresh, at_ms, with_database};
use crate::sample;

#[tokio::test]
async fn only_one_of_those_who_saw_the_same_row_takes_it() {
    with_database(async |fresh: Fresh| {
        let first = fresh.migrated().await;
        let second = fresh.connect().await;
        let seen = read_lease(&first, CELL).await.expect("a lease");
        assert_eq!((seen.epoch, seen.holder.as_deref()), (0, None));
        let lead = take_lease(first, CELL, &seen, "first", at_ms(1)).await.expect("answers").expect("free");
        assert_eq!((lead.epoch(), lead.cell()), (1, CELL));
        let too_late = take_lease(second, CELL, &seen, "second", at_ms(1)).await.expect("answers");
        assert!(too_late.is_none());
        let held = read_lease(&fresh.connect().await, CELL).await.expect("a lease");
        assert_eq!((held.epoch, held.holder.as_deref(), held.renewed_at), (1, Some("first"), at_ms(1)));
        assert!(held.backend.is_some());
    })
    .await;
}

#[tokio::test]
async fn a_renewal_is_seen_and_a_release_leaves_nobody() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        lead.renew(at_ms(1000)).await.expect("it leads");
        let watcher = fresh.connect().await;
        assert_eq!(read_lease(&watcher, CELL).await.expect("a lease").renewed_at, at_ms(1000));
        lead.release(at_ms(2000)).await.expect("it led");
        let free = read_lease(&watcher, CELL).await.expect("a lease");
        assert_eq!((free.epoch, free.holder), (1, None));
        assert_eq!(fresh.take_over(watcher, "second", at_ms(2001)).await.epoch(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_deposed_leader_writes_nothing() {
    with_database(async |fresh: Fresh| {
        let mut old = fresh.lead().await;
        let mut new = fresh.take_over(fresh.connect().await, "second", at_ms(2)).await;
        assert_eq!(old.commit(&sample::cluster(), &[], at_ms(3)).await, Err(StoreError::Deposed));
        let numbers = Rows { next_id: Some(77), ..Rows::default() };
        assert_eq!(old.commit(&numbers, &[], at_ms(3)).await, Err(StoreError::Deposed));
        assert_eq!(old.renew(at_ms(3)).await, Err(StoreError::Deposed));
        assert_eq!(old.load().await.map(|_| ()), Err(StoreError::Deposed));
        let snapshot = new.load().await.expect("it leads");
        assert_eq!((snapshot.jobs, snapshot.devices, snapshot.outbox), (vec![], vec![], vec![]));
        assert_eq!(snapshot.next_id, 1);
        assert_eq!(old.release(at_ms(4)).await, Err(StoreError::Deposed));
    })
    .await;
}

#[tokio::test]
async fn a_cell_is_made_once() {
    with_database(async |fresh: Fresh| {
        let connected = fresh.migrated().await;
        let first =
            fresh.take_over(fresh.connect().await, "first", at_ms(1)).await.load().await.expect("loads");
        ensure_cell(&connected.client, CELL, at_ms(5)).await.expect("nothing to do");
        let again = fresh.take_over(connected, "second", at_ms(2)).await.load().await.expect("loads");
        assert_eq!((first.instance, &first.secret), (again.instance, &again.secret));
        assert_eq!(first.secret.len(), 64);
        let queues: Vec<_> = again.queues.iter().map(|q| (q.name.as_str(), q.default_timeout_s)).collect();
        assert_eq!(queues, [("default", Some(604_800))]);
    })
    .await;
}
