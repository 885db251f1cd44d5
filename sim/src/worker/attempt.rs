//! The life of one container (`worker/src/attempt.rs` and `attempt/prepare.rs`): look at Docker, do
//! the one thing that follows, look again.

use std::rc::Rc;
use std::time::Duration;

use crate::watch;
use berth_common::id::Replica;
use berth_common::message::{Ending, Event, Exited, Fault, FaultKind, HeldState, Start};
use berth_worker::agent::{self, Before, Go, Next, Permission, next};
use berth_worker::docker::{DockerError, Stage};
use berth_worker::ending::{self, fault};
use berth_worker::inbox::{Phase, Taken};
use jiff::Timestamp;

use super::{Backoff, Entry, Wishes, Worker};

const LOOK_AGAIN_MS: u64 = 1_000;

/// Looks after an attempt that was taken, in this process or in one before.
pub fn look_after(worker: &Rc<Worker>, taken: Taken, permission: Permission) {
    let replica = taken.replica;
    let (state, wishes) = match &taken.phase {
        Phase::Ended { .. } => (HeldState::Exited, Wishes { permission, stop: None, limit: None }),
        Phase::Live { stop, start, .. } => {
            let (stop, limit) =
                (stop.map(|stop| worker.stopping(stop)), start.timeout_s.map(Duration::from_secs));
            (HeldState::Taken, Wishes { permission, stop, limit })
        }
    };
    if worker.attempts.borrow().contains_key(&replica) {
        return;
    }
    let (wishes, receiver) = watch::channel(wishes);
    worker.attempts.borrow_mut().insert(replica, Entry { state, reported: false, wishes });
    let this = Rc::clone(worker);
    worker.w.exec.spawn(worker.pid, async move { live(this, taken, receiver).await });
}

async fn live(worker: Rc<Worker>, taken: Taken, wishes: watch::Receiver<Wishes>) {
    let replica = taken.replica;
    let ending = match taken.phase {
        Phase::Ended { ending, .. } => ending,
        Phase::Live { start, launched, fenced, stop } => {
            let told_before = stop.is_some();
            let seen = Seen { launched, before: launched, told_before, fenced, ..Seen::default() };
            let name = replica.container_name();
            let session = taken.session;
            let mut life = Life { worker: &worker, replica, name, session, start: *start, wishes, seen };
            life.run().await
        }
    };
    let session = worker.session().unwrap_or(taken.session);
    worker.until_confirmed(Event::Exited(Exited { replica, session, ending })).await;
    worker.persist(|inbox| inbox.reported(replica)).await;
    if let Some(entry) = worker.attempts.borrow_mut().get_mut(&replica) {
        entry.reported = true;
    }
    let mut pause = Backoff::default();
    while worker.docker.remove(&replica.container_name()).await != Ok(true) {
        pause.wait(&worker.w).await;
    }
    worker.of().notes.borrow_mut().remove(&replica.container_name());
    worker.attempts.borrow_mut().remove(&replica);
}

pub(super) struct Life<'a> {
    pub worker: &'a Rc<Worker>,
    pub replica: Replica,
    pub name: String,
    pub session: i64,
    pub start: Start,
    pub wishes: watch::Receiver<Wishes>,
    pub seen: Seen,
}

/// What this process has seen of it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub launched: bool,
    pub before: bool,
    pub told_before: bool,
    pub running: bool,
    pub runs_since_ms: Option<u64>,
    pub asked: bool,
    pub kill_again_ms: Option<u64>,
    pub signalled: bool,
    pub fenced: bool,
    pub missed_at: Option<Timestamp>,
    pub live_restore: bool,
}

/// What a step came to.
pub(super) enum Step {
    Again,
    Over(Ending),
}

