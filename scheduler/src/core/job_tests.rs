//! The table of `job.rs`, row by row.

use berth_common::job::{Outcome, Status, StopReason};
use berth_common::message::{Ending, Fault, FaultKind};
use berth_common::time::{ms_between, plus_ms};
use jiff::Timestamp;
use uuid::Uuid;

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const BUDGET: Budget = Budget { id: Uuid::nil(), retries: 0, backoff_s: 10 };

fn pending() -> Life {
    Life::submitted(NOW, true, false, None)
}

fn running() -> Life {
    let placed = pending().after(&Event::Place { floor: 0 }, NOW).expect("placed");
    placed.after(&Event::Started { at: NOW }, NOW).expect("started")
}

fn ending(code: i64) -> Ending {
    Ending {
        exit_code: Some(code),
        oom: false,
        signalled: false,
        timed_out: false,
        fault: None,
        started_at: None,
        exited_at: NOW,
    }
}

fn over(life: &Life, end: End, budget: Budget) -> Life {
    life.after(&Event::Over { ends: vec![end], budget }, NOW).expect("over")
}

#[test]
fn a_job_is_placed_starts_and_succeeds() {
    let life = running();
    assert_eq!((life.status, life.attempt), (Status::Running, 1));
    let life = over(&life, End::Ended(ending(0)), BUDGET);
    assert_eq!(
        (life.status, life.outcome, life.exit_code),
        (Status::Exited, Some(Outcome::Succeeded), Some(0))
    );
    assert_eq!(life.exited_at, Some(NOW));
}

#[test]
fn an_ending_may_come_before_the_start_was_told() {
    let scheduled = pending().after(&Event::Place { floor: 0 }, NOW).expect("placed");
    assert_eq!(over(&scheduled, End::Ended(ending(0)), BUDGET).outcome, Some(Outcome::Succeeded));
}

#[test]
fn failures_are_retried_with_growing_pauses_and_then_told() {
    let budget = Budget { retries: 2, ..BUDGET };
    let mut life = running();
    for (failures, least_s) in [(1, 10), (2, 20)] {
        life = over(&life, End::Ended(ending(3)), budget);
        assert_eq!((life.status, life.failures), (Status::Pending, failures));
        let pause = ms_between(NOW, life.not_before.expect("a pause"));
        assert!((least_s * 1000..=least_s * 1100).contains(&pause), "{pause} ms");
        life = life.after(&Event::Place { floor: 0 }, NOW).expect("placed again");
    }
    let life = over(&life, End::Ended(ending(3)), budget);
    assert_eq!((life.outcome, life.exit_code, life.attempt), (Some(Outcome::Failed), Some(3), 3));
}

#[test]
fn faults_are_counted_apart_and_end_in_error() {
    let mut life = running();
    for n in 1..=MAX_FAULTS {
        life = over(&life, End::Lost { text: "the device was lost".into() }, BUDGET);
        assert_eq!((life.status, life.faults, life.failures), (Status::Pending, n, 0));
        assert_eq!(life.not_before, Some(plus_ms(NOW, 1000 << (n - 1))));
        life = life.after(&Event::Place { floor: 0 }, NOW).expect("placed again");
    }
    let life = over(&life, End::Lost { text: "again".into() }, BUDGET);
    assert_eq!((life.outcome, life.error.as_deref()), (Some(Outcome::Error), Some("again")));
}

#[test]
fn what_can_never_start_is_an_error_at_once() {
    let fault = Some(Fault { kind: FaultKind::NeverStarts, text: "no such image".into() });
    let life = over(&running(), End::Ended(Ending { exit_code: None, fault, ..ending(0) }), BUDGET);
    assert_eq!((life.outcome, life.error.as_deref()), (Some(Outcome::Error), Some("no such image")));
}

#[test]
fn a_start_that_was_never_taken_charges_nothing() {
    let life = over(&running(), End::NeverTaken, BUDGET);
    assert_eq!((life.status, life.failures, life.faults, life.not_before), (Status::Pending, 0, 0, None));
    assert_eq!(life.attempt, 1, "the next one is 2");
}

