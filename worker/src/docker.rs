//! Docker as the worker uses it: a handful of calls, each of which either did what it says, or
//! tells what kind of refusal it met.
//!
//! Containers are addressed by name, which follows from job, attempt and replica; so a call that
//! is repeated after a crash or a lost answer meets the same container.

mod end;
mod error;
mod exec;
mod fenceable;
mod image;
mod orphans;
mod seen;

use std::collections::HashMap;
use std::time::Duration;

use berth_common::id::Replica;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerSummary};
use bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptions, KillContainerOptions, ListContainersOptions, LogsOptions,
    RemoveContainerOptions, WaitContainerOptions,
};
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use uuid::Uuid;

use self::error::refused_pull;
use self::image::{is_reference, with_tag};
use self::seen::container;
use crate::container::{LABEL_ATTEMPT, LABEL_DEVICE, LABEL_INSTANCE, LABEL_JOB, LABEL_REPLICA};

pub use self::error::DockerError;
pub use self::exec::{ExecEnd, ExecProcess};
pub use self::fenceable::{Alive, Fenceable};
pub use self::seen::{Container, Exit, Stage};

/// A pull that shows no progress for so long is given up; a registry answers or it does not.
const PULL_IDLE: Duration = Duration::from_secs(300);

/// A container of ours in Docker's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub id: String,
    pub replica: Replica,
    pub running: bool,
}

/// The daemon, as far as a worker must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    pub version: String,
    pub cpus: Option<i64>,
    /// Whether containers survive a restart of the daemon.
    pub live_restore: bool,
}

/// A handle on the daemon.
#[derive(Clone)]
pub struct Docker {
    api: bollard::Docker,
}

impl Docker {
    /// Whether the daemon's socket is there, if it has one: without it nothing can be addressed.
    #[must_use]
    pub fn has_socket() -> bool {
        let addressed = bollard::Docker::connect_with_defaults();
        !matches!(addressed, Err(bollard::errors::Error::SocketNotFoundError(_)))
    }

    /// Addresses the daemon (`DOCKER_HOST`, else Docker's own default); does not call it yet.
    ///
    /// # Errors
    /// When `DOCKER_HOST` cannot be read.
    pub fn connect() -> Result<Self, String> {
        let api = bollard::Docker::connect_with_defaults().map_err(|error| error.to_string())?;
        Ok(Self { api })
    }

    /// The same, with a `DOCKER_HOST` that another process has.
    ///
    /// # Errors
    /// When `host` cannot be read, or there is no such socket.
    pub fn connect_to(host: Option<&str>) -> Result<Self, DockerError> {
        let api = match host {
            Some(host) => bollard::Docker::connect_with_host(host),
            None => bollard::Docker::connect_with_defaults(),
        };
        Ok(Self { api: api? })
    }

    /// The API itself, for what only measures.
    #[must_use]
    pub fn api(&self) -> bollard::Docker {
        self.api.clone()
    }

    /// # Errors
    /// When the daemon does not answer.
    pub async fn engine(&self) -> Result<Engine, DockerError> {
        let info = self.api.info().await?;
        Ok(Engine {
            version: info.server_version.unwrap_or_default(),
            cpus: info.ncpu,
            live_restore: info.live_restore_enabled.unwrap_or(false),
        })
    }

