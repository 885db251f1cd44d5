//! The life of one container on this device, from the start that was taken to the report of its end.
//!
//! [`Life::step`] looks at what Docker has and does the one thing that follows. There is no other
//! path after a crash or a lost connection: the worker looks again. What must always hold:
//!
//! - nothing is created or started without the permission of the present session, and the last
//!   look at it and at the stops is right before;
//! - an ending stands in the inbox before it is reported, and is confirmed before its container goes;
//! - a container that Docker was once asked to start is never started a second time.

mod log;
mod prepare;
mod run;

use std::sync::Arc;
use std::time::Duration;

use berth_common::id::Replica;
use berth_common::message::{Ending, Event, Exited, HeldState, Start};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agent::{Next, next};
use crate::attempts::{Permission, Stopping, Wishes};
use crate::docker::DockerError;
use crate::ending;
use crate::guard;
use crate::inbox::{Inbox, Phase, StopTaken, Taken};
use crate::worker::{Backoff, Worker};
use log::Log;

/// Looks after an attempt that was taken, in this process or in one before; nothing where it is
/// looked after already.
pub fn look_after(worker: &Arc<Worker>, taken: Taken, permission: Permission) {
    let replica = taken.replica;
    let (state, wishes) = match &taken.phase {
        Phase::Ended { .. } => (HeldState::Exited, Wishes { permission, stop: None, limit: None }),
        Phase::Live { stop, start, .. } => {
            let limit = start.timeout_s.map(Duration::from_secs);
            (HeldState::Taken, Wishes { permission, stop: stop.map(Stopping::new), limit })
        }
    };
    if let Some(wishes) = worker.attempts.add(replica, state, wishes) {
        worker.logs.expect(replica);
        let this = Arc::clone(worker);
        worker.tasks.tracker.spawn(live(this, taken, wishes));
    }
}

impl Stopping {
    /// A stop that was taken, perhaps before a restart.
    #[must_use]
    pub fn new(StopTaken { at, grace, cause }: StopTaken) -> Self {
        let passed = berth_common::time::ms_between(at, berth_common::time::now());
        let left = grace.saturating_sub(Duration::from_millis(u64::try_from(passed).unwrap_or(0)));
        Self { asked_at: at, deadline: Instant::now() + left, cause }
    }
}

async fn live(worker: Arc<Worker>, taken: Taken, wishes: watch::Receiver<Wishes>) {
    let replica = taken.replica;
    let log;
    let told = CancellationToken::new();
    let ending = match taken.phase {
        Phase::Ended { ending, .. } => {
            // A process before this one died before it had told, or kept, everything.
            let mut rest = Log::open(&worker, replica).await;
            rest.follow(&worker, &replica.container_name());
            log = rest;
            ending
        }
        Phase::Live { start, launched, fenced, stop } => {
            let told_before = stop.is_some();
            let seen = Seen { launched, before: launched, told_before, fenced, ..Seen::default() };
            let mut life = Life::new(&worker, taken.session, *start, seen, wishes, told.clone()).await;
            let Some(ending) = life.run().await else { return };
            log = life.log;
            ending
        }
    };
    let session = worker.numbers().session.unwrap_or(taken.session);
    let report = Event::Exited(Exited { replica, session, ending });
    if !worker.reporter.until_confirmed(report, &worker.tasks.leave).await {
        return;
    }
    told.cancel();
    if worker.persist("note a report", |inbox| async move { inbox.reported(replica).await }).await.is_none() {
        return;
    }
    worker.attempts.reported(replica);
    log.drain(&worker, replica).await;
    clear_away(&worker, replica).await;
}

/// Removes the container of an attempt that is over.
async fn clear_away(worker: &Worker, replica: Replica) {
    let mut pause = Backoff::default();
    loop {
        // Otherwise Docker is at it, or away.
        if let Ok(true) = worker.docker.remove(&replica.container_name()).await {
            break;
        }
        if worker.tasks.stop.run_until_cancelled(pause.wait()).await.is_none() {
            return; // the next start finds it by its labels
        }
    }
    worker.forget_fenced(replica);
    worker.attempts.remove(replica);
}

/// An attempt on its way to its end.
struct Life<'a> {
    worker: &'a Arc<Worker>,
    replica: Replica,
    name: String,
    /// The session in which it was taken.
    session: i64,
    start: Start,
    wishes: watch::Receiver<Wishes>,
    log: Log,
    /// Ends the report that it runs, once its end has been reported.
    told: CancellationToken,
    seen: Seen,
}

