//! What the worker decides, as pure functions: which messages it takes, what a welcome, a lost
//! session or a listing of Docker means for the containers that it has, what follows for each of them
//! ([`next`], [`go`], [`due`]), how long a session may count ([`Term`]), and what the guard does when the
//! worker does not. No I/O, no clock.
//!
//! What must always hold: a message is taken once and in the session it belongs to; nothing is
//! started but by a message of the present session; a container is stopped only when the
//! installation that it belongs to, or the fence, says so.

mod exec;
mod guard;
mod steps;
mod term;

use std::collections::BTreeSet;

use berth_common::id::Replica;
use berth_common::message::{HeldState, Order, ToDevice, Welcome, WhatBecame};
use berth_common::spec::Disconnect;
use uuid::Uuid;

pub use self::exec::{AtExec, at_exec, left_over};
pub use self::guard::{Guarding, guard_leaves, guarding};
pub use self::steps::{Before, Due, Go, Limited, Next, Permission, due, go, limited, next};
pub use self::term::{REFUSED_FOR, Refusal, Term, refusal};
use crate::inbox::{Phase, Taken};

/// How far the worker is in its exchange with the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    /// This process of the worker, since its start or its last fence.
    pub boot: Uuid,
    /// The installation that it obeys; none before its first welcome.
    pub instance: Option<Uuid>,
    /// The present session; none before this process's first welcome, and when fenced.
    pub session: Option<i64>,
    /// The largest session ever welcomed.
    pub greatest: i64,
    /// The largest id taken in that session.
    pub last: i64,
}

impl Numbers {
    /// A welcome that was judged and written down counts from now on. False: the session was ended
    /// meanwhile, so it is for a boot that is over, and as good as dropped.
    pub fn welcome(&mut self, session: i64, id: i64, welcome: &Welcome) -> bool {
        let ours = self.boot == welcome.boot;
        if ours {
            self.instance = Some(welcome.instance);
            (self.session, self.greatest, self.last) = (Some(session), session, id);
        }
        ours
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Take,
    Drop(Dropped),
}

/// Why a message is not taken. It is acknowledged all the same: it will never be wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    #[error("a welcome for another process of this worker")]
    OtherBoot,
    #[error("a welcome into a session that is not newer")]
    OldWelcome,
    #[error("a welcome from another installation ({0})")]
    OtherInstance(Uuid),
    #[error("not of this session")]
    OtherSession,
    #[error("taken before")]
    Repeated,
}

/// Whether a message from the leader is taken.
#[must_use]
pub fn judge(numbers: &Numbers, message: &ToDevice) -> Verdict {
    let dropped = match &message.order {
        Order::Welcome(welcome) => {
            if welcome.boot != numbers.boot {
                Some(Dropped::OtherBoot)
            } else if numbers.instance.is_some_and(|ours| ours != welcome.instance) {
                Some(Dropped::OtherInstance(welcome.instance))
            } else {
                (message.session <= numbers.greatest).then_some(Dropped::OldWelcome)
            }
        }
        Order::Start(_) | Order::Stop(_) | Order::Ask(_) | Order::Exec(_) | Order::Limit(_) => {
            if numbers.session != Some(message.session) {
                Some(Dropped::OtherSession)
            } else {
                (message.id <= numbers.last).then_some(Dropped::Repeated)
            }
        }
    };
    dropped.map_or(Verdict::Take, Verdict::Drop)
}

/// What a welcome asks of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtWelcome {
    /// The leader still wants it: what was taken may go on.
    GoOn(Replica),
    /// The leader does not know it: stop it and report its end.
    Stop(Replica),
    /// The leader believes it here, and it is not: say what became of it.
    Answer(Replica),
}

