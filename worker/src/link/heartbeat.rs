//! Every five seconds, and when there is news: who we are, how far we got, and what we hold.

use std::sync::Arc;
use std::time::Duration;

use berth_common::broker::LinkState;
use berth_common::broker::topology::device_queue;
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
/// A leader answers within a second; another one takes over within ten.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

pub async fn run(worker: Arc<Worker>) {
    let mut inventory = worker.inventory.subscribe();
    let mut link = worker.reporter.publisher.state();
    let mut next = Instant::now();
    let mut told_until = Instant::now() + TELL_INVENTORY;
    let mut beats: u64 = 0;
    let mut unanswered = Unanswered::default();
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
        match sent {
            Some(Err(error)) => {
                unanswered = Unanswered::default();
                tracing::debug!(%error, "a heartbeat was not confirmed");
            }
            Some(Ok(())) if unanswered.for_too_long(session, Instant::now()) => tracing::warn!(
                "no scheduler has welcomed this worker for {} s: nothing is started. See whether one is ready \
                 (/readyz), whether it refuses this worker (above), and whether this account may read the queue {}",
                ANSWERED_WITHIN.as_secs(),
                device_queue(&worker.device)
            ),
            Some(Ok(())) | None => {}
        }
        worker.tasks.stop.run_until_cancelled(tokio::time::sleep(AT_MOST_EVERY)).await;
    }
}

/// Since when the broker has taken our hellos and nobody has answered them.
#[derive(Default)]
struct Unanswered {
    since: Option<Instant>,
    told: bool,
}

impl Unanswered {
    /// Once for each time without a session.
    fn for_too_long(&mut self, session: Option<i64>, now: Instant) -> bool {
        if session.is_some() {
            *self = Self::default();
            return false;
        }
        let since = *self.since.get_or_insert(now);
        now - since >= ANSWERED_WITHIN && !std::mem::replace(&mut self.told, true)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_nobody_answers_is_told_once_each_time() {
        let mut unanswered = Unanswered::default();
        let begin = Instant::now();
        let mut at =
            |seconds, session| unanswered.for_too_long(session, begin + Duration::from_secs(seconds));
        assert!(!at(0, None) && !at(29, None) && at(30, None) && !at(90, None));
        assert!(!at(91, Some(7)) && !at(92, None) && !at(121, None) && at(122, None));
    }
}
