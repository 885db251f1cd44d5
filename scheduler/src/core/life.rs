//! Carries out what happens to a job: one door for every change of its life, so that indexes,
//! history and rows always follow.

use berth_common::command::{CommandStatus, DEFAULT_GRACE_S};
use berth_common::id::{JobId, Replica};
use berth_common::job::{AttemptStatus, Status};
use berth_common::message::{Order, Stop, ToDevice};
use berth_common::time::plus_ms;
use jiff::Timestamp;

use super::device::SentStop;
use super::job::{Budget, End, Event, Refusal};
use super::plan::ms;
use super::queue::Seat;
use super::rows::{JobEventRow, OutboxRow, Release};
use super::{Core, Job};

/// Who did something, and why; for the history.
#[derive(Debug, Clone)]
pub(super) struct Cause {
    pub actor: String,
    pub reason: Option<String>,
}

impl Cause {
    pub fn scheduler(reason: impl Into<Option<String>>) -> Self {
        Self { actor: "scheduler".into(), reason: reason.into() }
    }

    pub fn device(name: &str, reason: impl Into<Option<String>>) -> Self {
        Self { actor: format!("device:{name}"), reason: reason.into() }
    }
}

impl Core {
    /// Lets `event` happen to a job in memory.
    ///
    /// # Errors
    /// The refusal of the state machine; nothing is changed then.
    pub(super) fn happen(
        &mut self,
        id: JobId,
        event: &Event,
        cause: Cause,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let Some(job) = self.jobs.get(&id) else { return Ok(()) };
        let before = job.row.life.clone();
        let after = before.after(event, now)?;
        self.unindex(id);
        let wish_before = (before.stopping, before.grace_ms);
        let job = self.jobs.get_mut(&id).expect("it was there on the first line");
        job.row.life = after;
        let (status, stopping) = (job.row.life.status, job.row.life.stopping);
        let wish = (stopping, job.row.life.grace_ms);
        let kills = if status == Status::Exited { std::mem::take(&mut job.kills) } else { Vec::new() };
        if status == Status::Exited {
            self.freed.insert((job.row.spec.queue.clone(), job.row.owner.clone()));
            self.exited.push(id);
        }
        self.index(id);
        self.changes.jobs.insert(id);
        if before.status != status
            || before.stopping != stopping
            || before.held != self.jobs[&id].row.life.held
        {
            let reason = cause.reason.or_else(|| stopping.map(|s| format!("stopping: {s}")));
            self.record(id, Some(before.status), status, cause.actor, reason, now);
        }
        if wish != wish_before && stopping.is_some() {
            self.send_stops(id, now);
        }
        for kill in kills {
            self.finish_command(kill, CommandStatus::Done, now);
        }
        self.unsettled |= status == Status::Pending;
        Ok(())
    }

    /// A line of a job's history.
    pub(super) fn record(
        &mut self,
        job: JobId,
        from: Option<Status>,
        to: Status,
        actor: String,
        reason: Option<String>,
        at: Timestamp,
    ) {
        let seq = self.take_id();
        self.changes.events.push(JobEventRow { seq, job, from, to, actor, reason, at });
    }

    /// A numbered message to a device, in its present session.
    pub(super) fn send(&mut self, did: i64, order: Order, now: Timestamp) -> i64 {
        let id = self.take_id();
        let device = &self.devices[&did];
        let message = ToDevice { session: device.session(), id, order };
        self.changes.outbox.push(OutboxRow { device: device.row.name.clone(), message, created_at: now });
        id
    }

    /// Tells the devices of a job that its containers have to stop.
    pub(super) fn send_stops(&mut self, id: JobId, now: Timestamp) {
        let Some(job) = self.jobs.get(&id) else { return };
        let live: Vec<(Replica, i64)> = job.live().map(|c| (c.replica, c.did)).collect();
        for (replica, did) in live {
            self.send_stop(replica, did, now);
        }
    }

    /// Tells one device that a container has to stop; for a job that is to be stopped with its
    /// reason and grace time, for a stranger as something that should not be there.
    pub(super) fn send_stop(&mut self, replica: Replica, did: i64, now: Timestamp) {
        let life = self.jobs.get(&replica.job).map(|job| &job.row.life);
        let reason = life.and_then(|l| l.stopping).unwrap_or(berth_common::job::StopReason::Sibling);
        let grace_ms = life.and_then(|l| l.grace_ms).unwrap_or_else(default_grace_ms);
        let stop = Stop { replica, reason, grace_ms: u64::try_from(grace_ms).unwrap_or_default() };
        let sent = self.send(did, Order::Stop(stop), now);
        if let Some(device) = self.devices.get_mut(&did) {
            device.stops.insert(replica, SentStop { id: sent, sent: now, due: plus_ms(now, grace_ms) });
        }
    }

