//! What a worker does about one attempt, a step at a time, and what Docker does by itself.
//!
//! Each move is one step of the real worker's `Life`: it looks at Docker, asks `agent::next`, `go` or
//! `due`, and does one thing. Where a crash in the middle leaves something else than a crash before or
//! after, there is a move for that too; it is enabled while a crash is left.

use berth_common::id::Replica;
use berth_common::message::Start;
use berth_worker::agent::{Before, Due, Go, Next, due, go, next};
use berth_worker::inbox::Phase;

use crate::engine::Run;
use crate::worker::{Entry, Grace, Link, Worker};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Move {
    Create,
    Launch,
    /// The process dies between its note and Docker's answer; `late`: Docker will start it later.
    LaunchDies {
        late: bool,
    },
    /// A process that was started anew finds that it runs.
    FindRunning,
    /// The stop signal; the program ends with this code.
    Signal {
        code: i64,
    },
    Kill,
    /// It is killed because the session is over.
    Fence,
    /// How it ended is written down.
    Conclude,
    /// It will never run: what there is of it is removed.
    GiveUp,
    /// Its end is reported, noted as reported, and its container is removed.
    Report,
    /// The process dies between the report and its note.
    ReportDies,
    /// The program ends by itself.
    End {
        code: i64,
    },
    /// Docker starts what a dead process had asked for.
    StartLate,
}

impl Move {
    #[must_use]
    pub const fn is_crash(self) -> bool {
        matches!(self, Self::LaunchDies { .. } | Self::ReportDies)
    }
}

impl Worker {
    /// Every move that is possible now.
    pub fn moves(&self, found: &mut Vec<(Replica, Move)>) {
        for (&replica, entry) in &self.entries {
            self.moves_of(replica, entry, |one| found.push((replica, one)));
        }
        for (&replica, container) in &self.engine.containers {
            match container.state {
                Run::Running => {
                    found.push((replica, Move::End { code: 0 }));
                    found.push((replica, Move::End { code: 1 }));
                }
                Run::Created if container.start_on_its_way => found.push((replica, Move::StartLate)),
                Run::Created | Run::Exited { .. } => {}
            }
        }
    }

    fn moves_of(&self, replica: Replica, entry: &Entry, mut can: impl FnMut(Move)) {
        let Some(taken) = self.inbox.get(&replica) else { return };
        let Phase::Live { start, .. } = &taken.phase else {
            if self.link == Link::Up {
                can(Move::Report);
                can(Move::ReportDies);
            }
            return;
        };
        match next(entry.launched, self.engine.inspect(replica).as_ref()) {
            Next::Prepare => match self.go(entry) {
                Go::Start => can(Move::Create),
                Go::Stop => can(Move::GiveUp),
                Go::Wait => {}
            },
            Next::Launch => match self.go(entry) {
                Go::Start => {
                    can(Move::Launch);
                    can(Move::LaunchDies { late: false });
                    can(Move::LaunchDies { late: true });
                }
                Go::Stop => can(Move::GiveUp),
                Go::Wait => {}
            },
            Next::GiveUp => can(Move::GiveUp),
            Next::Attend { .. } if !entry.running => can(Move::FindRunning),
            Next::Attend { .. } => self.attend(start, entry, can),
            Next::Conclude(_) | Next::Vanished => can(Move::Conclude),
            Next::Wait => {}
        }
    }

    fn go(&self, entry: &Entry) -> Go {
        go(Before {
            permission: entry.permission,
            stop_asked: entry.stop.is_some(),
            session: self.numbers.session,
            term_is_over: self.link == Link::Fenced,
        })
    }

    fn attend(&self, start: &Start, entry: &Entry, mut can: impl FnMut(Move)) {
        /// Between a deadline that is over and one that is not.
        const NOW: u8 = 1;
        let deadline = entry.stop.map(|grace| match grace {
            Grace::Left => NOW + 1,
            Grace::Over => NOW,
        });
        match due(entry.permission, start.spec.disconnect, deadline, entry.asked, NOW) {
            Due::Nothing | Due::Wait(_) => {}
            Due::Ask => {
                can(Move::Signal { code: 143 });
                can(Move::Signal { code: 0 });
            }
            Due::Kill => can(Move::Kill),
            Due::Fence => can(Move::Fence),
        }
    }
}
