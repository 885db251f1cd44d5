//! Who has to go for others: only whoever said that it may, not in its first minutes, and for a job that may
//! have what it waits for. It gets the usual grace, is charged with nothing, keeps its place and starts again.

use berth_common::command::DEFAULT_GRACE_S;
use berth_common::device::DeviceState;
use berth_common::id::{JobId, Replica};
use berth_common::job::{Outcome, Status, StopReason};
use berth_common::message::{Answer, Event, Exited, Order, Stop, WhatBecame};
use berth_scheduler::core::rows::{DeviceStateRow, JobRow, Life, Rows};

use super::{Asked, Auditor, How, Kind, Run};

/// A preemptible job is left alone for so long (`policy/src/lib.rs`).
const LEAST_MS: u64 = 300_000;
/// Two leaders' clocks differ by so much at most (`seed.rs`), and a commit by so much from its decision.
const CLOCKS_MS: u64 = 22_000 + 20_000;

/// A job's life as it was committed last, and when it came there.
#[derive(Debug)]
pub(super) struct Lived {
    life: Life,
    /// When its present attempt was placed, or was first known to run.
    since_ms: u64,
}

impl Auditor {
    /// What is committed follows from what was committed before.
    pub(super) fn lives_go_on(&mut self, rows: &Rows, now_ms: u64) {
        let mut went_on = Vec::new();
        for row in rows.new_jobs.iter().chain(&rows.jobs) {
            let Some(asked) = self.jobs.get_mut(&row.id) else { continue };
            let before = asked.lived.take();
            let is_new = |before: &Lived| {
                let (was, is) = (&before.life, &row.life);
                was.attempt != is.attempt || (was.status != Status::Running && is.status == Status::Running)
            };
            let since_ms = before.as_ref().filter(|before| !is_new(before)).map_or(now_ms, |of| of.since_ms);
            asked.lived = Some(Lived { life: row.life.clone(), since_ms });
            went_on.extend(before.map(|before| (row, before)));
        }
        // Who waits is known when all of the commit is.
        for (row, before) in went_on {
            self.went_on(row, &before, rows, now_ms);
        }
    }

    fn went_on(&mut self, row: &JobRow, before: &Lived, rows: &Rows, now_ms: u64) {
        let (was, is) = (&before.life, &row.life);
        if was.submitted_at != is.submitted_at {
            self.wrong(format!("{} has lost its place: {was:?}, {is:?}", row.id));
        }
        let preempt = Some(StopReason::Preempt);
        if is.stopping == preempt && was.stopping != preempt {
            self.has_to_go(row, now_ms - before.since_ms, rows);
        }
        let is_over = was.status.is_placed() && (!is.status.is_placed() || is.attempt > was.attempt);
        if is_over && was.stopping == preempt {
            self.has_gone(row, before);
        }
    }

    /// A job is told to go after `ran_ms`.
    fn has_to_go(&mut self, row: &JobRow, ran_ms: u64, rows: &Rows) {
        self.tally.preempted += 1;
        let id = row.id;
        if !self.jobs[&id].wants.preemptible {
            self.wrong(format!("{id} is preempted, and is not preemptible"));
        }
        if ran_ms + CLOCKS_MS < LEAST_MS {
            self.wrong(format!("{id} is preempted after {ran_ms} ms"));
        }
        let stops: Vec<&Stop> =
            rows.outbox.iter().filter_map(|row| stop_of(&row.message.order, id)).collect();
        let grace =
            |stop: &&Stop| stop.reason == StopReason::Preempt && stop.grace_ms == DEFAULT_GRACE_S * 1_000;
        if !stops.iter().all(grace) {
            self.wrong(format!("{id} is preempted, and this is sent: {stops:?}"));
        }
        let mut live = self.queues.live_of(id, row.life.attempt);
        let spared = live.find(|replica| stops.iter().all(|stop| stop.replica != *replica));
        drop(live);
        if let Some(replica) = spared {
            self.wrong(format!("{id} is preempted, and {replica} is not stopped"));
        }
        if !self.somebody_waits(id, row.life.attempt) {
            self.wrong(format!("{id} is preempted, and nobody waits who may have its place"));
        }
    }

    /// Whether a job that is not preemptible waits for its turn, within its queue's quota.
    fn somebody_waits(&self, victim: JobId, attempt: u32) -> bool {
        let of_victim = self.queues.kind_of(victim, attempt);
        self.jobs.values().any(|asked| {
            let waits = asked
                .lived
                .as_ref()
                .is_some_and(|lived| lived.life.status == Status::Pending && !lived.life.held);
            waits
                && !asked.wants.preemptible
                && of_victim.is_none_or(|kind| self.queues.has_room(&asked.wants, kind))
        })
    }

