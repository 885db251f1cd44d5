//! What the containers truly do, and what must hold at every moment: nothing twice, nothing without a
//! reason, nothing beyond what a device has.

use berth_common::id::Replica;
use berth_common::message::Start;
use berth_common::spec::Disconnect;
use uuid::Uuid;

use super::{Auditor, By, End, How, Kind, Run};

/// A call of Docker's may take so long.
const START_UNDER_WAY_MS: u64 = 60_000;
/// Before and after the end of a container: Docker's absence, and what the worker needs to tell it.
const WATCHED_MS: u64 = 500_000;

/// A confirm counts from when the message was sent, so long before it at most.
const CONFIRM_MS: u64 = 20_000;
/// Until a worker has seen that something runs whose start Docker did not answer.
const NOTICED_MS: u64 = 30_000;
/// Between a look at the lease and the call that follows.
const FENCE_LOOK_MS: u64 = 1_000;
/// A fence ends within this when Docker answers (`lost_after` − `fence_after` − 10 s).
const FENCE_MS: u64 = 50_000;

impl Auditor {
    /// Docker runs a command in a container.
    pub fn executed(&mut self, command: Uuid) {
        self.events += 1;
        if !self.executed.insert(command) {
            self.find(Kind::Doubled, format!("the command {command} was run twice"));
        }
    }

    /// The broker has confirmed something to the worker of a host.
    pub fn confirmed(&mut self, host: usize, now_ms: u64) {
        let of = &mut self.hosts[host];
        if now_ms - of.confirmed_ms + CONFIRM_MS >= self.limits.fence_after_s * 1_000 {
            of.fenced_until_ms = now_ms + FENCE_MS;
        }
        of.confirmed_ms = now_ms;
    }

    pub fn docker_away(&mut self, host: usize, from_ms: u64, to_ms: u64) {
        self.hosts[host].gaps.push((from_ms, to_ms));
    }

    /// Neither the worker nor a guard could fence.
    pub fn unfenced(&mut self, host: usize, from_ms: u64, to_ms: u64) {
        self.hosts[host].gaps.push((from_ms, to_ms));
    }

    /// A worker asks Docker to start something: not when the broker has confirmed nothing for so long that
    /// the leader may have given it up.
    pub fn start_asked(&mut self, host: usize, name: &str, now_ms: u64) {
        let silent_ms = now_ms - self.hosts[host].confirmed_ms;
        if silent_ms > self.limits.fence_after_s * 1_000 + FENCE_LOOK_MS {
            self.wrong(format!("{name} is to be started {silent_ms} ms after the last confirm"));
        }
    }

    /// The worker has written its lease down.
    pub fn lease_written(&mut self, host: usize) {
        self.hosts[host].written_ms = self.hosts[host].confirmed_ms;
    }

    /// A container begins to run.
    pub fn started(&mut self, host: usize, start: &Start, now_ms: u64) {
        self.events += 1;
        let replica = start.replica;
        if self.runs.contains_key(&replica) {
            self.find(Kind::Doubled, format!("{replica} was started twice"));
        }
        if self.ordered.get(&replica) != Some(&host) {
            self.wrong(format!("{replica} runs where nobody ordered it"));
        }
        if let Some((outcome, attempt)) = self.jobs.get(&replica.job).and_then(|job| job.exited)
            && replica.attempt <= attempt
        {
            self.find(Kind::Doubled, format!("{replica} starts after the job was {outcome}"));
        }
        self.gpus_are_free(start);
        self.no_other_attempt_lives(start, now_ms);
        let run = Run { host, start: start.clone(), started_ms: now_ms, signalled_ms: None, end: None };
        self.runs.insert(replica, run);
        self.live.insert(replica);
        self.device_is_not_over_committed(host);
    }

    fn gpus_are_free(&mut self, start: &Start) {
        let taken = |uuid: &String| {
            let has = |replica: &&Replica| self.runs[replica].start.gpus.iter().any(|gpu| &gpu.uuid == uuid);
            self.live.iter().find(has).copied()
        };
        let found = start.gpus.iter().find_map(|gpu| Some((gpu.uuid.clone(), taken(&gpu.uuid)?)));
        if let Some((uuid, other)) = found {
            self.find(Kind::Doubled, format!("{} got the GPU {uuid}, which {other} has", start.replica));
        }
    }