/// Compares what the leader believes to be here with what is (`held`: taken, end not reported).
#[must_use]
pub fn at_welcome(held: &BTreeSet<Replica>, expected: &[Replica]) -> Vec<AtWelcome> {
    let expected: BTreeSet<Replica> = expected.iter().copied().collect();
    let of_held = held.iter().map(|&replica| match expected.contains(&replica) {
        true => AtWelcome::GoOn(replica),
        false => AtWelcome::Stop(replica),
    });
    let missing = expected.difference(held).map(|&replica| AtWelcome::Answer(replica));
    of_held.chain(missing).collect()
}

/// What becomes of a container when the worker has lost its session because the broker is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtFence {
    /// Kill it: the leader will place its job elsewhere.
    Kill,
    /// Leave it running: its job waits for this device.
    Keep,
}

#[must_use]
pub fn at_fence(disconnect: Disconnect) -> AtFence {
    match disconnect {
        Disconnect::Requeue => AtFence::Kill,
        Disconnect::Keep => AtFence::Keep,
    }
}

/// What the worker can tell about an attempt without asking Docker.
#[derive(Debug, Clone, PartialEq)]
pub enum Recollection {
    Answer(WhatBecame),
    /// Never taken, as far as the inbox goes. Only when Docker has no container of that name
    /// either, [`WhatBecame::NeverTaken`] is the truth.
    LookFor,
}

/// `held`: its state while its end is not reported; `row`: what the inbox says.
#[must_use]
pub fn recollect(held: Option<HeldState>, row: Option<&Taken>) -> Recollection {
    match (row.map(|row| &row.phase), held) {
        (Some(Phase::Ended { ending, .. }), _) => {
            Recollection::Answer(WhatBecame::Ended { ending: ending.clone() })
        }
        (_, Some(state)) => Recollection::Answer(WhatBecame::Live { state }),
        (Some(Phase::Live { .. }), None) => Recollection::Answer(WhatBecame::Unknown),
        (None, None) => Recollection::LookFor,
    }
}

/// What to do about a container of ours that no task of this process looks after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unattended {
    /// Its end has been reported: it is only in the way.
    Remove,
    /// The inbox does not know it, and the installation that it belongs to has welcomed us
    /// without it: nobody will ever ask for it.
    StopAndRemove,
    /// Nothing is decided before the leader has spoken.
    Leave,
}

