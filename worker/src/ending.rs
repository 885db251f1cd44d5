//! How a container's end is told: what was its own doing, what was a stop of ours, and what was
//! neither. Pure.

use berth_common::message::{Ending, Fault, FaultKind};
use jiff::{SignedDuration, Timestamp};

use crate::docker::{DockerError, Exit};
use crate::inbox::StopCause;

/// Docker's exit codes for a program that cannot be run, and one that is not there.
const CANNOT_RUN: std::ops::RangeInclusive<i64> = 126..=127;

/// dockerd that ends without live-restore asks its containers to end, and kills them after 15 s
/// (`shutdown-timeout`); its connections break before that, or with it.
const DOCKERD_BEFORE: SignedDuration = SignedDuration::from_secs(5);
const DOCKERD_AFTER: SignedDuration = SignedDuration::from_secs(17);
/// How containers end that a daemon killed, or found dead at its next start.
const FROM_DOCKERD: [i64; 3] = [137, 143, 255];

/// The exit code after SIGKILL.
const KILLED: i64 = 137;

/// What is known of a container that has ended, besides its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lived {
    /// A stop of ours reached it before.
    pub stopped: bool,
    /// It was killed because its job may run elsewhere.
    pub fenced: bool,
    /// When Docker was first missed since it was launched, or last seen to run.
    pub missed_at: Option<Timestamp>,
    /// Whether it survives a restart of Docker, as known while it ran.
    pub live_restore: bool,
    /// The daemon that tells its code saw it end.
    pub seen_to_end: bool,
    /// It ran before this process began, which never saw it run.
    pub unseen: bool,
    pub host_started_at: Option<Timestamp>,
    pub now: Timestamp,
}

/// Why the end is not the job's own doing, if so.
#[must_use]
pub fn not_its_doing(exit: &Exit, lived: &Lived) -> Option<Fault> {
    // A note from before a restart alone does not say that the signal reached it.
    if lived.fenced && exit.code == KILLED {
        return Some(fenced());
    }
    if lived.stopped || exit.oom {
        return None;
    }
    // Its code says nothing then: asked to end, many programs end with 0.
    if lived.missed_at.is_some_and(|at| taken_down(exit, at, lived.live_restore)) {
        return Some(fault(FaultKind::Transient, "Docker was stopped while it ran"));
    }
    if !lived.seen_to_end && lived.missed_at.is_some_and(|at| code_is_lost(exit, at, lived.now)) {
        return Some(fault(
            FaultKind::Transient,
            "it ended while Docker was away, and its exit code is lost",
        ));
    }
    let restarted = lived.host_started_at.zip(exit.started_at).is_some_and(|(host, it)| it < host);
    (exit.code != 0 && lived.unseen && restarted)
        .then(|| fault(FaultKind::Transient, "the host was restarted while it ran"))
}

/// Whether Docker took it down: it ended while the daemon did, as whose end counts the moment at
/// which it was first missed (`missed_at`). With live-restore it goes on without the daemon, and ends
/// with any code by itself; but the next daemon may have been started without, or have lost the code.
fn taken_down(exit: &Exit, missed_at: Timestamp, live_restore: bool) -> bool {
    let from_dockerd = FROM_DOCKERD.contains(&exit.code);
    let Some(after) = exit.finished_at.map(|finished| finished.duration_since(missed_at)) else {
        return from_dockerd;
    };
    after >= -DOCKERD_BEFORE && (from_dockerd || (after <= DOCKERD_AFTER && !live_restore))
}

/// A dockerd that finds a container ended, and nobody who knows its code, says 0, at the time of its own start; it
/// answers within so long of that, and is asked again within as long.
const CODE_LOST_WITHIN: SignedDuration = SignedDuration::from_secs(15);

/// Whether the code that Docker tells `now` may be none: it is 0, and the end was found when the daemon came back.
/// One that truly succeeded in that moment runs once more; one that failed is not taken for a success.
fn code_is_lost(exit: &Exit, missed_at: Timestamp, now: Timestamp) -> bool {
    let found = |at: Timestamp| at >= missed_at && now.duration_since(at) <= CODE_LOST_WITHIN;
    exit.code == 0 && exit.finished_at.is_none_or(found)
}

/// It ran and ended; `stopped`: whose stop reached it before.
#[must_use]
pub fn exited(exit: &Exit, stopped: Option<StopCause>, fault: Option<Fault>, now: Timestamp) -> Ending {
    // Docker notes the start of a quick container after its end.
    let finished_at = exit.finished_at.unwrap_or(now).max(exit.started_at.unwrap_or(Timestamp::MIN));
    Ending {
        exit_code: Some(exit.code),
        oom: exit.oom,
        signalled: stopped.is_some(),
        timed_out: stopped == Some(StopCause::TimeLimit),
        fault,
        started_at: exit.started_at,
        exited_at: finished_at,
    }
}