    /// A container is known to be gone: its GPUs are free in the transaction that says so. One that
    /// was gone before changes nothing.
    pub(super) fn container_gone(&mut self, replica: Replica, end: End, cause: &Cause, now: Timestamp) {
        let Some(job) = self.jobs.get_mut(&replica.job) else { return };
        let Some(container) = job.containers.iter_mut().find(|c| c.replica == replica && is_live(c)) else {
            return;
        };
        container.status = AttemptStatus::Exited;
        container.exited_at = Some(now);
        match &end {
            End::Ended(ending) => {
                container.exit_code = ending.exit_code;
                container.oom = ending.oom;
                container.error = ending.fault.as_ref().map(|fault| fault.text.clone());
                if ending.fault.is_some() {
                    job.avoid = Some(container.did);
                }
            }
            End::NeverTaken => {
                container.error = Some("the start never reached the device".into());
                job.avoid = Some(container.did);
            }
            End::Lost { text } => {
                container.error = Some(text.clone());
                job.avoid = Some(container.did);
            }
        }
        let succeeded = matches!(&end, End::Ended(e) if e.exit_code == Some(0) && e.fault.is_none());
        container.ending = Some(end);
        let container = container.clone();
        self.changes.container(&container);
        for &gid in &container.gids {
            self.changes.release(Release { gid, cid: container.cid, released_at: now });
        }
        if let Some(device) = self.devices.get_mut(&container.did) {
            device.free(&container);
        }
        self.plan.release(&Seat::of(&self.jobs[&replica.job].row), &container, now);
        self.unsettled = true;
        if self.jobs[&replica.job].live().next().is_none() {
            self.attempt_over(replica.job, cause.clone(), now);
        } else if !succeeded {
            let event = Event::SiblingEnded { grace_ms: default_grace_ms() };
            let reason = Some(format!("replica {} has ended", replica.replica));
            let cause = Cause { reason, ..cause.clone() };
            let happened = self.happen(replica.job, &event, cause, now);
            debug_assert!(happened.is_ok(), "a job with a live container is placed: {happened:?}");
        }
    }

    /// Decides about the job: no container of its attempt is left.
    fn attempt_over(&mut self, id: JobId, cause: Cause, now: Timestamp) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        self.plan.policy.finish(&Seat::of(&job.row), ms(now));
        let containers = std::mem::take(&mut job.containers);
        let ends = containers.into_iter().filter_map(|container| container.ending).collect();
        let spec = &job.row.spec;
        let budget = Budget { id, retries: spec.retries, backoff_s: spec.backoff_s };
        let over = self.happen(id, &Event::Over { ends, budget }, cause, now);
        debug_assert!(over.is_ok(), "a job with containers is placed: {over:?}");
        self.hurry_execs(id, now);
    }

    /// It has run for its limit, by the worker's clock or by ours.
    pub(super) fn reached_its_limit(&mut self, id: JobId, now: Timestamp) {
        let event = Event::TimeLimit { grace_ms: default_grace_ms() };
        let cause = Cause::scheduler(Some("it ran longer than its time limit".to_owned()));
        // A job that is not placed any more has no limit.
        let _ = self.happen(id, &event, cause, now);
    }

    /// What the time brings: back-offs that end, limits that are reached, devices that are lost.
    pub(super) fn elapse(&mut self, now: Timestamp) {
        while let Some(&(at, id)) = self.indexes.wakeups.first() {
            if at > now {
                break;
            }
            self.indexes.wakeups.pop_first();
            let Some(job) = self.jobs.get(&id) else { continue };
            if job.is_pending() {
                self.plan.touched.insert(id);
                self.unsettled = true;
            } else {
                self.reached_its_limit(id, now);
            }
        }
        self.unsettled |= self.next_pass.take_if(|at| *at <= now).is_some();
        if self.recovering_until.is_some_and(|until| until <= now) {
            self.recovering_until = None;
            self.unsettled = true;
            self.changes.recovered = true;
        }
        self.give_up_execs(now);
        self.lose_silent_devices(now);
    }

    /// When a job has to be looked at again: it may be placed, or it has run for its limit.
    pub(super) fn wakeup_of(&self, job: &Job) -> Option<Timestamp> {
        let life = &job.row.life;
        match life.status {
            Status::Pending => life.not_before,
            Status::Running if life.stopping < Some(berth_common::job::StopReason::Timeout) => {
                let seconds = i64::try_from(self.limit_s(&job.row.spec)?).ok()?;
                Some(plus_ms(life.started_at?, seconds.saturating_mul(1000)))
            }
            Status::Unapproved | Status::Scheduled | Status::Running | Status::Exited => None,
        }
    }

    pub(super) fn finish_command(&mut self, id: uuid::Uuid, status: CommandStatus, now: Timestamp) {
        if let Some(mut view) = self.commands.remove(&id) {
            view.status = status;
            view.done_at = Some(now);
            self.changes.command(&view);
        }
    }
}

impl Job {
    /// Containers of the present attempt that are not known to be gone.
    pub(super) fn live(&self) -> impl Iterator<Item = &super::rows::ContainerRow> {
        self.containers.iter().filter(|c| is_live(c))
    }
}

fn is_live(container: &super::rows::ContainerRow) -> bool {
    container.status != AttemptStatus::Exited
}

pub(super) fn default_grace_ms() -> i64 {
    i64::try_from(DEFAULT_GRACE_S * 1000).unwrap_or(i64::MAX)
}
