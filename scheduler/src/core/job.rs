//! The life of a job: every status, every event, every transition, in this one file.
//!
//! [`Life::after`] is the whole state machine: one `match` on (status, event); whatever stands not
//! in it is a [`Refusal`]. Nobody else changes a status. What the devices did is told to it as
//! [`Event::Over`], when the last container of an attempt is *known* to be gone.

use std::time::Duration;

use berth_common::id::JobId;
use berth_common::job::{Outcome, Status, StopReason};
use berth_common::message::{Ending, FaultKind};
use berth_common::time::plus_ms;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::rows::Life;

/// Endings that were not the user's doing, after which the job is given up.
pub const MAX_FAULTS: u32 = 5;
/// The longest pause between two attempts.
pub const MAX_BACKOFF: Duration = Duration::from_secs(3600);

/// What can happen to a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// By its owner or an operator.
    Kill {
        grace_ms: i64,
    },
    Hold {
        grace_ms: i64,
    },
    Release,
    /// By an admin, or because quota was freed.
    Approve {
        /// Whether it waits for a release then.
        held: bool,
    },
    /// A job that it comes after cannot succeed any more.
    DependencyFailed {
        text: String,
    },
    Retry {
        /// Whether it may be placed, or waits for an approval like a new one.
        approved: bool,
        /// Not before this time, where that is asked for anew.
        not_before: Option<Timestamp>,
    },
    /// GPUs were reserved and start messages written.
    Place {
        /// The attempt's number is larger than this: see [`Snapshot::attempt_floor`].
        ///
        /// [`Snapshot::attempt_floor`]: super::rows::Snapshot::attempt_floor
        floor: u32,
    },
    /// Every replica's container runs.
    Started {
        at: Timestamp,
    },
    /// It has run for longer than its limit.
    TimeLimit {
        grace_ms: i64,
    },
    /// Another replica of it ended otherwise than with 0.
    SiblingEnded {
        grace_ms: i64,
    },
    /// Its GPUs are needed for a job within its quota.
    Preempt {
        grace_ms: i64,
    },
    /// Its device is to be emptied.
    Drain {
        grace_ms: i64,
    },
    /// The last container of the attempt is known to be gone.
    Over {
        ends: Vec<End>,
        budget: Budget,
    },
}

/// How one replica ended, as far as the job is concerned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum End {
    /// Its start never reached the device.
    NeverTaken,
    Ended(Ending),
    /// Nobody knows, and nobody will: its device was lost, its container vanished.
    Lost {
        text: String,
    },
}

/// What the job's specification grants after an ending of its own doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    pub id: JobId,
    pub retries: u32,
    pub backoff_s: u64,
}

/// An event that makes no sense in a status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the job is {status}{}: {what}", if *held { " (held)" } else { "" })]
pub struct Refusal {
    pub status: Status,
    pub held: bool,
    pub what: &'static str,
}

impl Life {
    /// A job that was just submitted. Whether it is held counts once it is approved.
    #[must_use]
    pub fn submitted(now: Timestamp, approved: bool, held: bool, not_before: Option<Timestamp>) -> Self {
        Self {
            status: if approved { Status::Pending } else { Status::Unapproved },
            outcome: None,
            held: approved && held,
            stopping: None,
            grace_ms: None,
            attempt: 0,
            failures: 0,
            faults: 0,
            not_before,
            exit_code: None,
            error: None,
            submitted_at: now,
            scheduled_at: None,
            started_at: None,
            exited_at: None,
        }
    }