/// A stop arrived before it ran.
#[must_use]
pub fn stopped_before_start(now: Timestamp) -> Ending {
    Ending { signalled: true, ..nothing_ran(now, None) }
}

/// It could not be started.
#[must_use]
pub fn could_not_start(fault: Fault, now: Timestamp) -> Ending {
    nothing_ran(now, Some(fault))
}

/// It was started once, and Docker does not know it any more.
#[must_use]
pub fn vanished(signalled: bool, now: Timestamp) -> Ending {
    let fault = fault(FaultKind::Unknown, "its container vanished: somebody removed it, or Docker lost it");
    Ending { signalled, ..nothing_ran(now, Some(fault)) }
}

fn nothing_ran(now: Timestamp, fault: Option<Fault>) -> Ending {
    Ending {
        exit_code: None,
        oom: false,
        signalled: false,
        timed_out: false,
        fault,
        started_at: None,
        exited_at: now,
    }
}

/// It was killed because its job may run elsewhere.
#[must_use]
pub fn fenced() -> Fault {
    let text =
        "killed because this device had lost the broker, or its worker, and its jobs may run elsewhere";
    fault(FaultKind::Transient, text)
}

#[must_use]
pub fn fault(kind: FaultKind, text: impl Into<String>) -> Fault {
    Fault { kind, text: text.into() }
}

/// What it means that Docker would not pull the image, or make the container.
#[must_use]
pub fn refused(error: &DockerError) -> Fault {
    let kind = match error {
        DockerError::NotFound(_) | DockerError::Invalid(_) => FaultKind::NeverStarts,
        DockerError::Away(_) | DockerError::Conflict(_) | DockerError::Failed(_) => FaultKind::Transient,
    };
    fault(kind, error.to_string())
}

/// What it means that Docker would not start it; `code` is what the container shows afterwards.
#[must_use]
pub fn refused_start(error: &DockerError, code: Option<i64>) -> Fault {
    match code {
        Some(code) if CANNOT_RUN.contains(&code) => fault(FaultKind::NeverStarts, error.to_string()),
        // Somebody has removed it since it was made, like the guard: made anew, it may start.
        Some(_) | None if matches!(error, DockerError::NotFound(_)) => {
            fault(FaultKind::Transient, error.to_string())
        }
        Some(_) | None => refused(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_refuses_for_good_is_not_tried_again() {
        let kind = |error: DockerError| refused(&error).kind;
        assert_eq!(kind(DockerError::NotFound("no such image".into())), FaultKind::NeverStarts);
        assert_eq!(kind(DockerError::Invalid("invalid reference".into())), FaultKind::NeverStarts);
        assert_eq!(kind(DockerError::Failed("no space left".into())), FaultKind::Transient);
        assert_eq!(kind(DockerError::Away("closed".into())), FaultKind::Transient);
        let start = DockerError::Failed("exec: \"nope\": executable file not found".into());
        assert_eq!(refused_start(&start, Some(127)).kind, FaultKind::NeverStarts);
        assert_eq!(refused_start(&start, Some(128)).kind, FaultKind::Transient);
        let removed = DockerError::NotFound("no such container".into());
        assert_eq!(refused_start(&removed, None).kind, FaultKind::Transient);
    }

    #[test]
    fn a_success_that_a_daemon_finds_when_it_comes_back_may_be_none() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let is_lost = |code, finished_at: Option<i64>| {
            let exit = Exit { code, oom: false, started_at: None, finished_at: finished_at.map(at) };
            code_is_lost(&exit, at(1000), at(1060))
        };
        assert!(is_lost(0, Some(1055)) && is_lost(0, None));
        assert!(!is_lost(0, Some(1020)), "somebody noted that end when it happened");
        assert!(!is_lost(0, Some(999)), "before the daemon went");
        assert!(!is_lost(1, Some(1055)) && !is_lost(1, None));
    }

    #[test]
    fn what_ends_with_the_daemon_was_taken_down_by_it_whatever_its_code() {
        let missed_at = Timestamp::from_second(1000).expect("a time");
        let ended = |code, second| {
            let finished_at = Some(Timestamp::from_second(second).expect("a time"));
            let exit = Exit { code, oom: false, started_at: None, finished_at };
            [false, true].map(|live_restore| taken_down(&exit, missed_at, live_restore))
        };
        for code in [0, 1] {
            for second in [998, 1000, 1015] {
                assert_eq!(ended(code, second), [true, false], "with live-restore by itself: {code}");
            }
        }
        for code in [0, 1, 137] {
            assert_eq!(ended(code, 990), [false, false], "it had ended before: {code}");
        }
        // Long after: by itself, or killed by the daemon's next start, which may not have live-restore.
        assert_eq!([ended(0, 1060), ended(1, 1060)], [[false, false]; 2]);
        assert_eq!([ended(137, 1000), ended(143, 1060), ended(255, 1060)], [[true, true]; 3]);
    }
}
