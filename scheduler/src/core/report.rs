//! What workers tell about containers: that one runs, how it ended, what became of it.

use berth_common::id::Replica;
use berth_common::job::AttemptStatus;
use berth_common::message::{Answer, Event as Told, FromDevice, HeldState, Started, WhatBecame};
use berth_common::problem::Problem;
use jiff::Timestamp;

use super::Core;
use super::job::{End, Event};
use super::known::Known;
use super::life::Cause;
use super::rows::ContainerRow;

/// What became of a report.
pub(super) enum Heard {
    Taken,
    /// It was about nothing that is known here: counted, and dropped.
    Unknown,
    /// The worker itself is not accepted.
    Refused(Problem),
}

impl Core {
    pub(super) fn report(&mut self, told: &FromDevice, known: &mut Known, now: Timestamp) -> Heard {
        if let Told::Heartbeat(heartbeat) = &told.event
            && let Err(problem) = self.check_worker(told, heartbeat, now)
        {
            return Heard::Refused(problem);
        }
        let Some(did) = self.dids.get(&told.device).copied().or_else(|| self.register(told, now)) else {
            return Heard::Unknown;
        };
        let cause = Cause::device(&told.device, None);
        match &told.event {
            Told::Heartbeat(heartbeat) => {
                self.heartbeat(did, told, heartbeat, now);
                Heard::Taken
            }
            Told::Started(started) => self.started(did, started, now),
            Told::Exited(exited) => {
                self.gone(did, exited.replica, End::Ended(exited.ending.clone()), &cause, now)
            }
            Told::Answer(answer) => self.answer(did, answer, &cause, now),
            Told::Executed(executed) => self.executed(&told.device, executed, known, now),
        }
    }

    fn started(&mut self, did: i64, started: &Started, now: Timestamp) -> Heard {
        self.runs(did, started.replica, now, |container| {
            container.docker_id = Some(started.docker_id.clone());
            container.ports.clone_from(&started.ports);
        })
    }

    /// A container runs: `tell` adds what is known of it.
    pub(super) fn runs(
        &mut self,
        did: i64,
        replica: Replica,
        now: Timestamp,
        tell: impl FnOnce(&mut ContainerRow),
    ) -> Heard {
        let Some(job) = self.jobs.get_mut(&replica.job) else { return Heard::Unknown };
        let Some(container) = job.containers.iter_mut().find(|c| c.replica == replica && c.did == did) else {
            return Heard::Unknown;
        };
        let before = container.clone();
        match container.status {
            AttemptStatus::Pending => {
                container.status = AttemptStatus::Running;
                container.started_at = Some(now);
            }
            AttemptStatus::Running => {}
            AttemptStatus::Exited => return Heard::Taken, // the start overtaken by the end
        }
        tell(container);
        if *container != before {
            let container = container.clone();
            self.changes.container(&container);
        }
        let job = &self.jobs[&replica.job];
        // Of a gang, one may have ended before the last one started.
        let all = job.containers.iter().all(|c| c.started_at.is_some());
        if all && job.row.life.status == berth_common::job::Status::Scheduled {
            let cause = Cause::device(&self.devices[&did].row.name, None);
            let happened = self.happen(replica.job, &Event::Started { at: now }, cause, now);
            debug_assert!(happened.is_ok(), "a scheduled job can start: {happened:?}");
        }
        Heard::Taken
    }

    /// Ends a container if it is one that is believed to be on this device. An end that says that it
    /// ran is as good as the report of its start, which it may have overtaken.
    fn gone(&mut self, did: i64, replica: Replica, end: End, cause: &Cause, now: Timestamp) -> Heard {
        if !self.devices[&did].containers.contains(&replica) {
            return Heard::Unknown;
        }
        if let End::Ended(ending) = &end {
            if ending.started_at.is_some() {
                self.runs(did, replica, now, |_| {});
            }
            if ending.timed_out {
                self.reached_its_limit(replica.job, now);
            }
        }
        self.container_gone(replica, end, cause, now);
        Heard::Taken
    }

    fn answer(&mut self, did: i64, answer: &Answer, cause: &Cause, now: Timestamp) -> Heard {
        let replica = answer.replica;
        let end = match &answer.answer {
            WhatBecame::Live { state: HeldState::Running } => return self.runs(did, replica, now, |_| {}),
            WhatBecame::Live { .. } => return Heard::Taken,
            // Whatever made it answer had a larger number than the start: a late copy is not taken.
            WhatBecame::NeverTaken => End::NeverTaken,
            WhatBecame::Ended { ending } => End::Ended(ending.clone()),
            WhatBecame::Unknown => End::Lost { text: "its container vanished from the device".into() },
        };
        self.gone(did, replica, end, cause, now)
    }
}
