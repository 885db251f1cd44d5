//! How a worker's moves are done, and how an attempt's end is told.

use berth_common::id::Replica;
use berth_common::message::{Ending, Event, Exited, Fault, FaultKind, FromDevice, HeldState, Started};
use berth_worker::docker::Stage;
use berth_worker::ending;
use berth_worker::inbox::{Phase, StopCause, Taken};
use jiff::Timestamp;

use crate::engine::{KILLED, Run};
use crate::moves::Move;
use crate::worker::{Entry, Worker};

impl Worker {
    /// Does one of [`Self::moves`]. What it says, and whether Docker started something a second time.
    pub fn perform(&mut self, replica: Replica, one: Move) -> (Vec<FromDevice>, bool) {
        let mut twice = false;
        let told = match one {
            Move::Create => {
                if let Some(Phase::Live { start, .. }) = self.inbox.get(&replica).map(|taken| &taken.phase) {
                    let gpus = start.gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
                    self.engine.create(replica, gpus, start.spec.disconnect);
                }
                self.is_in(replica, HeldState::Created);
                Vec::new()
            }
            Move::Launch => {
                self.note_launch(replica);
                twice = !self.engine.start(replica);
                self.find_running(replica)
            }
            Move::LaunchDies { late } => {
                self.note_launch(replica);
                if let Some(container) = self.engine.containers.get_mut(&replica) {
                    container.start_on_its_way = late;
                }
                self.crash();
                Vec::new()
            }
            Move::FindRunning => self.find_running(replica),
            Move::Signal { code } => self.kill(replica, code, |entry| entry.asked = true),
            Move::Kill => self.kill(replica, KILLED, |_| {}),
            Move::Fence => {
                if let Some(Phase::Live { fenced, .. }) = self.inbox.get_mut(&replica).map(|t| &mut t.phase) {
                    *fenced = true;
                }
                self.kill(replica, KILLED, |entry| entry.fenced = true)
            }
            Move::Conclude | Move::GiveUp => {
                self.conclude(replica, one);
                Vec::new()
            }
            Move::Report => {
                let told = self.report(replica);
                if let Some(Phase::Ended { reported, .. }) =
                    self.inbox.get_mut(&replica).map(|t| &mut t.phase)
                {
                    *reported = true;
                }
                self.entries.remove(&replica);
                self.engine.containers.remove(&replica);
                told
            }
            Move::ReportDies => {
                let told = self.report(replica);
                self.crash();
                told
            }
            Move::End { code } => {
                self.end(replica, code);
                // A process that dies in between might as well have died before the end.
                if self.entries.get(&replica).is_some_and(|entry| entry.running) {
                    self.conclude(replica, Move::Conclude);
                }
                Vec::new()
            }
            Move::StartLate => {
                twice = !self.engine.start(replica);
                Vec::new()
            }
        };
        (told, twice)
    }

    fn is_in(&mut self, replica: Replica, state: HeldState) {
        if let Some(entry) = self.entries.get_mut(&replica) {
            entry.state = state;
        }
    }

    fn note_launch(&mut self, replica: Replica) {
        if let Some(Phase::Live { launched, .. }) = self.inbox.get_mut(&replica).map(|t| &mut t.phase) {
            *launched = true;
        }
        if let Some(entry) = self.entries.get_mut(&replica) {
            entry.launched = true;
        }
    }

    fn find_running(&mut self, replica: Replica) -> Vec<FromDevice> {
        self.is_in(replica, HeldState::Running);
        if let Some(entry) = self.entries.get_mut(&replica) {
            (entry.launched, entry.running) = (true, true);
        }
        let session = self.numbers.session.unwrap_or_default();
        let docker_id = replica.container_name();
        let (started_at, ports) = (Timestamp::UNIX_EPOCH, Default::default());
        self.say(Event::Started(Started { replica, session, docker_id, started_at, ports }))
    }

    fn kill(&mut self, replica: Replica, code: i64, note: impl FnOnce(&mut Entry)) -> Vec<FromDevice> {
        if let Some(entry) = self.entries.get_mut(&replica) {
            entry.signalled = true;
            note(entry);
        }
        self.end(replica, code);
        Vec::new()
    }

    fn end(&mut self, replica: Replica, code: i64) {
        let stop_taken = self.inbox.get(&replica).is_some_and(|taken| match &taken.phase {
            Phase::Live { stop, .. } => stop.is_some(),
            Phase::Ended { .. } => false,
        });
        self.engine.end(replica, code, stop_taken);
    }

    /// `Life::conclude`, `vanished` and `give_up` of the real worker.
    fn conclude(&mut self, replica: Replica, one: Move) {
        let (now, Some(entry)) = (Timestamp::UNIX_EPOCH, self.entries.get_mut(&replica)) else { return };
        let ended_after_stop = self
            .engine
            .containers
            .get(&replica)
            .is_some_and(|container| matches!(container.state, Run::Exited { after_stop: true, .. }));
        let ending = match (one, self.engine.inspect(replica).map(|seen| seen.stage)) {
            (Move::GiveUp, _) if entry.stop.is_some() => ending::stopped_before_start(now),
            (Move::GiveUp, _) => ending::could_not_start(transient("Docker did not answer"), now),
            (_, Some(Stage::Exited(exit))) => {
                let signalled = entry.signalled || (entry.before && entry.told_before && ended_after_stop);
                let fenced = entry.fenced && exit.code == KILLED;
                let stopped = signalled.then_some(StopCause::Asked);
                ending::exited(&exit, stopped, fenced.then(|| transient("fenced")), now)
            }
            (_, _) => ending::vanished(entry.signalled, now),
        };
        if one == Move::GiveUp {
            self.engine.containers.remove(&replica);
        }
        entry.state = HeldState::Exited;
        if let Some(Taken { phase, .. }) = self.inbox.get_mut(&replica) {
            *phase = Phase::Ended { ending, reported: false };
        }
    }

    fn report(&mut self, replica: Replica) -> Vec<FromDevice> {
        let ending: Option<Ending> = match self.inbox.get(&replica).map(|taken| &taken.phase) {
            Some(Phase::Ended { ending, .. }) => Some(ending.clone()),
            Some(Phase::Live { .. }) | None => None,
        };
        let session = self.numbers.session.unwrap_or_default();
        ending.map_or_else(Vec::new, |ending| self.say(Event::Exited(Exited { replica, session, ending })))
    }
}

fn transient(text: &str) -> Fault {
    Fault { kind: FaultKind::Transient, text: text.into() }
}
