//! A container as Docker shows it, in the worker's terms.

use std::collections::BTreeMap;

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, PortBinding};
use jiff::Timestamp;

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

pub(super) fn container(answer: ContainerInspectResponse) -> Container {
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

fn port(inside: &str, outside: &[PortBinding]) -> Option<(u16, u16)> {
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
    fn never_is_no_time() {
        assert_eq!(time("0001-01-01T00:00:00Z"), None);
        assert!(time("2026-11-21T10:05:33.123456789Z").is_some());
    }
}