#[must_use]
pub fn unattended(row: Option<&Taken>, session: Option<i64>) -> Unattended {
    match (row.map(|row| &row.phase), session) {
        (Some(Phase::Ended { reported: true, .. }), _) => Unattended::Remove,
        (Some(Phase::Ended { reported: false, .. } | Phase::Live { .. }), _) => Unattended::Leave,
        (None, Some(_)) => Unattended::StopAndRemove,
        (None, None) => Unattended::Leave,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_common::job::StopReason;
    use berth_common::message::{Ending, Stop};
    use jiff::Timestamp;

    const OURS: Uuid = Uuid::from_u128(1);
    const BOOT: Uuid = Uuid::from_u128(2);

    fn replica(attempt: u32) -> Replica {
        Replica { job: Uuid::from_u128(9), attempt, replica: 0 }
    }

    fn numbers(session: Option<i64>) -> Numbers {
        Numbers { boot: BOOT, instance: Some(OURS), session, greatest: 7, last: 100 }
    }

    fn stop(session: i64, id: i64) -> ToDevice {
        let stop = Stop { replica: replica(1), reason: StopReason::Kill, grace_ms: 0 };
        ToDevice { session, id, order: Order::Stop(stop) }
    }

    fn welcome(session: i64, boot: Uuid, instance: Uuid) -> ToDevice {
        let welcome = Welcome { boot, instance, expected: Vec::new(), fence_after_s: 240 };
        ToDevice { session, id: 50, order: Order::Welcome(welcome) }
    }

    #[test]
    fn a_message_is_taken_once_and_in_its_session() {
        let now = numbers(Some(7));
        assert_eq!(judge(&now, &stop(7, 101)), Verdict::Take);
        assert_eq!(judge(&now, &stop(7, 100)), Verdict::Drop(Dropped::Repeated));
        assert_eq!(judge(&now, &stop(6, 101)), Verdict::Drop(Dropped::OtherSession));
        assert_eq!(judge(&now, &stop(8, 101)), Verdict::Drop(Dropped::OtherSession));
        assert_eq!(judge(&numbers(None), &stop(7, 101)), Verdict::Drop(Dropped::OtherSession));
    }

    #[test]
    fn a_welcome_is_for_this_process_from_its_installation_and_newer_than_any() {
        for now in [numbers(Some(7)), numbers(None)] {
            assert_eq!(judge(&now, &welcome(8, BOOT, OURS)), Verdict::Take);
            assert_eq!(judge(&now, &welcome(7, BOOT, OURS)), Verdict::Drop(Dropped::OldWelcome));
            assert_eq!(judge(&now, &welcome(8, OURS, OURS)), Verdict::Drop(Dropped::OtherBoot));
            let other = Dropped::OtherInstance(BOOT);
            assert_eq!(judge(&now, &welcome(8, BOOT, BOOT)), Verdict::Drop(other));
        }
        let fresh = Numbers { instance: None, session: None, greatest: 0, last: 0, boot: BOOT };
        assert_eq!(judge(&fresh, &welcome(1, BOOT, OURS)), Verdict::Take);
    }

    #[test]
    fn a_welcome_that_was_written_down_too_late_begins_no_session() {
        let welcome = Welcome { boot: BOOT, instance: OURS, expected: Vec::new(), fence_after_s: 240 };
        let mut now = numbers(None);
        assert!(now.welcome(8, 120, &welcome));
        assert_eq!((now.session, now.greatest, now.last), (Some(8), 8, 120));
        let fenced = Numbers { boot: Uuid::from_u128(3), ..numbers(None) };
        let mut now = fenced.clone();
        assert!(!now.welcome(8, 120, &welcome));
        assert_eq!(now, fenced);
    }

    #[test]
    fn a_welcome_stops_what_is_too_much_asks_for_what_is_missing_and_starts_nothing() {
        let held = BTreeSet::from([replica(1), replica(2)]);
        assert_eq!(
            at_welcome(&held, &[replica(2), replica(3)]),
            [AtWelcome::Stop(replica(1)), AtWelcome::GoOn(replica(2)), AtWelcome::Answer(replica(3))]
        );
        assert_eq!(at_welcome(&BTreeSet::new(), &[]), []);
    }

    #[test]
    fn an_answer_comes_from_the_inbox_before_it_comes_from_memory() {
        let ending = Ending {
            exit_code: Some(3),
            oom: false,
            signalled: false,
            timed_out: false,
            fault: None,
            started_at: None,
            exited_at: Timestamp::UNIX_EPOCH,
        };
        let ended = |reported| Taken {
            replica: replica(1),
            session: 7,
            phase: Phase::Ended { ending: ending.clone(), reported },
        };
        let told = Recollection::Answer(WhatBecame::Ended { ending: ending.clone() });
        assert_eq!(recollect(Some(HeldState::Exited), Some(&ended(false))), told);
        assert_eq!(recollect(None, Some(&ended(true))), told);
        let live = Recollection::Answer(WhatBecame::Live { state: HeldState::Pulling });
        assert_eq!(recollect(Some(HeldState::Pulling), None), live);
        assert_eq!(recollect(None, None), Recollection::LookFor);
        assert_eq!(unattended(Some(&ended(true)), None), Unattended::Remove);
        assert_eq!(unattended(Some(&ended(false)), Some(7)), Unattended::Leave);
    }

    #[test]
    fn a_stranger_is_stopped_only_after_the_welcome() {
        assert_eq!(unattended(None, None), Unattended::Leave);
        assert_eq!(unattended(None, Some(7)), Unattended::StopAndRemove);
    }

    #[test]
    fn the_fence_kills_what_will_run_elsewhere() {
        assert_eq!(at_fence(Disconnect::Requeue), AtFence::Kill);
        assert_eq!(at_fence(Disconnect::Keep), AtFence::Keep);
    }
}
