//! Before it runs: the image, the container, the start.

use std::time::Duration;

use berth_common::message::{Fault, FaultKind, HeldState};

use super::{Life, Step};
use crate::agent::{self, Before, Go};
use crate::container::{Place, configure};
use crate::docker::{DockerError, Stage};
use crate::ending::{self, fault};
use crate::worker::Backoff;

/// The clock is looked at so often while a lost session has not been ended yet: a moment later it is.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Life<'_> {
    /// There is no container yet: gets the image and makes one.
    pub(super) async fn prepare(&mut self) -> Result<Step, DockerError> {
        match self.until_go().await {
            Go::Start => {}
            Go::Stop => return Ok(stopped()),
            Go::Wait => return Ok(Step::Again),
        }
        if let Some(step) = self.image().await? {
            return Ok(step);
        }
        let (folders, start) = (self.worker.folders.clone(), self.start.clone());
        let binds = tokio::task::spawn_blocking(move || folders.binds(&start)).await;
        let binds = match binds.expect("it does not panic, and a runtime that ends runs no more tasks") {
            Ok(binds) => binds,
            Err(fault) => return Ok(failed(fault)),
        };
        let Some(instance) = self.worker.numbers().instance else {
            return Ok(Step::Again); // a permission without an instance cannot be; look again
        };
        let engine = self.worker.engine.borrow().clone();
        let host_cpu_milli = engine.and_then(|engine| engine.cpus).map(|cpus| cpus.saturating_mul(1000));
        let place = Place {
            device: self.worker.device.clone(),
            instance,
            host_cpu_milli,
            gang_network: self.worker.gang_network.clone(),
            binds,
        };
        let body = configure(&self.start, &place);
        let _call = self.worker.calls.acquire().await.expect("never closed");
        if !self.may_start() {
            return Ok(Step::Again);
        }
        match self.worker.docker.create(&self.name, body).await {
            Ok(()) => {
                self.worker.is_in(self.replica, HeldState::Created);
                Ok(Step::Again)
            }
            // One that an earlier try made shows at the next look; the pause is for one being removed.
            Err(error @ (DockerError::Away(_) | DockerError::Conflict(_))) => Err(error),
            // The image was removed since it was looked for: another try pulls it again.
            Err(DockerError::NotFound(words)) => Ok(failed(fault(FaultKind::Transient, words))),
            Err(error @ (DockerError::Invalid(_) | DockerError::Failed(_))) => {
                Ok(failed(ending::refused(&error)))
            }
        }
    }

    /// Makes sure that the image is here. Some: then there is nothing more to do for now.
    async fn image(&mut self) -> Result<Option<Step>, DockerError> {
        let image = self.start.spec.image.clone();
        match self.worker.docker.has_image(&image).await {
            Ok(true) => return Ok(None),
            Ok(false) => {}
            Err(error @ DockerError::Invalid(_)) => return Ok(Some(failed(ending::refused(&error)))),
            Err(error) => return Err(error),
        }
        self.worker.is_in(self.replica, HeldState::Pulling);
        tracing::info!(job.id = %self.replica.job, image, "pulling");
        let pull = async {
            let _place = self.worker.pulls.acquire().await.expect("never closed");
            self.worker.docker.pull(&image).await
        };
        let mut wishes = self.wishes.clone();
        tokio::select! {
            pulled = pull => match pulled {
                Ok(()) => Ok(None),
                Err(error @ DockerError::Away(_)) => Err(error),
                Err(error) => Ok(Some(failed(ending::refused(&error)))),
            },
            // What has been pulled so far stays with Docker; its container is never made.
            _ = wishes.wait_for(|wishes| wishes.stop.is_some()) => Ok(Some(stopped())),
            () = self.worker.tasks.stop.cancelled() => Ok(Some(Step::Again)),
        }
    }

    /// The container is there and was not started: starts it.
    pub(super) async fn launch(&mut self) -> Result<Step, DockerError> {
        match self.until_go().await {
            Go::Start => {}
            Go::Stop => return self.give_up(None).await,
            Go::Wait => return Ok(Step::Again),
        }
        self.worker.is_in(self.replica, HeldState::Created);
        let call = self.worker.calls.acquire().await.expect("never closed");
        let replica = self.replica;
        let noted =
            self.worker.persist("note a start", |inbox| async move { inbox.launching(replica).await }).await;
        // All of that can have taken long: a container that ended meanwhile would be started once more.
        let container = self.worker.docker.inspect(&self.name).await?;
        let created = container.filter(|container| matches!(container.stage, Stage::Created { .. }));
        let Some(container) = created.filter(|_| noted.is_some() && self.may_start()) else {
            return Ok(Step::Again);
        };
        self.seen.launched = true;
        // By its id: late, it does not start another that was made under this name meanwhile.
        let started = self.worker.docker.start(&container.id).await;
        drop(call);
        match started {
            Ok(()) => {
                self.log.follow(self.worker, &self.name);
                Ok(Step::Again)
            }
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

    /// Docker was asked to start it, by this process or one before, and it does not run. That request
    /// may still be on its way, so it is never asked again: what was removed cannot be started.
    pub(super) async fn give_up_launched(&mut self) -> Result<Step, DockerError> {
        let stop = self.wishes.borrow().stop;
        let text = "Docker was asked to start it and did not answer; it is not started a second time";
        self.give_up(stop.is_none().then(|| fault(FaultKind::Transient, text))).await
    }

    /// Removes a container that never ran; it is over when that is certain.
    async fn give_up(&mut self, fault: Option<Fault>) -> Result<Step, DockerError> {
        let mut pause = Backoff::default();
        while !self.worker.docker.remove(&self.name).await? {
            if self.worker.tasks.stop.run_until_cancelled(pause.wait()).await.is_none() {
                return Ok(Step::Again);
            }
        }
        Ok(fault.map_or_else(stopped, failed))
    }

    /// Waits until it may be started, or a stop has arrived, or the program ends.
    async fn until_go(&mut self) -> Go {
        loop {
            self.wishes.mark_unchanged();
            match self.go() {
                Go::Wait => {}
                decided @ (Go::Start | Go::Stop) => return decided,
            }
            tokio::select! {
                changed = self.wishes.changed() => if changed.is_err() { return Go::Wait },
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = self.worker.tasks.stop.cancelled() => return Go::Wait,
            }
        }
    }

    /// The last look before something is begun.
    fn may_start(&self) -> bool {
        self.go() == Go::Start && !self.worker.tasks.stop.is_cancelled()
    }

    fn go(&self) -> Go {
        let wishes = *self.wishes.borrow();
        agent::go(Before {
            permission: wishes.permission,
            stop_asked: wishes.stop.is_some(),
            session: self.worker.numbers().session,
            term_is_over: self.worker.lease.is_over(),
        })
    }
}

fn stopped() -> Step {
    Step::Over(ending::stopped_before_start(berth_common::time::now()))
}

fn failed(fault: Fault) -> Step {
    Step::Over(ending::could_not_start(fault, berth_common::time::now()))
}