#[test]
fn a_kill_wins_against_everything_that_has_not_exited() {
    let kill = Event::Kill { grace_ms: 10 };
    assert_eq!(pending().after(&kill, NOW).expect("killed").outcome, Some(Outcome::Killed));
    let stopping = running().after(&Event::TimeLimit { grace_ms: 5 }, NOW).expect("stopping");
    let stopping = stopping.after(&kill, NOW).expect("stopping harder");
    assert_eq!((stopping.stopping, stopping.grace_ms), (Some(StopReason::Kill), Some(10)));
    for end in [End::Ended(ending(0)), End::NeverTaken, End::Lost { text: "x".into() }] {
        assert_eq!(over(&stopping, end, BUDGET).outcome, Some(Outcome::Killed));
    }
    let exited = over(&stopping, End::Ended(ending(0)), BUDGET);
    assert_eq!(exited.after(&kill, NOW).expect_err("refused").status, Status::Exited);
}

#[test]
fn a_weaker_wish_does_not_replace_a_stronger_one() {
    let killed = running().after(&Event::Kill { grace_ms: 1 }, NOW).expect("stopping");
    let drained = killed.after(&Event::Drain { grace_ms: 9 }, NOW).expect("no refusal");
    assert_eq!((drained.stopping, drained.grace_ms), (Some(StopReason::Kill), Some(1)));
    assert!(
        killed.after(&Event::Hold { grace_ms: 9 }, NOW).is_err(),
        "whoever holds it hears that it is too late"
    );
}

#[test]
fn an_ending_before_our_signal_is_the_jobs_own() {
    let late = running().after(&Event::TimeLimit { grace_ms: 5 }, NOW).expect("stopping");
    assert_eq!(over(&late, End::Ended(ending(0)), BUDGET).outcome, Some(Outcome::Succeeded));
    assert_eq!(over(&late, End::Ended(ending(1)), BUDGET).outcome, Some(Outcome::Failed));
    let signalled = End::Ended(Ending { signalled: true, ..ending(143) });
    assert_eq!(over(&late, signalled, BUDGET).outcome, Some(Outcome::TimedOut));
}

#[test]
fn a_wish_decides_over_a_loss() {
    let lost = || End::Lost { text: "the device was lost".into() };
    let held = running().after(&Event::Hold { grace_ms: 1 }, NOW).expect("stopping");
    let back = over(&held, lost(), BUDGET);
    assert_eq!((back.status, back.held, back.faults), (Status::Pending, true, 0));
    let late = running().after(&Event::TimeLimit { grace_ms: 1 }, NOW).expect("stopping");
    assert_eq!(over(&late, lost(), BUDGET).outcome, Some(Outcome::TimedOut));
    let failed = over(&held, End::Ended(ending(3)), Budget { retries: 1, ..BUDGET });
    assert_eq!((failed.status, failed.held, failed.failures), (Status::Pending, true, 1));
}

#[test]
fn a_held_job_waits_until_it_is_released() {
    let hold = Event::Hold { grace_ms: 1 };
    let held = pending().after(&hold, NOW).expect("held");
    assert!(held.after(&Event::Place { floor: 0 }, NOW).is_err());
    assert!(held.after(&hold, NOW).is_err());
    let released = held.after(&Event::Release, NOW).expect("released");
    assert!(released.after(&Event::Release, NOW).is_err());
    let stopping = running().after(&hold, NOW).expect("stopping");
    let back = over(&stopping, End::Ended(Ending { signalled: true, ..ending(143) }), BUDGET);
    assert_eq!((back.status, back.held), (Status::Pending, true));
}

#[test]
fn a_retry_starts_the_budgets_anew_and_goes_on_counting_attempts() {
    let exited = over(&running(), End::Ended(ending(7)), BUDGET);
    let again = exited.after(&Event::Retry { approved: true, not_before: None }, NOW).expect("retried");
    assert_eq!((again.status, again.outcome, again.failures, again.attempt), (Status::Pending, None, 0, 1));
    assert_eq!((again.exit_code, again.error, again.exited_at), (None, None, None));
    assert!(running().after(&Event::Retry { approved: true, not_before: None }, NOW).is_err());
}

#[test]
fn the_longest_pause_is_an_hour_and_a_tenth() {
    let budget = Budget { backoff_s: 3600, retries: 99, id: Uuid::max() };
    for failures in [1, 2, 30, 99] {
        let pause = backoff_ms(budget, failures, failures);
        assert!((3_600_000..=3_960_000).contains(&pause), "{pause}");
    }
}

