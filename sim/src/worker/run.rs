//! While it runs, and when it has ended (`worker/src/attempt/run.rs`).

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use berth_common::command::DEFAULT_GRACE_S;
use berth_common::message::{Event, HeldState, Started};
use berth_worker::agent::{Due, Limited, due, limited};
use berth_worker::docker::{DockerError, Exit};
use berth_worker::ending;
use berth_worker::inbox::{StopCause, StopTaken};
use jiff::Timestamp;

use super::attempt::{Life, Step};
use crate::docker::Signal;

const LOOK_EVERY_MS: u64 = 60_000;
const KILL_AGAIN_MS: u64 = 10_000;
const GRACE: Duration = Duration::from_secs(DEFAULT_GRACE_S);

impl Life<'_> {
    pub(super) async fn attend(&mut self, started_at: Option<Timestamp>) -> Result<Step, DockerError> {
        self.seen.launched = true;
        self.seen.missed_at = None;
        if let Some(keeps) = self.worker.engine.get() {
            self.seen.live_restore = keeps;
        }
        self.worker.is_in(self.replica, HeldState::Running);
        if !std::mem::replace(&mut self.seen.running, true) {
            let ran_ms = started_at.map_or(0, |at| berth_common::time::ms_between(at, self.worker.now()));
            let now_ms = self.worker.w.exec.now_ms();
            self.seen.runs_since_ms = Some(now_ms.saturating_sub(u64::try_from(ran_ms).unwrap_or(0)));
            self.tell_started(started_at);
        }
        let (worker, name) = (self.worker, self.name.clone());
        let exec = &worker.w.exec;
        let mut ended = std::pin::pin!(worker.docker.wait(&name));
        let look_ms = exec.now_ms() + LOOK_EVERY_MS;
        loop {
            let again_ms = self.obey().await?;
            let wake_ms = again_ms.map_or(look_ms, |again_ms| again_ms.min(look_ms));
            tokio::select! {
                biased;
                answer = &mut ended => return answer.map(|()| Step::Again),
                () = self.wishes.changed() => {}
                () = exec.sleep_until(wake_ms) => if wake_ms == look_ms { return Ok(Step::Again) },
            }
        }
    }

    async fn obey(&mut self) -> Result<Option<u64>, DockerError> {
        let over_at_ms = self.keep_time().await;
        let again_ms = self.obey_wishes().await?;
        Ok(over_at_ms.into_iter().chain(again_ms).min())
    }

    /// Wishes a stop where it has run for its time limit; else says when that will be.
    async fn keep_time(&mut self) -> Option<u64> {
        let wishes = *self.wishes.borrow_and_update();
        let (now_ms, since_ms) = (self.worker.w.exec.now_ms(), self.seen.runs_since_ms?);
        if wishes.stop.is_some() {
            return None;
        }
        match limited(wishes.limit, Duration::from_millis(now_ms - since_ms)) {
            Limited::RunsOn(left) => {
                left.map(|left| now_ms + u64::try_from(left.as_millis()).unwrap_or(u64::MAX / 2))
            }
            Limited::Over => {
                let stop = StopTaken { at: self.worker.now(), grace: GRACE, cause: StopCause::TimeLimit };
                self.worker.w.auditor.borrow_mut().time_is_over(self.replica, now_ms);
                self.worker.persist(|inbox| inbox.timing_out(self.replica, stop)).await;
                let stop = self.worker.stopping(stop);
                self.worker.wish(self.replica, |wishes| wishes.stop(stop));
                None
            }
        }
    }

    async fn obey_wishes(&mut self) -> Result<Option<u64>, DockerError> {
        let wishes = *self.wishes.borrow_and_update();
        let now_ms = self.worker.w.exec.now_ms();
        let deadline_ms = wishes.stop.map(|stop| stop.deadline_ms);
        let due = due(wishes.permission, self.start.spec.disconnect, deadline_ms, self.seen.asked, now_ms);
        match due {
            Due::Nothing => Ok(None),
            Due::Wait(deadline_ms) => Ok(Some(deadline_ms)),
            Due::Ask => {
                self.seen.signalled |= self.worker.docker.signal(&self.name, Signal::Stop).await?;
                self.seen.asked = true;
                Ok(deadline_ms)
            }
            Due::Kill | Due::Fence => {
                if let Some(again_ms) = self.seen.kill_again_ms.filter(|&again_ms| now_ms < again_ms) {
                    return Ok(Some(again_ms));
                }
                if due == Due::Fence {
                    self.worker.persist(|inbox| inbox.fencing(self.replica)).await;
                }
                if self.worker.docker.signal(&self.name, Signal::Kill).await? {
                    self.seen.signalled = true;
                    self.seen.fenced |= due == Due::Fence;
                }
                self.seen.kill_again_ms = Some(now_ms + KILL_AGAIN_MS);
                Ok(self.seen.kill_again_ms)
            }
        }
    }

    pub(super) fn conclude(&mut self, exit: &Exit) -> Step {
        self.seen.launched = true;
        self.seen.fenced |= self.guard_killed_it();
        let stopped = self.stopped_by(exit);
        let fault = ending::not_its_doing(
            exit,
            &ending::Lived {
                // A simulated Docker loses no codes.
                seen_to_end: true,
                stopped: stopped.is_some(),
                fenced: self.seen.fenced,
                missed_at: self.seen.missed_at,
                live_restore: self.seen.live_restore,
                unseen: self.seen.before && !self.seen.running,
                host_started_at: Some(self.worker.of().started_at(&self.worker.w)),
                now: self.worker.now(),
            },
        );
        Step::Over(ending::exited(exit, stopped, fault, self.worker.now()))
    }

    fn stopped_by(&self, exit: &Exit) -> Option<StopCause> {
        let stop = self.wishes.borrow().stop;
        let before = self.seen.before
            && self.seen.told_before
            && stop.is_some_and(|stop| exit.finished_at.is_some_and(|finished| stop.asked_at <= finished));
        let cause = stop.map_or(StopCause::Asked, |stop| stop.cause);
        (self.seen.signalled || before).then_some(cause)
    }

    fn tell_started(&self, started_at: Option<Timestamp>) {
        let started = Started {
            replica: self.replica,
            session: self.worker.session().unwrap_or(self.session),
            docker_id: self.name.clone(),
            started_at: started_at.unwrap_or_else(|| self.worker.now()),
            ports: BTreeMap::new(),
        };
        let worker = Rc::clone(self.worker);
        let replica = self.replica;
        self.worker.w.exec.spawn(self.worker.pid, async move {
            // Once its end has been reported, nobody needs to hear that it ran.
            if worker.state(replica).is_some() {
                worker.until_confirmed(Event::Started(started)).await;
            }
        });
    }
}
