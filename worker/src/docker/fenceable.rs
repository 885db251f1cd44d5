//! The containers that a fence kills, as Docker lists them.

use bollard::models::ContainerSummaryStateEnum;
use uuid::Uuid;

use super::{Docker, DockerError, replica};
use crate::container::{LABEL_DEVICE, LABEL_DISCONNECT, LABEL_INSTANCE, REQUEUE};

/// A container whose job may run elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fenceable {
    pub name: String,
    pub alive: Alive,
}

/// What of a container is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alive {
    /// It was made, and may be started.
    Made,
    Running,
}

impl Docker {
    /// Those of this device and installation that run or may be started, and are marked as
    /// `disconnect: requeue`.
    ///
    /// # Errors
    /// When the daemon does not answer or fails.
    pub async fn fenceable(&self, device: &str, instance: Uuid) -> Result<Vec<Fenceable>, DockerError> {
        let labels = vec![
            format!("{LABEL_DEVICE}={device}"),
            format!("{LABEL_INSTANCE}={instance}"),
            format!("{LABEL_DISCONNECT}={REQUEUE}"),
        ];
        let found = self.labelled(labels).await?;
        let fenceable = found.into_iter().filter_map(|summary| {
            let replica = replica(summary.labels.as_ref()?)?;
            Some(Fenceable { name: replica.container_name(), alive: alive(summary.state?)? })
        });
        Ok(fenceable.collect())
    }
}

fn alive(state: ContainerSummaryStateEnum) -> Option<Alive> {
    match state {
        ContainerSummaryStateEnum::CREATED => Some(Alive::Made),
        ContainerSummaryStateEnum::RUNNING
        | ContainerSummaryStateEnum::PAUSED
        | ContainerSummaryStateEnum::RESTARTING
        | ContainerSummaryStateEnum::STOPPING
        | ContainerSummaryStateEnum::EMPTY => Some(Alive::Running),
        ContainerSummaryStateEnum::EXITED
        | ContainerSummaryStateEnum::DEAD
        | ContainerSummaryStateEnum::REMOVING => None,
    }
}
