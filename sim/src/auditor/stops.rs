//! Who may end a container, and when somebody must: signals have a reason, SIGKILL comes after the
//! grace time, and neither a stop nor a time limit is slept through.

use berth_common::command::DEFAULT_GRACE_S;
use berth_common::id::Replica;
use berth_common::message::Stop;
use berth_common::spec::Disconnect;

use super::{Auditor, By, Kind, Run};
use crate::docker::Signal;

/// A call of Docker's may take so long.
const START_UNDER_WAY_MS: u64 = 60_000;
/// What a worker gives those that the leader does not know (`worker/src/link/orders.rs`).
pub const STRANGER_GRACE_MS: u64 = 10_000;
/// What it gives those whose time is over.
const LIMIT_GRACE_MS: u64 = DEFAULT_GRACE_S * 1_000;
/// Docker's calls are slow at times, and there are several: to look, to signal, to signal once more.
const SLOW_MS: u64 = 70_000;

/// What was ever wished of a container that may end it.
#[derive(Debug, Default)]
pub(super) struct Wished {
    /// From when on a stop's SIGKILL may come; none: nobody wants it stopped.
    kill_from_ms: Option<u64>,
    /// The longest grace time that it was given.
    grace_ms: u64,
    /// The shortest time limit that it was told, and the longest, where it always had one.
    shortest_s: Option<u64>,
    longest_s: Option<u64>,
    /// Once it was told to have none.
    unlimited: bool,
}

impl Wished {
    fn stop(&mut self, now_ms: u64, grace_ms: u64) {
        let from_ms = now_ms + grace_ms;
        self.kill_from_ms = Some(self.kill_from_ms.map_or(from_ms, |before_ms| before_ms.min(from_ms)));
        self.grace_ms = self.grace_ms.max(grace_ms);
    }
}

impl Auditor {
    pub(super) fn stop_ordered(&mut self, stop: &Stop, now_ms: u64) {
        self.wished.entry(stop.replica).or_default().stop(now_ms, stop.grace_ms);
    }

    /// A welcome does not know it.
    pub(super) fn not_expected(&mut self, replica: Replica, now_ms: u64) {
        self.wished.entry(replica).or_default().stop(now_ms, STRANGER_GRACE_MS);
    }

    pub(super) fn limited(&mut self, replica: Replica, timeout_s: Option<u64>) {
        let wished = self.wished.entry(replica).or_default();
        match timeout_s {
            Some(s) => {
                wished.shortest_s = Some(wished.shortest_s.map_or(s, |before| before.min(s)));
                wished.longest_s = wished.longest_s.max(Some(s));
            }
            None => wished.unlimited = true,
        }
    }

    /// A worker says that a container has run for as long as it may.
    pub fn time_is_over(&mut self, replica: Replica, now_ms: u64) {
        let ran_ms = self.runs.get(&replica).map_or(0, |run| now_ms - run.started_ms);
        let wished = self.wished.entry(replica).or_default();
        if wished.shortest_s.is_some_and(|s| ran_ms + 100 >= s * 1_000) {
            wished.stop(now_ms, LIMIT_GRACE_MS);
        }
    }

    /// A signal reaches a running container: somebody must have had a reason.
    pub fn signalled(&mut self, host: usize, replica: Replica, by: By, signal: Signal, now_ms: u64) {
        self.events += 1;
        if let Some(run) = self.runs.get_mut(&replica) {
            run.signalled_ms.get_or_insert(now_ms);
        }
        let of = &self.hosts[host];
        let requeue =
            self.runs.get(&replica).is_some_and(|run| run.start.spec.disconnect == Disconnect::Requeue);
        let over = of.silent_ms(now_ms) >= self.limits.fence_after_s * 1_000 || of.may_fence(now_ms);
        if requeue && over {
            if let Some(run) = self.runs.get_mut(&replica) {
                run.may_be_fenced = true;
            }
            return;
        }
        let wished = self.wished.get(&replica).and_then(|wished| wished.kill_from_ms);
        match wished.filter(|_| by == By::Worker) {
            None => self.wrong(format!("{replica} was signalled by {by:?} without a reason")),
            Some(kill_from_ms) if signal == Signal::Kill && now_ms < kill_from_ms => {
                let early_ms = kill_from_ms - now_ms;
                self.wrong(format!("{replica} was killed {early_ms} ms before its grace time was over"));
            }
            Some(_) => {}
        }
    }

    /// A running container is removed. A start may have been on its way when the worker gave it up, and
    /// come in between: it is taken back.
    pub fn removed(&mut self, host: usize, replica: Replica, by: By, now_ms: u64) {
        let young = |run: &Run| now_ms - run.started_ms < START_UNDER_WAY_MS;
        if self.runs.get(&replica).is_some_and(young) {
            if let Some(run) = self.runs.get_mut(&replica) {
                run.signalled_ms.get_or_insert(now_ms);
            }
            return;
        }
        self.signalled(host, replica, by, Signal::Kill, now_ms);
    }

    /// It has ended; not later than a worker that was there all the time had to see to.
    pub(super) fn ended_in_time(&mut self, replica: Replica) {
        let (Some(run), Some(wished)) = (self.runs.get(&replica), self.wished.get(&replica)) else { return };
        let Some(end) = run.end else { return };
        let (of, started_ms) = (&self.hosts[run.host], run.started_ms);
        let slept = |due_ms: u64| {
            end.ms > due_ms && !of.was_absent(started_ms, due_ms) && !of.had_gap(started_ms, due_ms)
        };
        let limit_ms = wished.longest_s.filter(|_| !wished.unlimited).map(|s| started_ms + s * 1_000);
        let late = limit_ms.map(|ms| ms + SLOW_MS).filter(|&due_ms| {
            slept(due_ms) && run.signalled_ms.is_none_or(|signalled_ms| signalled_ms > due_ms)
        });
        let asked_ms = run.signalled_ms.filter(|_| wished.kill_from_ms.is_some());
        let spared = asked_ms.map(|ms| ms + wished.grace_ms + SLOW_MS).filter(|&due_ms| slept(due_ms));
        if late.is_some() {
            self.find(Kind::Forgotten, format!("{replica} was not stopped when its time was over"));
        }
        if spared.is_some() {
            self.find(Kind::Forgotten, format!("{replica} was asked to end and never killed"));
        }
    }
}
