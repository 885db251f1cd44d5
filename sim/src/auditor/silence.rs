//! What follows when the broker does not hear a worker: how long that lasts, who was there meanwhile to
//! kill what may run elsewhere, and what may not be begun.
//!
//! A worker's term counts from when it *sent* what was confirmed to it, and so does everything here.

use berth_common::spec::Disconnect;

use super::{Auditor, OfHost, Run};

/// Before and after the end of a container: Docker's absence, and what the worker needs to tell it.
const WATCHED_MS: u64 = 500_000;
/// Until a worker has seen that something runs whose start Docker did not answer.
const NOTICED_MS: u64 = 30_000;
/// A fence ends within this when Docker answers (`lost_after` − `fence_after` − 10 s).
const FENCE_MS: u64 = 50_000;
/// A kill that was asked for while Docker hung is carried out within this when it is back.
const LATE_KILL_MS: u64 = 5_000;
/// A worker that is there has written down within this what was confirmed to it.
const WRITTEN_MS: u64 = 1_500;

impl OfHost {
    /// Whether the worker was dead or paused at any time of these.
    pub(super) fn was_absent(&self, from_ms: u64, to_ms: u64) -> bool {
        self.absent.iter().any(|(from, to)| *from <= to_ms && *to >= from_ms)
    }

    /// Whether Docker did not answer, or nobody could fence, at any time of these.
    pub(super) fn had_gap(&self, from_ms: u64, to_ms: u64) -> bool {
        self.gaps.iter().any(|(from, to)| *from <= to_ms && *to >= from_ms)
    }

    /// Whether a fence may still be under way: a kill that was asked for while Docker hung comes when it is back.
    pub(super) fn may_fence(&self, now_ms: u64) -> bool {
        let hung = self.gaps.iter().filter(|(from, to)| *from <= self.fenced_until_ms && *to != u64::MAX);
        let until_ms = hung.map(|(_, to)| to + LATE_KILL_MS).max().unwrap_or(0).max(self.fenced_until_ms);
        now_ms <= until_ms
    }

    /// For how long nothing has been confirmed, as far as whoever fences can know.
    pub(super) fn silent_ms(&self, now_ms: u64) -> u64 {
        let written = now_ms >= self.confirmed_ms + WRITTEN_MS
            && !self.was_absent(self.confirmed_ms, self.confirmed_ms + WRITTEN_MS);
        let known_ms = if written { self.heard_ms } else { self.heard_ms.min(self.written_ms) };
        now_ms.saturating_sub(known_ms)
    }
}

impl Auditor {
    fn fence_after_ms(&self) -> u64 {
        self.limits.fence_after_s * 1_000
    }

    /// The broker has confirmed to the worker of a host what it sent at `sent_ms`.
    pub fn confirmed(&mut self, host: usize, sent_ms: u64, now_ms: u64) {
        let fence_after_ms = self.fence_after_ms();
        let over_ms = self.hosts[host].heard_ms + fence_after_ms;
        if now_ms >= over_ms + FENCE_MS {
            self.was_fenced(host, over_ms);
        }
        let of = &mut self.hosts[host];
        // The confirm of a hello may come after the welcome, or be lost.
        of.session_is_over |= sent_ms >= of.heard_ms.max(of.welcomed_ms) + fence_after_ms;
        self.may_be_fencing(host, now_ms);
        let of = &mut self.hosts[host];
        (of.heard_ms, of.confirmed_ms) = (of.heard_ms.max(sent_ms), now_ms);
    }

    /// A silence ends; where it was long enough for a fence, that may still be under way.
    fn may_be_fencing(&mut self, host: usize, now_ms: u64) {
        let fence_after_ms = self.fence_after_ms();
        let of = &mut self.hosts[host];
        if now_ms >= of.heard_ms.min(of.written_ms) + fence_after_ms {
            of.fenced_until_ms = now_ms + FENCE_MS;
        }
    }

    /// A silence was so long that the leader may have given the device up: what may run elsewhere was
    /// killed in time, where anybody was there to do it.
    fn was_fenced(&mut self, host: usize, over_ms: u64) {
        let (of, until_ms) = (&self.hosts[host], over_ms + FENCE_MS);
        if of.had_gap(over_ms, until_ms) || (!self.guarded && of.was_absent(over_ms, until_ms)) {
            return;
        }
        let spared = |run: &Run| {
            run.host == host
                && run.start.spec.disconnect == Disconnect::Requeue
                && run.started_ms < over_ms
                && run.signalled_ms.is_none_or(|ms| ms > until_ms)
                && run.end.is_none_or(|end| end.ms > until_ms)
        };
        let spared: Vec<_> = self.runs.iter().filter(|(_, run)| spared(run)).map(|(of, _)| *of).collect();
        for replica in spared {
            self.wrong(format!("{replica} was not fenced within {FENCE_MS} ms"));
        }
    }

