//! Watching Docker's containers without disturbing it: its events wake us, inspect tells the rest.
//!
//! Nothing is polled while a container starts: on a small machine that would slow what is measured.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, bail};
use berth_common::time::now;
use bollard::Docker;
use bollard::models::{ContainerInspectResponse, EventMessage};
use bollard::query_parameters::{EventsOptions, KillContainerOptions};
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Longer than any start or end on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Starts, ends and removals of containers since it was opened.
pub struct Watch {
    api: Docker,
    events: mpsc::UnboundedReceiver<EventMessage>,
    reader: JoinHandle<()>,
}

/// A container that runs, as Docker itself tells.
pub struct Running {
    /// Docker has taken the request to make it.
    pub created: Timestamp,
    pub started: Timestamp,
    pub inspected: ContainerInspectResponse,
}

impl Watch {
    /// # Errors
    /// When Docker does not answer.
    pub async fn open() -> anyhow::Result<Self> {
        let api = Docker::connect_with_defaults().context("finding Docker")?;
        api.ping().await.context("Docker does not answer")?;
        // The stream begins when it is first read; with a time it misses nothing all the same.
        let from = now();
        let since = Some(format!("{}.{:09}", from.as_second(), from.subsec_nanosecond()));
        let filters = HashMap::from([
            ("type".into(), vec!["container".into()]),
            ("event".into(), ["start", "die", "destroy"].map(str::to_owned).to_vec()),
        ]);
        let (sender, events) = mpsc::unbounded_channel();
        let of = api.clone();
        let reader = tokio::spawn(async move {
            let options = EventsOptions { since, until: None, filters: Some(filters) };
            let mut stream = std::pin::pin!(of.events(Some(options)));
            // Ends with Docker, which the one who waits sees as the end of the channel.
            while let Some(Ok(event)) = stream.next().await {
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Ok(Self { api, events, reader })
    }

    /// Waits until the container of that name runs.
    ///
    /// # Errors
    /// When it does not within the limit.
    pub async fn running(&mut self, name: &str) -> anyhow::Result<Running> {
        self.event(name, "start").await?;
        let inspected = self.api.inspect_container(name, None).await.context("inspecting a container")?;
        let started = inspected.state.as_ref().and_then(|state| state.started_at.clone());
        Ok(Running {
            created: time(inspected.created.clone(), name, "created")?,
            started: time(started, name, "started")?,
            inspected,
        })
    }

    /// Waits until the container of that name runs, and says since when.
    ///
    /// # Errors
    /// When it does not within the limit.
    pub async fn started(&mut self, name: &str) -> anyhow::Result<Timestamp> {
        self.event(name, "start").await
    }

    /// Waits until the container of that name has ended. When its process did, says Docker; where somebody
    /// was faster and has removed it, the time of Docker's event, which comes a little later.
    ///
    /// # Errors
    /// When it does not end within the limit.
    pub async fn died(&mut self, name: &str) -> anyhow::Result<Timestamp> {
        let told = self.event(name, "die").await?;
        match self.api.inspect_container(name, None).await {
            Ok(container) => time(container.state.and_then(|state| state.finished_at), name, "ended"),
            Err(_) => Ok(told),
        }
    }

    /// Waits until the container of that name is gone, and says since when.
    ///
    /// # Errors
    /// When it is not within the limit.
    pub async fn gone(&mut self, name: &str) -> anyhow::Result<Timestamp> {
        self.event(name, "destroy").await
    }

    /// Ends a running container.
    ///
    /// # Errors
    /// When there is none.
    pub async fn kill(&self, name: &str) -> anyhow::Result<()> {
        let options = KillContainerOptions { signal: "SIGKILL".into() };
        self.api.kill_container(name, Some(options)).await.with_context(|| format!("ending {name}"))
    }

    async fn event(&mut self, name: &str, action: &str) -> anyhow::Result<Timestamp> {
        let seen = tokio::time::timeout(LIMIT, async {
            while let Some(event) = self.events.recv().await {
                if event.action.as_deref() == Some(action) && name_of(&event) == Some(name) {
                    return Some(event);
                }
            }
            None
        });
        let event = match seen.await {
            Ok(Some(event)) => event,
            Ok(None) => bail!("Docker's events ended"),
            Err(_) => bail!("no `{action}` of the container {name} within {} s", LIMIT.as_secs()),
        };
        let at = event.time_nano.context("Docker tells an event's time")?;
        Timestamp::from_nanosecond(at.into()).context("the time of an event")
    }
}

fn time(text: Option<String>, name: &str, what: &str) -> anyhow::Result<Timestamp> {
    let text = text.with_context(|| format!("Docker does not say when {name} was {what}"))?;
    text.parse().with_context(|| format!("the time at which {name} was {what}: {text}"))
}

fn name_of(event: &EventMessage) -> Option<&str> {
    event.actor.as_ref()?.attributes.as_ref()?.get("name").map(String::as_str)
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