    /// What the job is after `event`.
    ///
    /// # Errors
    /// [`Refusal`] when the event makes no sense in this status; nothing is changed then.
    pub fn after(&self, event: &Event, now: Timestamp) -> Result<Self, Refusal> {
        use Status::{Exited, Pending, Running, Scheduled, Unapproved};
        match (self.status, event) {
            (Unapproved | Pending, Event::Kill { .. }) => Ok(self.exited(Outcome::Killed, now)),
            (Scheduled | Running, Event::Kill { grace_ms }) => Ok(self.stopping(StopReason::Kill, *grace_ms)),
            (Exited, Event::Kill { .. }) => Err(self.refuse("there is nothing to kill any more")),

            (Pending, Event::Hold { .. }) if self.held => Err(self.refuse("it is held already")),
            (Pending, Event::Hold { .. }) => Ok(Self { held: true, ..self.clone() }),
            (Scheduled | Running, Event::Hold { .. }) if self.stopping > Some(StopReason::Hold) => {
                Err(self.refuse("it is being stopped for good"))
            }
            (Scheduled | Running, Event::Hold { grace_ms }) => Ok(self.stopping(StopReason::Hold, *grace_ms)),
            (Unapproved | Exited, Event::Hold { .. }) => {
                Err(self.refuse("only what waits or runs can be held"))
            }

            (Pending, Event::Release) if self.held => Ok(Self { held: false, ..self.clone() }),
            (Unapproved | Pending | Scheduled | Running | Exited, Event::Release) => {
                Err(self.refuse("only a held job can be released"))
            }

            (Unapproved, Event::Approve { held }) => {
                Ok(Self { status: Pending, held: *held, ..self.clone() })
            }
            (Pending | Scheduled | Running | Exited, Event::Approve { .. }) => {
                Err(self.refuse("only a job that waits for an approval can be approved"))
            }

            (Unapproved | Pending, Event::DependencyFailed { text }) => {
                Ok(Self { error: Some(text.clone()), ..self.exited(Outcome::Error, now) })
            }
            (Scheduled | Running | Exited, Event::DependencyFailed { .. }) => {
                Err(self.refuse("it does not wait for another job any more"))
            }

            (Exited, Event::Retry { approved, not_before }) => Ok(self.retried(*approved, *not_before)),
            (Unapproved | Pending | Scheduled | Running, Event::Retry { .. }) => {
                Err(self.refuse("only a job that has exited can be retried"))
            }

            (Pending, Event::Place { floor }) if !self.held => Ok(self.placed(*floor, now)),
            (Unapproved | Pending | Scheduled | Running | Exited, Event::Place { .. }) => {
                Err(self.refuse("only a waiting job can be placed"))
            }

            (Scheduled, Event::Started { at }) => {
                Ok(Self { status: Running, started_at: Some(*at), ..self.clone() })
            }
            (Unapproved | Pending | Running | Exited, Event::Started { .. }) => {
                Err(self.refuse("only a scheduled job can start"))
            }

            // Of a gang, one replica may have run for its limit before the last one has started.
            (Scheduled | Running, Event::TimeLimit { grace_ms }) => {
                Ok(self.stopping(StopReason::Timeout, *grace_ms))
            }
            (Scheduled | Running, Event::SiblingEnded { grace_ms }) => {
                Ok(self.stopping(StopReason::Sibling, *grace_ms))
            }
            (Scheduled | Running, Event::Preempt { grace_ms }) => {
                Ok(self.stopping(StopReason::Preempt, *grace_ms))
            }
            (Scheduled | Running, Event::Drain { grace_ms }) => {
                Ok(self.stopping(StopReason::Drain, *grace_ms))
            }
            (
                Unapproved | Pending | Exited,
                Event::TimeLimit { .. }
                | Event::SiblingEnded { .. }
                | Event::Preempt { .. }
                | Event::Drain { .. },
            ) => Err(self.refuse("it has no container that could be stopped")),

            (Scheduled | Running, Event::Over { ends, budget }) => Ok(self.over(ends, *budget, now)),
            (Unapproved | Pending | Exited, Event::Over { .. }) => {
                Err(self.refuse("it has no container that could be gone"))
            }
        }
    }

    fn refuse(&self, what: &'static str) -> Refusal {
        Refusal { status: self.status, held: self.held, what }
    }

    /// A stronger reason replaces a weaker one, and a shorter grace a longer one of the same reason;
    /// anything else changes nothing.
    fn stopping(&self, reason: StopReason, grace_ms: i64) -> Self {
        let shorter = self.stopping == Some(reason) && self.grace_ms > Some(grace_ms);
        if self.stopping >= Some(reason) && !shorter {
            return self.clone();
        }
        Self { stopping: Some(reason), grace_ms: Some(grace_ms), ..self.clone() }
    }

    fn placed(&self, floor: u32, now: Timestamp) -> Self {
        Self {
            status: Status::Scheduled,
            attempt: self.attempt.max(floor) + 1,
            not_before: None,
            exit_code: None,
            error: None,
            scheduled_at: Some(now),
            started_at: None,
            ..self.clone()
        }
    }

    fn exited(&self, outcome: Outcome, now: Timestamp) -> Self {
        Self {
            status: Status::Exited,
            outcome: Some(outcome),
            held: false,
            stopping: None,
            grace_ms: None,
            not_before: None,
            exited_at: Some(now),
            ..self.clone()
        }
    }

    /// Waiting again, not before `not_before`; held, if that is why it was being stopped.
    fn waiting(&self, not_before: Option<Timestamp>) -> Self {
        Self {
            status: Status::Pending,
            outcome: None,
            held: self.stopping == Some(StopReason::Hold),
            stopping: None,
            grace_ms: None,
            not_before,
            scheduled_at: None,
            started_at: None,
            exited_at: None,
            ..self.clone()
        }
    }

    /// The budgets start anew; attempts go on counting.
    fn retried(&self, approved: bool, not_before: Option<Timestamp>) -> Self {
        let status = if approved { Status::Pending } else { Status::Unapproved };
        Self { status, failures: 0, faults: 0, exit_code: None, error: None, ..self.waiting(not_before) }
    }

