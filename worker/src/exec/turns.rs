//! Commands of one job run one after the other, in the order in which they were given; those of another job
//! wait for none of them.
//!
//! What must always hold: a turn that is dropped, before or after it came, lets the next one in.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// Of one job, that run or wait. Who asks for more than that looks at what the first one does.
const OF_A_JOB: usize = 4;

/// Who is next in which job.
#[derive(Debug, Clone, Default)]
pub struct Turns {
    rows: Arc<Mutex<BTreeMap<Uuid, Row>>>,
}

#[derive(Debug)]
struct Row {
    /// Of one place; whoever asked first gets it first.
    place: Arc<Semaphore>,
    turns: usize,
}

/// A place in the row of a job, until it is dropped.
pub struct Turn {
    turns: Turns,
    job: Uuid,
    state: State,
}

enum State {
    Waits(Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>),
    Came(#[expect(dead_code, reason = "held until the turn is dropped")] OwnedSemaphorePermit),
}

impl Turns {
    /// Takes the place behind those that were taken before. None: too many wait in this job.
    #[must_use]
    pub fn queue(&self, job: Uuid) -> Option<Turn> {
        let place = {
            let mut rows = self.rows();
            let row = rows.entry(job).or_insert_with(|| Row { place: Arc::new(Semaphore::new(1)), turns: 0 });
            if row.turns == OF_A_JOB {
                return None;
            }
            row.turns += 1;
            Arc::clone(&row.place)
        };
        let mut waits = async move { place.acquire_owned().await.expect("never closed") }.boxed();
        // The first poll takes the place in the row: it must not depend on which task is run first.
        let state = match waits.as_mut().now_or_never() {
            Some(permit) => State::Came(permit),
            None => State::Waits(waits),
        };
        Some(Turn { turns: self.clone(), job, state })
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<Uuid, Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Returns when all that were before it are gone.
    pub async fn comes(&mut self) {
        match &mut self.state {
            State::Waits(waits) => self.state = State::Came(waits.await),
            State::Came(_) => {}
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut rows = self.turns.rows();
        if let Some(row) = rows.get_mut(&self.job) {
            row.turns -= 1;
            if row.turns == 0 {
                rows.remove(&self.job);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: Uuid = Uuid::from_u128(1);

    fn came(turn: &mut Turn) -> bool {
        turn.comes().now_or_never().is_some()
    }

    #[tokio::test]
    async fn one_after_the_other_in_the_order_given_whoever_is_looked_at_first() {
        let turns = Turns::default();
        let of = || turns.queue(JOB).expect("room");
        let (mut first, mut second, mut third) = (of(), of(), of());
        assert!(!came(&mut third) && !came(&mut second) && came(&mut first));
        drop(first);
        assert!(!came(&mut third) && came(&mut second));
        drop(second);
        third.comes().await;
    }

    #[tokio::test]
    async fn one_that_leaves_while_it_waits_lets_nobody_in_too_early_and_stops_nobody() {
        let turns = Turns::default();
        let of = || turns.queue(JOB).expect("room");
        let (first, second, mut third, mut fourth) = (of(), of(), of(), of());
        drop(second);
        assert!(!came(&mut third));
        drop(first);
        assert!(!came(&mut fourth), "it is the third one's turn, though that has not looked yet");
        drop(third);
        assert!(came(&mut fourth));
    }

    #[test]
    fn another_job_waits_for_none_and_a_row_is_bounded_and_forgotten() {
        let turns = Turns::default();
        let all: Vec<_> = (0..OF_A_JOB).map(|_| turns.queue(JOB).expect("room")).collect();
        assert!(turns.queue(JOB).is_none());
        assert!(came(&mut turns.queue(Uuid::from_u128(2)).expect("another job")));
        drop(all);
        assert!(turns.rows().is_empty());
        assert!(came(&mut turns.queue(JOB).expect("room again")));
    }
}