#[test]
fn an_unapproved_job_waits_for_its_approval_alone() {
    let waiting = Life::submitted(NOW, false, true, None);
    assert_eq!((waiting.status, waiting.held), (Status::Unapproved, false));
    let place = Event::Place { floor: 0 };
    for event in [
        place,
        Event::Release,
        Event::Hold { grace_ms: 1 },
        Event::Retry { approved: true, not_before: None },
    ] {
        assert!(waiting.after(&event, NOW).is_err(), "{event:?}");
    }
    let approved = waiting.after(&Event::Approve { held: true }, NOW).expect("approved");
    assert_eq!((approved.status, approved.held), (Status::Pending, true));
    assert!(approved.after(&Event::Approve { held: false }, NOW).is_err());
    let killed = waiting.after(&Event::Kill { grace_ms: 1 }, NOW).expect("killed");
    assert_eq!(killed.outcome, Some(Outcome::Killed));
    let again = killed.after(&Event::Retry { approved: false, not_before: None }, NOW).expect("retried");
    assert_eq!(again.status, Status::Unapproved);
}

#[test]
fn what_waits_ends_when_one_that_it_comes_after_cannot_succeed() {
    let failed = Event::DependencyFailed { text: "the first has failed".into() };
    for life in [pending(), Life::submitted(NOW, false, false, None)] {
        let ended = life.after(&failed, NOW).expect("over");
        assert_eq!(
            (ended.outcome, ended.error.as_deref()),
            (Some(Outcome::Error), Some("the first has failed"))
        );
    }
    assert!(running().after(&failed, NOW).is_err());
}

#[test]
fn the_replicas_that_were_stopped_for_another_ones_failure_say_nothing() {
    let sibling = running().after(&Event::SiblingEnded { grace_ms: 1 }, NOW).expect("stopping");
    let stopped = || End::Ended(Ending { signalled: true, ..ending(143) });
    let judged = |first: End, budget| {
        sibling.after(&Event::Over { ends: vec![first, stopped()], budget }, NOW).expect("over")
    };
    let failed = judged(End::Ended(ending(3)), BUDGET);
    assert_eq!((failed.outcome, failed.exit_code), (Some(Outcome::Failed), Some(3)));
    let lost = judged(End::Lost { text: "the device was lost".into() }, BUDGET);
    assert_eq!((lost.status, lost.faults, lost.failures), (Status::Pending, 1, 0));
    let never = judged(End::NeverTaken, BUDGET);
    assert_eq!((never.status, never.faults, never.not_before), (Status::Pending, 0, None));
    let fault = Some(Fault { kind: FaultKind::NeverStarts, text: "no such image".into() });
    let image = judged(End::Ended(Ending { exit_code: None, fault, ..ending(0) }), BUDGET);
    assert_eq!(image.outcome, Some(Outcome::Error));
}

#[test]
fn a_drain_and_a_preemption_put_a_job_back_without_charging_it() {
    for event in [Event::Drain { grace_ms: 5 }, Event::Preempt { grace_ms: 5 }] {
        let stopping = running().after(&event, NOW).expect("stopping");
        let back = over(&stopping, End::Ended(Ending { signalled: true, ..ending(143) }), BUDGET);
        assert_eq!((back.status, back.held, back.faults, back.failures), (Status::Pending, false, 0, 0));
        assert_eq!((back.submitted_at, back.not_before), (NOW, None), "at its old place");
        assert_eq!(over(&stopping, End::Ended(ending(0)), BUDGET).outcome, Some(Outcome::Succeeded));
        assert!(pending().after(&event, NOW).is_err());
    }
}

#[test]
fn attempts_are_numbered_beyond_the_floor() {
    let placed = pending().after(&Event::Place { floor: 1 << 20 }, NOW).expect("placed");
    assert_eq!(placed.attempt, (1 << 20) + 1);
    let back = over(&placed, End::NeverTaken, BUDGET);
    assert_eq!(back.after(&Event::Place { floor: 7 }, NOW).expect("placed").attempt, (1 << 20) + 2);
}