    /// A welcome was taken: a session begins.
    pub fn welcomed(&mut self, host: usize, now_ms: u64) {
        self.events += 1;
        self.may_be_fencing(host, now_ms);
        (self.hosts[host].session_is_over, self.hosts[host].welcomed_ms) = (false, now_ms);
    }

    /// The worker has written its lease down, for a term that counts from `confirmed_ms`.
    pub fn lease_written(&mut self, host: usize, confirmed_ms: u64, now_ms: u64) {
        // The guard may have read the old one a moment ago, and kill what it has found by that.
        self.may_be_fencing(host, now_ms);
        let of = &mut self.hosts[host];
        of.written_ms = confirmed_ms;
        // A welcome says that something was heard before it, also where its confirm was lost.
        of.heard_ms = of.heard_ms.max(confirmed_ms.min(of.welcomed_ms));
    }

    pub fn docker_away(&mut self, host: usize, from_ms: u64, to_ms: u64) {
        self.hosts[host].gaps.push((from_ms, to_ms));
    }

    /// The guard is killed: while its worker is away, too, nobody can fence.
    pub fn guard_is_gone(&mut self, host: usize, now_ms: u64) {
        self.hosts[host].gaps.push((now_ms, u64::MAX));
    }

    pub fn guard_is_back(&mut self, host: usize, now_ms: u64) {
        let open = self.hosts[host].gaps.iter_mut().filter(|(_, to_ms)| *to_ms == u64::MAX);
        open.for_each(|(_, to_ms)| *to_ms = now_ms);
    }

    /// The worker of a host dies, or is paused, or is there again.
    pub fn worker_is(&mut self, host: usize, there: bool, now_ms: u64) {
        let absent = &mut self.hosts[host].absent;
        match (there, absent.last_mut()) {
            (true, Some((_, to_ms))) if *to_ms == u64::MAX => *to_ms = now_ms,
            (true, _) => {}
            (false, Some((_, to_ms))) if *to_ms == u64::MAX => {}
            (false, _) => absent.push((now_ms, u64::MAX)),
        }
    }

    /// A worker asks Docker to start something: once, not when the leader may have given it up, and
    /// not on a term that the guard does not know.
    pub fn start_asked(&mut self, host: usize, name: &str, now_ms: u64) {
        let of = &self.hosts[host];
        let (silent_ms, unwritten_ms) = (now_ms - of.heard_ms, now_ms.saturating_sub(of.written_ms));
        if of.session_is_over {
            self.wrong(format!("{name} is to be started after its session was over"));
        } else if silent_ms.max(unwritten_ms) >= self.fence_after_ms() {
            let text = format!("{silent_ms} ms after the last confirm, {unwritten_ms} ms by the lease file");
            self.wrong(format!("{name} is to be started {text}"));
        }
        if !self.asked_to_start.insert(name.to_owned()) {
            self.wrong(format!("Docker is asked twice to start {name}"));
        }
    }

    /// Whether nobody could kill what runs on a host, now or a moment ago: Docker does not answer, or the
    /// guard is gone and the worker too. That is not promised.
    pub(super) fn is_out_of_reach(&self, host: usize, now_ms: u64) -> bool {
        let of = &self.hosts[host];
        let since_ms = now_ms.saturating_sub(self.limits.lost_after_s * 2_000);
        let nobody = !self.guarded && of.was_absent(now_ms.saturating_sub(FENCE_MS), now_ms);
        nobody || of.had_gap(since_ms, now_ms)
    }

    /// Whether a worker that was there all the time saw Docker take this container down; else nobody can
    /// tell its end from one of its own.
    pub(super) fn seen_by_worker(&self, run: &Run) -> bool {
        let Some(end) = run.end else { return false };
        let (from_ms, to_ms) = (end.ms.saturating_sub(WATCHED_MS), end.ms + WATCHED_MS);
        end.ms - run.started_ms >= NOTICED_MS && !self.hosts[run.host].was_absent(from_ms, to_ms)
    }
}
