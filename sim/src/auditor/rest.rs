//! What must be true when the trouble is over and everything has come to rest.

use berth_common::command::CommandStatus;
use berth_common::job::{Outcome, Status};
use berth_common::message::Reply;
use berth_scheduler::core::rows::JobRow;
use serde_json::Value;

use super::{Asked, Auditor, How, Kind, Run};
use crate::database::Tables;
use crate::docker::{MISSING, of_attempt};

/// Faults after which a job is given up.
const MAX_FAULTS: u32 = 5;

impl Auditor {
    /// Whether nothing is left to be waited for, as a user of the installation sees it.
    pub fn is_at_rest(&self, tables: &Tables, containers: usize) -> bool {
        self.live.is_empty()
            && containers == 0
            && tables.jobs.values().all(|job| job.life.status == Status::Exited)
            && tables.outbox.is_empty()
            && tables.reservations.is_empty()
            && tables.commands.values().all(|command| command.status != CommandStatus::Pending)
    }

    /// The last look. `containers`: names of what any Docker still has; `open`: requests without an
    /// answer; `calm`: whether nothing ever went wrong in this world.
    pub fn look_back(&mut self, tables: &Tables, containers: &[String], open: u64, calm: bool) {
        for row in tables.jobs.values().filter(|job| job.life.status != Status::Exited) {
            self.find(Kind::Lost, format!("{} never ends: {:?}", row.id, row.life));
        }
        for name in containers {
            self.find(Kind::Leaked, format!("the container {name} stays"));
        }
        for row in tables.reservations.values() {
            self.find(Kind::Leaked, format!("a reservation stays: {row:?}"));
        }
        for row in tables.outbox.values() {
            self.find(Kind::Leaked, format!("a message stays in the outbox: {row:?}"));
        }
        for command in tables.commands.values().filter(|c| c.status == CommandStatus::Pending) {
            self.find(Kind::Forgotten, format!("a command never ends: {command:?}"));
        }
        if open > 0 {
            self.find(Kind::Forgotten, format!("{open} requests were never answered"));
        }
        let jobs = std::mem::take(&mut self.jobs);
        for (id, asked) in &jobs {
            match (tables.jobs.get(id), asked.answered) {
                (None, Some(200..=299)) => {
                    self.find(Kind::Lost, format!("{id} was answered and is not there"));
                }
                (Some(_), Some(400..=499)) if !self.may_be_taken_late(asked) => {
                    self.wrong(format!("{id} was refused and is there"));
                }
                (Some(row), _) if row.life.status == Status::Exited => self.look_at(row, asked, calm),
                (Some(_) | None, _) => {}
            }
        }
        self.jobs = jobs;
    }

    /// A refusal is not remembered: a late copy is taken where the quota, or a device, is larger by then.
    fn may_be_taken_late(&self, asked: &Asked) -> bool {
        let are_more = self.inventories > asked.inventories;
        self.queues.was_changed(&asked.wants.queue) || (asked.is_too_large && are_more)
    }

    fn look_at(&mut self, row: &JobRow, asked: &Asked, calm: bool) {
        let Some(outcome) = row.life.outcome else { return };
        if asked.killed && outcome != Outcome::Killed {
            self.find(Kind::Forgotten, format!("{} was killed and is {outcome}", row.id));
        }
        self.started_again(row, asked);
        if let Some(text) = self.contradicts(row, outcome, asked) {
            self.wrong(format!("{} is {outcome}: {text}; {:?}", row.id, row.life));
        }
        if calm && asked.commands.is_empty() {
            let Some(expected) = expected(row, &asked.preempted) else { return };
            if (outcome, row.life.attempt) != expected {
                let text = format!("{} is {outcome} after {} attempts", row.id, row.life.attempt);
                self.wrong(format!("{text}; nothing went wrong, and {expected:?} was due"));
            }
        }
    }