    fn over(&self, ends: &[End], budget: Budget, now: Timestamp) -> Self {
        let told = Self { exit_code: exit_code(ends), error: None, ..self.clone() };
        match judge(self.stopping, ends) {
            Judgement::Stopped(StopReason::Kill) => told.exited(Outcome::Killed, now),
            Judgement::Stopped(StopReason::Timeout) => Self {
                error: Some("it ran longer than its time limit".into()),
                ..told.exited(Outcome::TimedOut, now)
            },
            Judgement::Stopped(
                StopReason::Hold | StopReason::Preempt | StopReason::Drain | StopReason::Sibling,
            )
            | Judgement::NotCharged => told.waiting(None),
            Judgement::Succeeded => told.exited(Outcome::Succeeded, now),
            Judgement::NeverStarts(text) => Self { error: Some(text), ..told.exited(Outcome::Error, now) },
            Judgement::Fault(text) => {
                let faults = self.faults + 1;
                let told = Self { faults, error: Some(text), ..told };
                if faults > MAX_FAULTS {
                    return told.exited(Outcome::Error, now);
                }
                told.waiting(Some(plus_ms(now, 1000 << (faults - 1))))
            }
            Judgement::UserFailure(text) => {
                let failures = self.failures + 1;
                let told = Self { failures, error: Some(text), ..told };
                if failures > budget.retries {
                    return told.exited(Outcome::Failed, now);
                }
                told.waiting(Some(plus_ms(now, backoff_ms(budget, failures, self.attempt))))
            }
        }
    }
}

/// What the endings of an attempt mean; the first rule that fits decides.
#[derive(Debug, PartialEq)]
enum Judgement {
    Stopped(StopReason),
    NeverStarts(String),
    Succeeded,
    Fault(String),
    UserFailure(String),
    /// Nobody's doing: it waits again as if it had not been placed.
    NotCharged,
}

fn judge(stopping: Option<StopReason>, ends: &[End]) -> Judgement {
    if stopping == Some(StopReason::Kill) {
        return Judgement::Stopped(StopReason::Kill);
    }
    // A container that we signalled says nothing about the user; what ended before is its own.
    let own: Vec<&Ending> = ends
        .iter()
        .filter_map(|end| match end {
            End::Ended(ending) if !ending.signalled => Some(ending),
            End::Ended(_) | End::NeverTaken | End::Lost { .. } => None,
        })
        .collect();
    if let (Some(reason), []) = (stopping.filter(|reason| *reason != StopReason::Sibling), own.as_slice()) {
        return Judgement::Stopped(reason);
    }
    let faults = || own.iter().filter_map(|ending| ending.fault.as_ref());
    if let Some(fault) = faults().find(|fault| fault.kind == FaultKind::NeverStarts) {
        return Judgement::NeverStarts(fault.text.clone());
    }
    if own.len() == ends.len() && own.iter().all(|e| e.fault.is_none() && e.exit_code == Some(0)) {
        return Judgement::Succeeded;
    }
    let lost = ends.iter().find_map(|end| match end {
        End::Lost { text } => Some(text),
        End::Ended(_) | End::NeverTaken => None,
    });
    if let Some(text) = faults().map(|fault| &fault.text).next().or(lost) {
        return Judgement::Fault(text.clone());
    }
    if let Some(failed) = own.iter().find(|ending| ending.exit_code != Some(0)) {
        return Judgement::UserFailure(in_words(failed));
    }
    stopping.map_or(Judgement::NotCharged, Judgement::Stopped)
}

fn in_words(ending: &Ending) -> String {
    match ending.exit_code {
        Some(137) if ending.oom => "out of memory: it needed more than resources.memory_mb".into(),
        Some(code) if ending.oom => format!("exit code {code}; a process of it was killed for memory"),
        Some(code) => format!("exit code {code}"),
        None => "it ended without an exit code".into(),
    }
}

/// The first code that is not 0, rather of a replica that we did not stop; else 0 where somebody told one.
fn exit_code(ends: &[End]) -> Option<i64> {
    let codes = ends.iter().filter_map(|end| match end {
        End::Ended(ending) => ending.exit_code.map(|code| (code == 0, ending.signalled, code)),
        End::NeverTaken | End::Lost { .. } => None,
    });
    codes.min_by_key(|(zero, signalled, _)| (*zero, *signalled)).map(|(_, _, code)| code)
}

/// `backoff_s`·2^(n−1), an hour at most, and up to a tenth more that follows from job and attempt,
/// so that a thousand jobs that failed together do not come back together.
fn backoff_ms(budget: Budget, failures: u32, attempt: u32) -> i64 {
    let doublings = failures.saturating_sub(1).min(20);
    let seconds = (budget.backoff_s << doublings).min(MAX_BACKOFF.as_secs());
    let base_ms = i64::try_from(seconds * 1000).unwrap_or(i64::MAX);
    let draw = (budget.id.as_u128() ^ (u128::from(attempt) << 7)) % 101;
    base_ms + base_ms / 1000 * i64::try_from(draw).unwrap_or(0)
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
