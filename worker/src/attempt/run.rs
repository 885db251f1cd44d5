//! While it runs, and when it has ended: the report that it runs, stopping it, its exit code.

use std::time::Duration;

use berth_common::command::DEFAULT_GRACE_S;
use berth_common::message::{Event, HeldState, Started};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{Life, Step};
use crate::agent::{Due, Limited, due, limited};
use crate::attempts::{StopCause, Stopping};
use crate::container::HOST_NETWORK;
use crate::docker::{Container, DockerError, Exit};
use crate::ending;
use crate::inbox::StopTaken;

/// A waiting connection can die without a word: the container is looked at so often in any case.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// One that was killed and still runs is killed again after so long.
const KILL_AGAIN: Duration = Duration::from_secs(10);
/// The last lines come within moments; a log that needs longer is completed after the end was reported.
const LOG_GRACE: Duration = Duration::from_secs(10);
/// Between SIGTERM and SIGKILL for one that has run for its time limit.
const GRACE: Duration = Duration::from_secs(DEFAULT_GRACE_S);
/// Docker's clock may differ, and it counts whole seconds.
const EVENTS_BEFORE: SignedDuration = SignedDuration::from_secs(60);
const EVENTS_AFTER: SignedDuration = SignedDuration::from_secs(1);
const SIGKILL: &str = "SIGKILL";

