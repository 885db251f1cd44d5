//! What follows for one attempt from what Docker shows of it, from what is wished, and from the time.
//!
//! What must always hold: what Docker was once asked to start is never started a second time; nothing
//! is begun without a session whose term holds.

use std::time::Duration;

use berth_common::spec::Disconnect;
use jiff::Timestamp;

use super::{AtFence, at_fence};
use crate::docker::{Container, Exit, Stage};

/// Whether an attempt may be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// No leader has spoken to this process yet. What runs goes on.
    NotYet,
    /// It belongs to the present session.
    Granted,
    /// The session is lost: what will run elsewhere is killed.
    Fenced,
}

/// What follows for an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next<'a> {
    /// There is no container yet: get the image, and make one.
    Prepare,
    /// It was made and never started: start it.
    Launch,
    /// It was started once, and runs no more and never did: it is not started again.
    GiveUp,
    /// It runs: stay with it.
    Attend { container: &'a Container, started_at: Option<Timestamp> },
    /// It has ended: tell how.
    Conclude(&'a Exit),
    /// It was started once, and is not there any more.
    Vanished,
    /// Docker is at it: look again.
    Wait,
}

/// `launched`: whether Docker may have been asked to start it; `seen`: what Docker shows now.
#[must_use]
pub const fn next(launched: bool, seen: Option<&Container>) -> Next<'_> {
    let Some(container) = seen else {
        return if launched { Next::Vanished } else { Next::Prepare };
    };
    match &container.stage {
        Stage::Created { .. } if launched => Next::GiveUp,
        Stage::Created { .. } => Next::Launch,
        Stage::Running { started_at } => Next::Attend { container, started_at: *started_at },
        Stage::Exited(exit) => Next::Conclude(exit),
        Stage::Removing => Next::Wait,
    }
}

/// What is known right before a container is made or started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    pub permission: Permission,
    pub stop_asked: bool,
    pub session: Option<i64>,
    /// By the clock, at this moment: a host that slept finds out here.
    pub term_is_over: bool,
}

/// Whether it may be made or started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Go {
    Start,
    /// A stop has arrived.
    Stop,
    /// Not now: the next welcome may grant it.
    Wait,
}

#[must_use]
pub const fn go(before: Before) -> Go {
    if before.stop_asked {
        return Go::Stop;
    }
    match before.permission {
        Permission::Granted if before.session.is_some() && !before.term_is_over => Go::Start,
        Permission::Granted | Permission::NotYet | Permission::Fenced => Go::Wait,
    }
}

/// What is due of a container that runs. `T` is a moment of any clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due<T> {
    Nothing,
    /// Its own stop signal.
    Ask,
    /// It has been asked, and has until then.
    Wait(T),
    Kill,
    /// The session is lost, and its job will run elsewhere.
    Fence,
}

/// What a time limit says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// It may run on; for so long, where there is a limit.
    RunsOn(Option<Duration>),
    /// It is to be stopped.
    Over,
}

/// `ran`: for how long it has run.
#[must_use]
pub fn limited(limit: Option<Duration>, ran: Duration) -> Limited {
    match limit.map(|limit| limit.saturating_sub(ran)) {
        Some(Duration::ZERO) => Limited::Over,
        left @ (Some(_) | None) => Limited::RunsOn(left),
    }
}

/// `stop`: until when it has, where a stop was asked for; `asked`: whether it got its stop signal.
#[must_use]
pub fn due<T: Copy + Ord>(
    permission: Permission,
    disconnect: Disconnect,
    stop: Option<T>,
    asked: bool,
    now: T,
) -> Due<T> {
    let fenced = permission == Permission::Fenced && at_fence(disconnect) == AtFence::Kill;
    match stop {
        _ if fenced => Due::Fence,
        None => Due::Nothing,
        Some(deadline) if now >= deadline => Due::Kill,
        Some(deadline) if asked => Due::Wait(deadline),
        Some(_) => Due::Ask,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn it_is_asked_first_killed_at_the_deadline_and_fenced_at_once() {
        let requeue = |permission, stop, asked| due(permission, Disconnect::Requeue, stop, asked, 100);
        assert_eq!(requeue(Permission::Granted, None, false), Due::Nothing);
        assert_eq!(requeue(Permission::Granted, Some(110), false), Due::Ask);
        assert_eq!(requeue(Permission::Granted, Some(110), true), Due::Wait(110));
        assert_eq!(requeue(Permission::Granted, Some(100), false), Due::Kill);
        assert_eq!(requeue(Permission::NotYet, None, false), Due::Nothing);
        assert_eq!(requeue(Permission::Fenced, None, false), Due::Fence);
        let keep = |stop| due(Permission::Fenced, Disconnect::Keep, stop, false, 100);
        assert_eq!(keep(None), Due::Nothing);
        assert_eq!(keep(Some(100)), Due::Kill);
    }

    #[test]
    fn it_may_run_for_its_limit_and_no_longer() {
        let second = Duration::from_secs;
        assert_eq!(limited(None, second(9)), Limited::RunsOn(None));
        assert_eq!(limited(Some(second(10)), second(9)), Limited::RunsOn(Some(second(1))));
        assert_eq!(limited(Some(second(10)), second(10)), Limited::Over);
        assert_eq!(limited(Some(second(10)), second(11)), Limited::Over);
    }

    #[test]
    fn nothing_is_started_without_a_session_whose_term_holds() {
        let fine = Before {
            permission: Permission::Granted,
            stop_asked: false,
            session: Some(7),
            term_is_over: false,
        };
        assert_eq!(go(fine), Go::Start);
        for not in [
            Before { permission: Permission::NotYet, ..fine },
            Before { permission: Permission::Fenced, ..fine },
            Before { session: None, ..fine },
            Before { term_is_over: true, ..fine },
        ] {
            assert_eq!(go(not), Go::Wait, "{not:?}");
        }
        assert_eq!(go(Before { stop_asked: true, term_is_over: true, ..fine }), Go::Stop);
    }

    #[test]
    fn what_was_launched_is_never_started_again() {
        let in_stage = |stage| Container {
            id: "c".into(),
            stage,
            ports: BTreeMap::new(),
            stop_signal: "SIGTERM".into(),
        };
        let exit = Exit { code: 0, oom: false, started_at: None, finished_at: None };
        let created = in_stage(Stage::Created { exit_code: None });
        let running = in_stage(Stage::Running { started_at: None });
        assert_eq!((next(false, None), next(true, None)), (Next::Prepare, Next::Vanished));
        assert_eq!((next(false, Some(&created)), next(true, Some(&created))), (Next::Launch, Next::GiveUp));
        for launched in [false, true] {
            let attend = Next::Attend { container: &running, started_at: None };
            assert_eq!(next(launched, Some(&running)), attend);
            let exited = in_stage(Stage::Exited(exit.clone()));
            assert_eq!(next(launched, Some(&exited)), Next::Conclude(&exit));
            assert_eq!(next(launched, Some(&in_stage(Stage::Removing))), Next::Wait);
        }
    }
}