    /// With `disconnect: requeue` an attempt has ended when the next one begins.
    fn no_other_attempt_lives(&mut self, start: &Start, now_ms: u64) {
        if start.spec.disconnect == Disconnect::Keep {
            return;
        }
        let of =
            |replica: &&Replica| replica.job == start.replica.job && replica.attempt != start.replica.attempt;
        let Some(other) = self.live.iter().find(of).copied() else { return };
        // A Docker that does not answer can kill nothing: that is not promised.
        let since_ms = now_ms.saturating_sub(self.limits.lost_after_s * 2_000);
        let gap = |(from_ms, to_ms): &(u64, u64)| *from_ms <= now_ms && *to_ms >= since_ms;
        if !self.hosts[self.runs[&other].host].gaps.iter().any(gap) {
            self.find(Kind::Doubled, format!("{} starts while {other} lives", start.replica));
        }
    }

    fn device_is_not_over_committed(&mut self, host: usize) {
        let here = self.live.iter().map(|replica| &self.runs[replica]).filter(|run| run.host == host);
        let (cpu_milli, memory_mb) = here.fold((0, 0), |(cpu_milli, memory_mb), run| {
            let needs = &run.start.spec.resources;
            (cpu_milli + needs.cpus.milli, memory_mb + i64::try_from(needs.memory_mb).unwrap_or(i64::MAX))
        });
        let of = &self.hosts[host];
        if cpu_milli > of.cpu_milli || memory_mb > of.memory_mb {
            self.wrong(format!("host {host} is over-committed: {cpu_milli} milli-CPUs, {memory_mb} MB"));
        }
    }

    /// A signal reaches a running container: somebody must have had a reason.
    pub fn signalled(&mut self, host: usize, replica: Replica, by: By, now_ms: u64) {
        self.events += 1;
        if let Some(run) = self.runs.get_mut(&replica) {
            run.signalled_ms.get_or_insert(now_ms);
        }
        let of = &self.hosts[host];
        let silent_ms = now_ms.saturating_sub(of.written_ms) + CONFIRM_MS;
        let requeue =
            self.runs.get(&replica).is_some_and(|run| run.start.spec.disconnect == Disconnect::Requeue);
        let over = silent_ms >= self.limits.fence_after_s * 1_000 || now_ms <= of.fenced_until_ms;
        let fenced = requeue && over;
        let wanted_gone = by == By::Worker && self.unwanted.contains(&replica);
        if !fenced && !wanted_gone {
            self.wrong(format!("{replica} was signalled by {by:?} without a reason"));
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
        self.signalled(host, replica, by, now_ms);
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

    /// Whether a worker that was there all the time saw Docker take this container down; else nobody can
    /// tell its end from one of its own.
    pub(super) fn seen_by_worker(&self, run: &Run) -> bool {
        let Some(end) = run.end else { return false };
        if end.ms - run.started_ms < NOTICED_MS {
            return false;
        }
        let (from_ms, to_ms) = (end.ms.saturating_sub(WATCHED_MS), end.ms + WATCHED_MS);
        !self.hosts[run.host].absent.iter().any(|(from, to)| *from <= to_ms && *to >= from_ms)
    }

    /// A worker says that a container has run for as long as it may.
    pub fn time_is_over(&mut self, replica: Replica, now_ms: u64) {
        let limit_ms = self.limits_s.get(&replica).map(|s| s * 1000);
        let ran_ms = self.runs.get(&replica).map_or(0, |run| now_ms - run.started_ms);
        if limit_ms.is_some_and(|limit_ms| ran_ms + 100 >= limit_ms) {
            self.unwanted.insert(replica);
        }
    }

    pub fn ended(&mut self, _host: usize, replica: Replica, code: i64, how: How, now_ms: u64) {
        self.events += 1;
        self.live.remove(&replica);
        if let Some(run) = self.runs.get_mut(&replica) {
            run.end = Some(End { ms: now_ms, code, how });
        }
    }
}