impl Life<'_> {
    /// It runs: stays with it until it has ended, or the connection to Docker has.
    pub(super) async fn attend(
        &mut self,
        container: &Container,
        started_at: Option<Timestamp>,
    ) -> Result<Step, DockerError> {
        self.seen.launched = true;
        self.seen.missed_at = None;
        if let Some(engine) = &*self.worker.engine.borrow() {
            self.seen.live_restore = engine.live_restore;
        }
        self.log.follow(self.worker, &self.name);
        self.worker.is_in(self.replica, HeldState::Running);
        if !std::mem::replace(&mut self.seen.running, true) {
            self.seen.runs_since = Some(runs_since(started_at));
            self.tell_started(container, started_at);
        }
        let (worker, name) = (self.worker, self.name.clone());
        let mut ended = std::pin::pin!(worker.docker.wait(&name));
        let look = Instant::now() + LOOK_EVERY;
        loop {
            let again = self.obey(&container.stop_signal).await?;
            let wake = again.map_or(look, |again| again.min(look));
            tokio::select! {
                answer = &mut ended => return answer.map(|()| Step::Again),
                changed = self.wishes.changed() => if changed.is_err() { return Ok(Step::Again) },
                () = tokio::time::sleep_until(wake) => if wake == look { return Ok(Step::Again) },
                () = worker.tasks.stop.cancelled() => return Ok(Step::Again),
            }
        }
    }

    /// Does what the wishes and the time limit ask for; says when to look at them again, if not before.
    async fn obey(&mut self, stop_signal: &str) -> Result<Option<Instant>, DockerError> {
        let over_at = self.keep_time().await;
        let again = self.obey_wishes(stop_signal).await?;
        Ok(over_at.into_iter().chain(again).min())
    }

    /// Wishes a stop where it has run for its time limit; else says when that will be.
    async fn keep_time(&mut self) -> Option<Instant> {
        let wishes = *self.wishes.borrow_and_update();
        let (now, since) = (Instant::now(), self.seen.runs_since?);
        if wishes.stop.is_some() {
            return None; // it is being stopped
        }
        match limited(wishes.limit, now - since) {
            Limited::RunsOn(left) => left.map(|left| now + left),
            Limited::Over => {
                let replica = self.replica;
                tracing::info!(job.id = %replica.job, job.attempt = replica.attempt, limit_s = ?wishes.limit, "its time is over");
                let stop =
                    StopTaken { at: berth_common::time::now(), grace: GRACE, cause: StopCause::TimeLimit };
                // For a restart before its end; a full disk does not prolong its time.
                if let Err(error) = self.worker.inbox.timing_out(replica, stop).await {
                    tracing::warn!(%replica, %error, "that its time was over is not written down");
                }
                self.worker.attempts.wish(replica, |wishes| wishes.stop(Stopping::new(stop)));
                None
            }
        }
    }

    async fn obey_wishes(&mut self, stop_signal: &str) -> Result<Option<Instant>, DockerError> {
        let wishes = *self.wishes.borrow_and_update();
        let now = Instant::now();
        let deadline = wishes.stop.map(|stop| stop.deadline);
        let due = due(wishes.permission, self.start.spec.disconnect, deadline, self.seen.asked, now);
        match due {
            Due::Nothing => Ok(None),
            Due::Wait(deadline) => Ok(Some(deadline)),
            Due::Ask => {
                tracing::info!(job.id = %self.replica.job, job.attempt = self.replica.attempt, stop_signal, "stopping");
                self.seen.signalled |= self.worker.docker.signal(&self.name, stop_signal).await?;
                self.seen.asked = true;
                Ok(wishes.stop.map(|stop| stop.deadline))
            }
            Due::Kill | Due::Fence => {
                if let Some(again) = self.seen.kill_again.filter(|&again| now < again) {
                    return Ok(Some(again));
                }
                tracing::info!(job.id = %self.replica.job, job.attempt = self.replica.attempt, ?due, "killing");
                if due == Due::Fence {
                    self.note_fence().await;
                }
                if self.worker.docker.signal(&self.name, SIGKILL).await? {
                    self.seen.signalled = true;
                    self.seen.fenced |= due == Due::Fence;
                }
                self.seen.kill_again = Some(now + KILL_AGAIN);
                Ok(self.seen.kill_again)
            }
        }
    }

    /// So that a restart between the kill and the report still knows why. A full disk holds no kill
    /// up: the leader is about to start its job elsewhere.
    async fn note_fence(&self) {
        if let Err(error) = self.worker.inbox.fencing(self.replica).await {
            tracing::warn!(replica = %self.replica, %error, "why it is killed is not written down");
        }
    }

    /// It has ended: waits for the rest of its log, and tells how.
    pub(super) async fn conclude(&mut self, exit: &Exit) -> Result<Step, DockerError> {
        self.seen.launched = true;
        self.log.follow(self.worker, &self.name);
        self.log.complete(LOG_GRACE).await;
        if self.worker.tasks.stop.is_cancelled() {
            return Ok(Step::Again);
        }
        self.seen.fenced |= self.guard_killed_it().await;
        let stopped = self.stopped_by(exit);
        let now = berth_common::time::now();
        let seen_to_end = match self.seen.missed_at {
            Some(at) => {
                self.worker.docker.saw_it_die(&self.name, at - EVENTS_BEFORE, now + EVENTS_AFTER).await?
            }
            None => true,
        };
        let fault = ending::not_its_doing(
            exit,
            &ending::Lived {
                seen_to_end,
                stopped: stopped.is_some(),
                fenced: self.seen.fenced,
                missed_at: self.seen.missed_at,
                live_restore: self.seen.live_restore,
                unseen: self.seen.before && !self.seen.running,
                host_started_at: self.worker.host_started_at,
                now,
            },
        );
        Ok(Step::Over(ending::exited(exit, stopped, fault, berth_common::time::now())))
    }

    /// Whose stop reached it before it ended. Of one before a restart only the time is known at which
    /// it was asked for.
    fn stopped_by(&self, exit: &Exit) -> Option<StopCause> {
        let stop = self.wishes.borrow().stop;
        let before = self.seen.before
            && self.seen.told_before
            && stop.is_some_and(|stop| exit.finished_at.is_some_and(|finished| stop.asked_at <= finished));
        // A fence needs no stop.
        let cause = stop.map_or(StopCause::Asked, |stop| stop.cause);
        (self.seen.signalled || before).then_some(cause)
    }

    /// On the host's own network every port is the host's.
    fn port_on_host(&self, container: &Container, inside: u16) -> Option<u16> {
        let network = self.start.gang.as_ref().map(|_| self.worker.gang_network.as_str());
        if network == Some(HOST_NETWORK) { Some(inside) } else { container.ports.get(&inside).copied() }
    }

    fn tell_started(&self, container: &Container, started_at: Option<Timestamp>) {
        let inside = self.start.spec.ports.iter();
        let started = Started {
            replica: self.replica,
            session: self.worker.numbers().session.unwrap_or(self.session),
            docker_id: container.id.clone(),
            started_at: started_at.unwrap_or_else(berth_common::time::now),
            ports: inside
                .filter_map(|(name, &port)| Some((name.clone(), self.port_on_host(container, port)?)))
                .collect(),
        };
        tracing::info!(job.id = %self.replica.job, job.attempt = self.replica.attempt, docker.id = container.id, "running");
        let (worker, told) = (self.worker.clone(), self.told.clone());
        self.worker.tasks.tracker.spawn(async move {
            let report = worker.reporter.until_confirmed(Event::Started(started), &worker.tasks.leave);
            told.run_until_cancelled(report).await;
        });
    }
}

/// Docker's time of the start on our clock, once: later somebody may set the host's.
fn runs_since(started_at: Option<Timestamp>) -> Instant {
    let now = Instant::now();
    let ran_ms = started_at.map_or(0, |at| berth_common::time::ms_between(at, berth_common::time::now()));
    now.checked_sub(Duration::from_millis(u64::try_from(ran_ms).unwrap_or(0))).unwrap_or(now)
}