/// What this process has seen of it.
#[derive(Debug, Default)]
struct Seen {
    /// Docker may have been asked to start it, by this process or one before.
    launched: bool,
    /// That was before this process began.
    before: bool,
    /// A stop had been taken before this process began: it may have been signalled already.
    told_before: bool,
    running: bool,
    /// Since when it runs, by our clock.
    runs_since: Option<Instant>,
    /// It was asked to end.
    asked: bool,
    /// When it may be killed once more.
    kill_again: Option<Instant>,
    /// A signal of ours reached it while it ran.
    signalled: bool,
    /// It was killed because the session was lost, by this process or perhaps by one before.
    fenced: bool,
    /// When Docker was first missed since it was launched, or last seen to run.
    missed_at: Option<Timestamp>,
    /// Whether it survives a restart of Docker, as known while it ran: the restart may have changed that.
    live_restore: bool,
}

/// What a step came to.
enum Step {
    /// Look again.
    Again,
    Over(Ending),
}

impl<'a> Life<'a> {
    async fn new(
        worker: &'a Arc<Worker>,
        session: i64,
        start: Start,
        seen: Seen,
        wishes: watch::Receiver<Wishes>,
        told: CancellationToken,
    ) -> Self {
        let replica = start.replica;
        let log = Log::open(worker, replica).await;
        Self { worker, replica, name: replica.container_name(), session, start, wishes, log, told, seen }
    }

    /// Steps until it is over and that is recorded. None: the program ends first.
    async fn run(&mut self) -> Option<Ending> {
        let mut pause = Backoff::default();
        loop {
            if self.worker.tasks.stop.is_cancelled() {
                return None;
            }
            match self.step().await {
                Ok(Step::Again) => pause.reset(),
                Ok(Step::Over(ending)) => return self.record(ending).await,
                Err(error) => {
                    self.missed(&error);
                    self.worker.tasks.stop.run_until_cancelled(pause.wait()).await;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Step, DockerError> {
        let container = self.worker.docker.inspect(&self.name).await?;
        match next(self.seen.launched, container.as_ref()) {
            Next::Prepare => self.prepare().await,
            Next::Launch => self.launch().await,
            Next::GiveUp => self.give_up_launched().await,
            Next::Attend { container, started_at } => self.attend(container, started_at).await,
            Next::Conclude(exit) => self.conclude(exit).await,
            Next::Vanished => Ok(self.vanished().await),
            Next::Wait => Err(DockerError::Conflict("it is being removed".into())),
        }
    }

    /// Docker was asked to start it, and has no such container: the guard removes what it finds made and
    /// not started yet; otherwise nobody knows.
    async fn vanished(&self) -> Step {
        let now = berth_common::time::now();
        Step::Over(match self.guard_killed_it().await {
            true => ending::could_not_start(ending::fenced(), now),
            false => ending::vanished(self.seen.signalled, now),
        })
    }

    async fn guard_killed_it(&self) -> bool {
        let (state_dir, name) = (self.worker.state_dir.clone(), self.name.clone());
        let noted = tokio::task::spawn_blocking(move || guard::is_noted(&state_dir, &name)).await;
        noted.expect("it does not panic, and a runtime that ends runs no more tasks")
    }

    fn missed(&mut self, error: &DockerError) {
        match error {
            // A daemon that goes breaks the waiting connection; the next call may block until it is back.
            // It may run, though it was not seen to yet.
            DockerError::Away(_) if self.seen.launched => {
                self.seen.missed_at.get_or_insert_with(berth_common::time::now);
            }
            DockerError::Away(_) => {}
            DockerError::NotFound(_)
            | DockerError::Conflict(_)
            | DockerError::Invalid(_)
            | DockerError::Failed(_) => {
                tracing::warn!(replica = %self.replica, %error, "Docker refused; trying again");
            }
        }
    }

    async fn record(&mut self, ending: Ending) -> Option<Ending> {
        let (replica, code, fault) = (self.replica, ending.exit_code, ending.fault.as_ref().map(|f| &f.text));
        tracing::info!(job.id = %replica.job, job.attempt = replica.attempt, exit_code = code, signalled = ending.signalled, fault, "ended");
        let of = &ending;
        let write = |inbox: Inbox| async move { inbox.ended(replica, of).await };
        self.worker.persist("record an ending", write).await?;
        self.worker.is_in(replica, HeldState::Exited);
        if self.log.is_idle() {
            self.log.close(self.worker, replica);
        }
        Some(ending)
    }
}