    /// The container of that name, if there is one.
    ///
    /// # Errors
    /// When the daemon does not answer or fails.
    pub async fn inspect(&self, name: &str) -> Result<Option<Container>, DockerError> {
        match self.api.inspect_container(name, None).await.map_err(DockerError::from) {
            Ok(answer) => Ok(Some(container(answer))),
            Err(DockerError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// # Errors
    /// When the daemon does not answer or fails; `Invalid` for what is no image reference.
    pub async fn has_image(&self, image: &str) -> Result<bool, DockerError> {
        if !is_reference(image) {
            return Err(DockerError::Invalid(format!("invalid reference format: {image:?}")));
        }
        match self.api.inspect_image(image).await.map_err(DockerError::from) {
            Ok(_) => Ok(true),
            Err(DockerError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Pulls an image.
    ///
    /// # Errors
    /// `NotFound` or `Invalid` when there is no such image or no right to it.
    pub async fn pull(&self, image: &str) -> Result<(), DockerError> {
        let options =
            CreateImageOptions { from_image: Some(with_tag(image)), ..CreateImageOptions::default() };
        let mut progress = std::pin::pin!(self.api.create_image(Some(options), None, None));
        loop {
            match tokio::time::timeout(PULL_IDLE, progress.next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => return Err(refused_pull(error.into())),
                Err(_) => {
                    let seconds = PULL_IDLE.as_secs();
                    return Err(DockerError::Failed(format!("pulling {image}: no progress for {seconds} s")));
                }
            }
        }
    }

    /// Makes a container. A name that is taken already is `Conflict`.
    ///
    /// # Errors
    /// As Docker refuses it.
    pub async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<(), DockerError> {
        let options = CreateContainerOptions { name: Some(name.into()), ..Default::default() };
        self.api.create_container(Some(options), body).await?;
        Ok(())
    }

    /// Starts a container. By its id, a request that is late starts nothing that was made under its name since.
    ///
    /// # Errors
    /// As Docker refuses it; `NotFound` where that one was removed.
    pub async fn start(&self, id: &str) -> Result<(), DockerError> {
        Ok(self.api.start_container(id, None).await?)
    }

    /// Sends a signal. `false`: there is no running container of that name.
    ///
    /// # Errors
    /// When the daemon does not answer or fails.
    pub async fn signal(&self, name: &str, signal: &str) -> Result<bool, DockerError> {
        let options = KillContainerOptions { signal: signal.into() };
        match self.api.kill_container(name, Some(options)).await.map_err(DockerError::from) {
            Ok(()) => Ok(true),
            Err(DockerError::NotFound(_) | DockerError::Conflict(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until it does not run. Only for one that was started: `wait` on another answers at once.
    ///
    /// # Errors
    /// When the connection broke: nothing is known then.
    pub async fn wait(&self, name: &str) -> Result<(), DockerError> {
        let options = WaitContainerOptions { condition: "not-running".into() };
        let mut answers = std::pin::pin!(self.api.wait_container(name, Some(options)));
        match answers.next().await {
            Some(Ok(_)) | Some(Err(Error::DockerContainerWaitError { .. })) => Ok(()),
            Some(Err(error)) => Err(error.into()),
            None => Err(DockerError::Away("the answer ended early".into())),
        }
    }

    /// Removes it, running or not, with its anonymous volumes and with [processes](orphans) of which the
    /// daemon does not know. `true`: it is known to be gone.
    ///
    /// # Errors
    /// When the daemon does not answer or fails.
    pub async fn remove(&self, name: &str) -> Result<bool, DockerError> {
        if let Some(Container { id, stage: Stage::Created { .. }, .. }) = self.inspect(name).await? {
            orphans::kill(&id).await;
        }
        let options = RemoveContainerOptions { v: true, force: true, link: false };
        match self.api.remove_container(name, Some(options)).await.map_err(DockerError::from) {
            Ok(()) | Err(DockerError::NotFound(_) | DockerError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(self.inspect(name).await?.is_none())
    }

    /// The containers of this device and installation, running or not.
    ///
    /// # Errors
    /// When the daemon does not answer or fails.
    pub async fn list(&self, device: &str, instance: Uuid) -> Result<Vec<Listed>, DockerError> {
        let labels = vec![format!("{LABEL_DEVICE}={device}"), format!("{LABEL_INSTANCE}={instance}")];
        Ok(self
            .labelled(labels)
            .await?
            .into_iter()
            .filter_map(|summary| {
                let replica = replica(summary.labels.as_ref()?)?;
                let running = summary.state.is_some_and(|state| state.to_string() == "running");
                Some(Listed { id: summary.id?, replica, running })
            })
            .collect())
    }

    /// All containers that have all of these labels.
    async fn labelled(&self, labels: Vec<String>) -> Result<Vec<ContainerSummary>, DockerError> {
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".into(), labels)])),
            ..Default::default()
        };
        Ok(self.api.list_containers(Some(options)).await?)
    }

    /// The last piece that it wrote.
    ///
    /// # Errors
    /// When the daemon does not answer or fails.
    pub async fn last_piece(&self, name: &str) -> Result<Option<LogOutput>, DockerError> {
        let options = LogsOptions { tail: "1".into(), ..with_times() };
        let mut pieces = std::pin::pin!(self.api.logs(name, Some(options)));
        let mut last = None;
        while let Some(piece) = pieces.next().await {
            last = Some(piece?);
        }
        Ok(last)
    }

    /// What it writes, each piece with its time before it; ends when the container does.
    pub fn follow(
        &self,
        name: &str,
        since: Option<Timestamp>,
    ) -> impl Stream<Item = Result<LogOutput, DockerError>> {
        let options = LogsOptions {
            follow: true,
            since: since.map_or(0, |at| i32::try_from(at.as_second()).unwrap_or(i32::MAX)),
            ..with_times()
        };
        self.api.logs(name, Some(options)).map(|piece| piece.map_err(DockerError::from))
    }
}

fn replica(labels: &HashMap<String, String>) -> Option<Replica> {
    Some(Replica {
        job: labels.get(LABEL_JOB)?.parse().ok()?,
        attempt: labels.get(LABEL_ATTEMPT)?.parse().ok()?,
        replica: labels.get(LABEL_REPLICA)?.parse().ok()?,
    })
}

fn with_times() -> LogsOptions {
    LogsOptions { stdout: true, stderr: true, timestamps: true, ..Default::default() }
}