    /// Whether the outcome is not what the containers did.
    fn contradicts(&self, row: &JobRow, outcome: Outcome, asked: &Asked) -> Option<String> {
        let of =
            |attempt: u32| self.runs.iter().filter(move |(r, _)| r.job == row.id && r.attempt == attempt);
        let last = of(row.life.attempt).map(|(_, run)| run);
        let of_all = |row: &JobRow| {
            let job = row.id;
            self.runs.iter().filter(move |(replica, _)| replica.job == job).map(|(_, run)| run)
        };
        let failed = |run: &Run| run.end.is_some_and(|end| end.how == How::ByItself && end.code != 0);
        match outcome {
            Outcome::Succeeded => {
                let runs: Vec<&Run> = last.collect();
                let well = |run: &&Run| ended_well(run) || (is_zero(run) && !self.seen_by_worker(run));
                let all = runs.len() == row.spec.replicas as usize && runs.iter().all(well);
                (!all).then(|| format!("its containers did this: {runs:?}"))
            }
            Outcome::Failed => {
                let times = (1..=row.life.attempt).filter(|&a| of(a).any(|(_, run)| failed(run))).count();
                let due = row.spec.retries as usize + 1;
                // An end by Docker that no worker saw counts like one of the job's own.
                let unseen = |run: &Run| {
                    run.end.is_some_and(|end| end.how == How::ByDocker) && !self.seen_by_worker(run)
                };
                let times = times + of_all(row).filter(|run| unseen(run)).count();
                (times < due).then(|| format!("it failed {times} times of {due}"))
            }
            Outcome::Killed => {
                let asked = asked.commands.iter().any(|(verb, _)| verb == "kill");
                (!asked).then(|| "nobody asked for it".to_owned())
            }
            Outcome::TimedOut => {
                let set = asked.commands.iter().any(|(verb, _)| verb == "timeout");
                (row.spec.timeout_s.is_none() && !set).then(|| "it has no limit".to_owned())
            }
            Outcome::Error => {
                let could_start = row.spec.image != MISSING && row.spec.after.is_empty();
                (could_start && row.life.faults <= MAX_FAULTS)
                    .then(|| "there were few faults, and it could start".to_owned())
            }
        }
    }
}

/// Whether a refusal names what no device has, or not all together, and nothing else.
pub(super) fn is_too_large(reply: &Reply) -> bool {
    let of_size = |error: &Value| {
        let pointer = error["pointer"].as_str().unwrap_or_default();
        pointer == "/replicas" || pointer.starts_with("/resources")
    };
    let errors = reply.body["errors"].as_array();
    reply.status == 422 && errors.is_some_and(|errors| !errors.is_empty() && errors.iter().all(of_size))
}

/// It ended with 0, and not because somebody asked it to.
fn ended_well(run: &Run) -> bool {
    let before = |ms: u64| run.signalled_ms.is_none_or(|signalled_ms| ms <= signalled_ms);
    run.end.is_some_and(|end| end.code == 0 && end.how == How::ByItself && before(end.ms))
}

fn is_zero(run: &Run) -> bool {
    run.end.is_some_and(|end| end.code == 0 && end.how == How::ByDocker)
}

/// How a job ends to which nothing happens but that some attempts went for others, and after how many; none where
/// that is a matter of milliseconds.
fn expected(row: &JobRow, preempted: &[u32]) -> Option<(Outcome, u32)> {
    if !row.spec.after.is_empty() || row.spec.replicas > 1 {
        return None; // it depends on others
    }
    if row.spec.image == MISSING {
        return Some((Outcome::Error, 1));
    }
    // Which attempt is the first, second … that is left alone.
    let left_alone = (1..).filter(|attempt| !preempted.contains(attempt));
    let word = |place: usize| row.spec.command.get(place).map_or("", String::as_str);
    if let Some(limit_ms) = row.spec.timeout_s.map(|s| i64::try_from(s * 1_000).unwrap_or(i64::MAX)) {
        let first = left_alone.clone().next()?;
        let runs_ms = of_attempt(word(0), first);
        if runs_ms.abs_diff(limit_ms) < 3_000 {
            return None;
        }
        if runs_ms > limit_ms {
            return Some((Outcome::TimedOut, first));
        }
    }
    let mut last = 0;
    for attempt in left_alone.take(row.spec.retries as usize + 1) {
        if of_attempt(word(1), attempt) == 0 {
            return Some((Outcome::Succeeded, attempt));
        }
        last = attempt;
    }
    Some((Outcome::Failed, last))
}