    /// An attempt is over that had to go. Where it had ended before, that counts.
    fn has_gone(&mut self, row: &JobRow, before: &Lived) {
        let (id, was, is) = (row.id, &before.life, &row.life);
        let runs = self.runs.iter().filter(|(of, _)| of.job == id && of.attempt == was.attempt);
        let runs: Vec<&Run> = runs.map(|(_, run)| run).collect();
        if is.failures > was.failures && !runs.iter().any(|run| has_failed(run)) {
            let text = format!("{id} was preempted and is charged with a failure: {was:?}, {is:?}, {runs:?}");
            return self.wrong(text);
        }
        let replica = |replica| Replica { job: id, attempt: was.attempt, replica };
        let mut replicas = (0..row.spec.replicas).map(replica);
        if is.faults > was.faults && replicas.all(|of| self.had_no_fault(of, before.since_ms)) {
            let text = format!("{id} was preempted and is charged with a fault: {was:?}, {is:?}, {runs:?}");
            return self.wrong(text);
        }
        if is.status == Status::Exited || is.failures > was.failures || is.faults > was.faults {
            return;
        }
        self.tally.went_back += 1;
        let asked = self.jobs.get_mut(&id).expect("it was there when its life went on");
        asked.preempted.push(was.attempt);
        let may_be_held = asked.commands.iter().any(|(verb, _)| verb == "hold");
        if (is.held && !may_be_held) || is.not_before.is_some() {
            self.wrong(format!("{id} was preempted and may not start at once: {is:?}"));
        }
    }

    /// Whether nobody has any reason to call the end of a replica a fault: it went as it was told, or, where it
    /// never ran, neither said its worker so, nor was its device given up since it was placed there.
    fn had_no_fault(&self, replica: Replica, placed_ms: u64) -> bool {
        if let Some(run) = self.runs.get(&replica) {
            return self.went_as_told(run);
        }
        let lost_ms = self.ordered.get(&replica).and_then(|&host| self.hosts[host].lost_ms);
        !self.faulty.contains(&replica) && lost_ms.is_none_or(|ms| ms < placed_ms)
    }

    /// A worker says what became of a container.
    pub(super) fn fault_told(&mut self, event: &Event) {
        let (replica, ending) = match event {
            Event::Exited(Exited { replica, ending, .. })
            | Event::Answer(Answer { replica, answer: WhatBecame::Ended { ending }, .. }) => {
                (replica, ending)
            }
            Event::Answer(Answer { replica, answer: WhatBecame::Unknown, .. }) => {
                self.faulty.insert(*replica);
                return;
            }
            Event::Answer(_) | Event::Heartbeat(_) | Event::Started(_) | Event::Executed(_) => return,
        };
        if ending.fault.is_some() {
            self.faulty.insert(*replica);
        }
    }

    /// Devices are given up: what was there has ended by a fault, as far as anybody can tell.
    pub(super) fn devices_lost(&mut self, rows: &Rows, now_ms: u64) {
        for row in &rows.new_devices {
            self.dids.extend(self.names.get(&row.name).map(|&host| (row.did, host)));
        }
        let is_lost = |row: &&DeviceStateRow| row.state == DeviceState::Lost;
        for row in rows.new_device_states.iter().chain(&rows.device_states).filter(is_lost) {
            if let Some(&host) = self.dids.get(&row.did) {
                self.hosts[host].lost_ms = Some(now_ms);
            }
        }
    }

    /// Its worker, which was there all the time, stopped it, and nothing else did.
    fn went_as_told(&self, run: &Run) -> bool {
        let of = &self.hosts[run.host];
        run.end.is_some_and(|end| {
            end.how == How::Signalled
                && !run.may_be_fenced
                && !of.was_absent(run.started_ms, end.ms)
                && !of.had_gap(run.started_ms, end.ms)
        })
    }

    /// At rest: whoever went for others was started again, and whether that has run.
    pub(super) fn started_again(&mut self, row: &JobRow, asked: &Asked) {
        let Some(&last) = asked.preempted.last() else { return };
        let later = |run: u32| self.runs.keys().any(|of| of.job == row.id && of.attempt > run);
        self.tally.ran_again += asked.preempted.iter().filter(|attempt| later(**attempt)).count() as u64;
        // What it comes after may have been retried, and have failed.
        let given_up = match row.life.outcome {
            Some(Outcome::Killed) | None => true,
            Some(Outcome::Error) => !row.spec.after.is_empty(),
            Some(Outcome::Succeeded | Outcome::Failed | Outcome::TimedOut) => false,
        };
        if row.life.attempt <= last && !given_up {
            let text = format!("{} was preempted and never started again: {:?}", row.id, row.life);
            self.find(Kind::Lost, text);
        }
    }
}

fn stop_of(order: &Order, job: JobId) -> Option<&Stop> {
    match order {
        Order::Stop(stop) if stop.replica.job == job => Some(stop),
        Order::Stop(_)
        | Order::Start(_)
        | Order::Welcome(_)
        | Order::Ask(_)
        | Order::Exec(_)
        | Order::Limit(_) => None,
    }
}

/// By itself or by Docker's doing, before anybody asked it to end.
fn has_failed(run: &Run) -> bool {
    run.end.is_some_and(|end| {
        let before = run.signalled_ms.is_none_or(|signalled_ms| signalled_ms >= end.ms);
        end.code != 0 && end.how != How::Signalled && before
    })
}
