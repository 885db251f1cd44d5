//! Docker as the worker uses it: a handful of calls, each of which either did what it says, or
//! tells what kind of refusal it met.
//!
//! Containers are addressed by name, which follows from job, attempt and replica; so a call that
//! is repeated after a crash or a lost answer meets the same container.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use berth_common::id::Replica;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum};
use bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptions, KillContainerOptions, ListContainersOptions, LogsOptions,
    RemoveContainerOptions, WaitContainerOptions,
};
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use uuid::Uuid;

use crate::container::{LABEL_ATTEMPT, LABEL_DEVICE, LABEL_INSTANCE, LABEL_JOB, LABEL_REPLICA};

/// A pull that shows no progress for so long is given up; a registry answers or it does not.
const PULL_IDLE: Duration = Duration::from_secs(300);
/// Of Docker's words; what it says beyond is a repetition of the request.
const MAX_WORDS: usize = 4096;

/// What Docker answered instead of doing it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DockerError {
    /// The daemon did not answer: nothing is known about the call.
    #[error("Docker does not answer: {0}")]
    Away(String),
    #[error("{0}")]
    NotFound(String),
    /// Another container has the name, or this one is not in the state for it.
    #[error("{0}")]
    Conflict(String),
    /// It will be refused each time.
    #[error("{0}")]
    Invalid(String),
    /// Docker failed; another try may do.
    #[error("{0}")]
    Failed(String),
}

impl From<Error> for DockerError {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                let words = cut(&message);
                match status_code {
                    404 => Self::NotFound(words),
                    409 => Self::Conflict(words),
                    400 | 401 | 403 => Self::Invalid(words),
                    _ => Self::Failed(words),
                }
            }
            Error::DockerStreamError { error } => Self::Failed(cut(&error)),
            other => Self::Away(cut(&other.to_string())),
        }
    }
}

fn cut(words: &str) -> String {
    words
        .chars()
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= MAX_WORDS).then_some(c)
        })
        .collect()
}

/// A container as `inspect` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub id: String,
    pub stage: Stage,
    /// Port in the container to port on the host.
    pub ports: BTreeMap<u16, u16>,
    /// What the image wants to be stopped with.
    pub stop_signal: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Made, and not running; after a start that failed, with the code that Docker gave it.
    Created {
        exit_code: Option<i64>,
    },
    Running {
        started_at: Option<Timestamp>,
    },
    Exited(Exit),
    /// On its way out.
    Removing,
}

/// How a container ended, as Docker tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    pub code: i64,
    pub oom: bool,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

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
    /// Addresses the daemon (`DOCKER_HOST`, else Docker's own default); does not call it yet.
    ///
    /// # Errors
    /// When `DOCKER_HOST` cannot be read.
    pub fn connect() -> Result<Self, String> {
        let api = bollard::Docker::connect_with_defaults().map_err(|error| error.to_string())?;
        Ok(Self { api })
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

    /// # Errors
    /// As Docker refuses it.
    pub async fn start(&self, name: &str) -> Result<(), DockerError> {
        Ok(self.api.start_container(name, None).await?)
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

    /// Removes it, running or not, with its anonymous volumes. `true`: it is known to be gone.
    ///
    /// # Errors
    /// When the daemon does not answer or fails.
    pub async fn remove(&self, name: &str) -> Result<bool, DockerError> {
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
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".into(), labels)])),
            ..Default::default()
        };
        let found = self.api.list_containers(Some(options)).await?;
        Ok(found
            .into_iter()
            .filter_map(|summary| {
                let replica = replica(summary.labels.as_ref()?)?;
                let running = summary.state.is_some_and(|state| state.to_string() == "running");
                Some(Listed { id: summary.id?, replica, running })
            })
            .collect())
    }

    /// What it writes, each piece with its time before it; ends when the container does.
    pub fn follow(
        &self,
        name: &str,
        since: Option<Timestamp>,
    ) -> impl Stream<Item = Result<LogOutput, DockerError>> {
        let options = LogsOptions {
            follow: true,
            stdout: true,
            stderr: true,
            timestamps: true,
            since: since.map_or(0, |at| i32::try_from(at.as_second()).unwrap_or(i32::MAX)),
            ..Default::default()
        };
        self.api.logs(name, Some(options)).map(|piece| piece.map_err(DockerError::from))
    }
}

/// Without a tag Docker would pull every one there is.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

