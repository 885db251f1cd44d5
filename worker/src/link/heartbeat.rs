//! Every five seconds, and when there is news: who we are, how far we got, and what we hold.

use std::sync::Arc;
use std::time::Duration;

use berth_common::broker::LinkState;
use berth_common::inventory::Inventory;
use berth_common::message::{Event, Heartbeat, PROTOCOL};
use tokio::time::Instant;

use crate::worker::Worker;

const EVERY: Duration = Duration::from_secs(5);
/// So many are sent while a session lasts without a confirm: one that is lost does not end it.
const IN_A_TERM: u32 = 3;
const AT_LEAST: Duration = Duration::from_millis(500);
/// A changed inventory is told for so long, since a heartbeat may expire unread; later now and then.
const TELL_INVENTORY: Duration = Duration::from_secs(60);
/// Between two heartbeats in a burst of news.
const AT_MOST_EVERY: Duration = Duration::from_millis(200);

pub async fn run(worker: Arc<Worker>) {
    let mut inventory = worker.inventory.subscribe();
    let mut link = worker.reporter.publisher.state();
    let mut next = Instant::now();
    let mut told_until = Instant::now() + TELL_INVENTORY;
    let mut beats: u64 = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = worker.beat.notified() => {}
            Ok(()) = inventory.changed() => told_until = Instant::now() + TELL_INVENTORY,
            // A broker that is back hears of us at once.
            Ok(()) = link.changed() => if *link.borrow_and_update() != LinkState::Up { continue },
            () = worker.tasks.stop.cancelled() => return,
        }
        next = Instant::now() + period(worker.lease.fence_after());
        let session = worker.numbers().session;
        let tell = session.is_none() || Instant::now() < told_until || beats.is_multiple_of(12);
        beats += 1;
        let told = if tell { inventory.borrow_and_update().clone() } else { None };
        let beat = Event::Heartbeat(Box::new(heartbeat(&worker, told)));
        let sent = worker.tasks.stop.run_until_cancelled(worker.reporter.heartbeat(beat)).await;
        if let Some(Err(error)) = sent {
            tracing::debug!(%error, "a heartbeat was not confirmed");
        }
        worker.tasks.stop.run_until_cancelled(tokio::time::sleep(AT_MOST_EVERY)).await;
    }
}

fn period(fence_after: Duration) -> Duration {
    (fence_after / IN_A_TERM).clamp(AT_LEAST, EVERY)
}

fn heartbeat(worker: &Worker, inventory: Option<Inventory>) -> Heartbeat {
    let numbers = worker.numbers();
    Heartbeat {
        protocol: PROTOCOL,
        session: numbers.session,
        last: numbers.session.map(|_| numbers.last),
        instance: numbers.instance,
        inventory,
        health: worker.health.told(),
        // Without Docker nobody knows what still runs.
        attempts: worker.engine.borrow().as_ref().map(|_| worker.attempts.held()),
    }
}