impl Life<'_> {
    async fn run(&mut self) -> Ending {
        let mut pause = Backoff::default();
        loop {
            match self.step().await {
                Ok(Step::Again) => pause.reset(),
                Ok(Step::Over(ending)) => {
                    self.worker.persist(|inbox| inbox.ended(self.replica, &ending)).await;
                    self.worker.is_in(self.replica, HeldState::Exited);
                    return ending;
                }
                Err(error) => {
                    if self.seen.launched && matches!(error, DockerError::Away(_)) {
                        let now = self.worker.now();
                        self.seen.missed_at.get_or_insert(now);
                    }
                    pause.wait(&self.worker.w).await;
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
            Next::Attend { container: _, started_at } => self.attend(started_at).await,
            Next::Conclude(exit) => Ok(self.conclude(exit)),
            Next::Vanished => Ok(self.vanished()),
            Next::Wait => Err(DockerError::Conflict("it is being removed".into())),
        }
    }

    fn vanished(&self) -> Step {
        let now = self.worker.now();
        Step::Over(match self.guard_killed_it() {
            true => ending::could_not_start(ending::fenced(), now),
            false => ending::vanished(self.seen.signalled, now),
        })
    }

    pub fn guard_killed_it(&self) -> bool {
        self.worker.of().notes.borrow().contains(&self.name)
    }

    async fn prepare(&mut self) -> Result<Step, DockerError> {
        if self.until_go().await == Go::Stop {
            return Ok(self.stopped());
        }
        if let Some(step) = self.image().await? {
            return Ok(step);
        }
        if !self.may_start() {
            return Ok(Step::Again);
        }
        match self.worker.docker.create(&self.start).await {
            Ok(()) => {
                self.worker.is_in(self.replica, HeldState::Created);
                Ok(Step::Again)
            }
            Err(error @ (DockerError::Away(_) | DockerError::Conflict(_))) => Err(error),
            Err(DockerError::NotFound(words)) => Ok(self.failed(fault(FaultKind::Transient, words))),
            Err(error @ (DockerError::Invalid(_) | DockerError::Failed(_))) => {
                Ok(self.failed(ending::refused(&error)))
            }
        }
    }

    async fn image(&mut self) -> Result<Option<Step>, DockerError> {
        let image = self.start.spec.image.clone();
        if self.worker.docker.has_image(&image).await? {
            return Ok(None);
        }
        self.worker.is_in(self.replica, HeldState::Pulling);
        let mut wishes = self.wishes.clone();
        let pulled = tokio::select! {
            biased;
            pulled = self.worker.docker.pull(&image) => Some(pulled),
            () = wishes.wait_for(|wishes| wishes.stop.is_some()) => None,
        };
        match pulled {
            Some(Ok(())) => Ok(None),
            Some(Err(error @ DockerError::Away(_))) => Err(error),
            Some(Err(error)) => Ok(Some(self.failed(ending::refused(&error)))),
            None => Ok(Some(self.stopped())),
        }
    }

    async fn launch(&mut self) -> Result<Step, DockerError> {
        if self.until_go().await == Go::Stop {
            return self.give_up(None).await;
        }
        self.worker.is_in(self.replica, HeldState::Created);
        self.worker.persist(|inbox| inbox.launching(self.replica)).await;
        let container = self.worker.docker.inspect(&self.name).await?;
        let created = container.filter(|container| matches!(container.stage, Stage::Created { .. }));
        let Some(container) = created.filter(|_| self.may_start()) else { return Ok(Step::Again) };
        self.seen.launched = true;
        match self.worker.docker.start(&self.name, &container.id).await {
            Ok(()) => Ok(Step::Again),
            Err(error @ DockerError::Away(_)) => Err(error),
            Err(error) => {
                let exit_code = match self.worker.docker.inspect(&self.name).await? {
                    Some(container) => match container.stage {
                        Stage::Created { exit_code } => exit_code,
                        Stage::Exited(exit) => Some(exit.code),
                        Stage::Running { .. } | Stage::Removing => return Err(error),
                    },
                    None => None,
                };
                self.give_up(Some(ending::refused_start(&error, exit_code))).await
            }
        }
    }

    async fn give_up_launched(&mut self) -> Result<Step, DockerError> {
        let stop = self.wishes.borrow().stop;
        let text = "Docker was asked to start it and did not answer; it is not started a second time";
        self.give_up(stop.is_none().then(|| fault(FaultKind::Transient, text))).await
    }

    /// Removes a container that never ran.
    async fn give_up(&mut self, fault: Option<Fault>) -> Result<Step, DockerError> {
        let mut pause = Backoff::default();
        while !self.worker.docker.remove(&self.name).await? {
            pause.wait(&self.worker.w).await;
        }
        Ok(match fault {
            Some(fault) => self.failed(fault),
            None => self.stopped(),
        })
    }

    async fn until_go(&mut self) -> Go {
        loop {
            self.wishes.mark_unchanged();
            let decided = self.go();
            if decided != Go::Wait {
                return decided;
            }
            tokio::select! {
                biased;
                () = self.wishes.changed() => {}
                () = self.worker.w.exec.sleep(LOOK_AGAIN_MS) => {}
            }
        }
    }

    fn may_start(&self) -> bool {
        self.go() == Go::Start
    }

    fn go(&self) -> Go {
        let wishes = *self.wishes.borrow();
        agent::go(Before {
            permission: wishes.permission,
            stop_asked: wishes.stop.is_some(),
            session: self.worker.session(),
            term_is_over: self.worker.term_is_over(),
        })
    }

    fn stopped(&self) -> Step {
        Step::Over(ending::stopped_before_start(self.worker.now()))
    }

    fn failed(&self, fault: Fault) -> Step {
        Step::Over(ending::could_not_start(fault, self.worker.now()))
    }
}