/// Docker hides in its words what a registry answered.
fn refused_pull(error: DockerError) -> DockerError {
    const REGISTRY_AWAY: [&str; 6] = [
        "no such host",
        "dial tcp",
        "timeout",
        "connection refused",
        "server misbehaving",
        "toomanyrequests",
    ];
    const NO_SUCH_IMAGE: [&str; 7] = [
        "not found",
        "does not exist",
        "denied",
        "unauthorized",
        "manifest unknown",
        "no matching manifest",
        "invalid reference",
    ];
    let DockerError::Failed(words) = &error else { return error };
    let lower = words.to_ascii_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| lower.contains(phrase));
    if !says(&REGISTRY_AWAY) && says(&NO_SUCH_IMAGE) { DockerError::Invalid(words.clone()) } else { error }
}

fn replica(labels: &HashMap<String, String>) -> Option<Replica> {
    Some(Replica {
        job: labels.get(LABEL_JOB)?.parse().ok()?,
        attempt: labels.get(LABEL_ATTEMPT)?.parse().ok()?,
        replica: labels.get(LABEL_REPLICA)?.parse().ok()?,
    })
}

fn container(answer: ContainerInspectResponse) -> Container {
    let state = answer.state.unwrap_or_default();
    let started_at = state.started_at.as_deref().and_then(time);
    let exit = Exit {
        code: state.exit_code.unwrap_or_default(),
        oom: state.oom_killed.unwrap_or(false),
        started_at,
        finished_at: state.finished_at.as_deref().and_then(time),
    };
    let stage = match state.status {
        Some(ContainerStateStatusEnum::CREATED) | None => {
            Stage::Created { exit_code: state.exit_code.filter(|&code| code != 0) }
        }
        Some(
            ContainerStateStatusEnum::RUNNING
            | ContainerStateStatusEnum::PAUSED
            | ContainerStateStatusEnum::RESTARTING
            | ContainerStateStatusEnum::STOPPING
            | ContainerStateStatusEnum::EMPTY,
        ) => Stage::Running { started_at },
        Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD) => Stage::Exited(exit),
        Some(ContainerStateStatusEnum::REMOVING) => Stage::Removing,
    };
    let published = answer.network_settings.and_then(|settings| settings.ports).unwrap_or_default();
    Container {
        id: answer.id.unwrap_or_default(),
        stage,
        ports: published.iter().filter_map(|(inside, outside)| port(inside, outside.as_deref()?)).collect(),
        stop_signal: answer
            .config
            .and_then(|config| config.stop_signal)
            .filter(|signal| !signal.is_empty())
            .unwrap_or_else(|| "SIGTERM".into()),
    }
}

fn port(inside: &str, outside: &[bollard::models::PortBinding]) -> Option<(u16, u16)> {
    let inside = inside.split('/').next()?.parse().ok()?;
    let outside = outside.iter().find_map(|binding| binding.host_port.as_deref()?.parse().ok())?;
    Some((inside, outside))
}

/// Docker writes the year 1 for "never".
fn time(text: &str) -> Option<Timestamp> {
    let at: Timestamp = text.parse().ok()?;
    (at > Timestamp::UNIX_EPOCH).then(|| berth_common::time::to_micros(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_tag_is_its_latest() {
        assert_eq!(with_tag("busybox"), "busybox:latest");
        assert_eq!(with_tag("host:5000/team/train"), "host:5000/team/train:latest");
        assert_eq!(with_tag("host:5000/team/train:2"), "host:5000/team/train:2");
        assert_eq!(with_tag("busybox@sha256:00"), "busybox@sha256:00");
    }

    #[test]
    fn a_registry_that_is_away_is_not_an_image_that_is_not_there() {
        let kind = |words: &str| refused_pull(DockerError::Failed(words.into()));
        let away = "Get \"https://r.example/v2/\": dial tcp: lookup r.example: no such host";
        assert_eq!(kind(away), DockerError::Failed(away.into()));
        let denied = "pull access denied for x, repository does not exist or may require 'docker login'";
        assert_eq!(kind(denied), DockerError::Invalid(denied.into()));
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        assert_eq!(cut(&"ä".repeat(5000)).len(), MAX_WORDS);
    }

    #[test]
    fn never_is_no_time() {
        assert_eq!(time("0001-01-01T00:00:00Z"), None);
        assert!(time("2026-11-21T10:05:33.123456789Z").is_some());
    }
}
