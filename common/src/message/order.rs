//! What the leader tells a device.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::Replica;
use crate::job::StopReason;
use crate::spec::JobSpec;

/// A numbered message to a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToDevice {
    pub session: i64,
    pub id: i64,
    #[serde(flatten)]
    pub order: Order,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    Start(Box<Start>),
    Stop(Stop),
    /// "What became of this one?" An [`super::Event::Answer`] is due.
    Ask(Replica),
    /// Run something beside the job's program; an [`super::Event::Executed`] is due.
    Exec(Exec),
    /// Its time limit has changed.
    Limit(Limit),
    Welcome(Welcome),
}

/// Run one container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    #[serde(flatten)]
    pub replica: Replica,
    pub owner: String,
    pub spec: JobSpec,
    pub gpus: Vec<StartGpu>,
    /// For ssh and Jupyter in the container.
    pub password: String,
    /// Seconds that it may run, the queue's default included.
    #[serde(default)]
    pub timeout_s: Option<u64>,
    /// Its place in its array, from 0.
    #[serde(default)]
    pub array_index: Option<u32>,
    /// Only where the attempt has several replicas.
    #[serde(default)]
    pub gang: Option<Gang>,
}

/// How the replicas of an attempt find each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gang {
    pub replicas: u32,
    /// Address of the device that has replica 0.
    pub master_addr: String,
    /// A port of that device which no other live gang was given.
    pub master_port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartGpu {
    pub uuid: String,
    pub idx: u32,
    #[serde(rename = "type")]
    pub kind: String,
}

/// Stop one container: SIGTERM, and SIGKILL after the grace time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    #[serde(flatten)]
    pub replica: Replica,
    pub reason: StopReason,
    pub grace_ms: u64,
}

/// Run an argument list in a container, without a shell, at most once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The command's id: one that was taken before is not run again, whatever number it comes with.
    pub command: Uuid,
    #[serde(flatten)]
    pub replica: Replica,
    pub argv: Vec<String>,
    pub timeout_s: u64,
}

/// The time that one container may run from now on, counted from its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    #[serde(flatten)]
    pub replica: Replica,
    /// None: as long as it likes.
    pub timeout_s: Option<u64>,
}

/// The leader's answer to a heartbeat without the current session. It starts nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// For which process of the worker it is.
    pub boot: Uuid,
    /// The installation that speaks.
    pub instance: Uuid,
    /// What the leader believes to be on the device.
    pub expected: Vec<Replica>,
    /// Without a confirm of the broker for so long, the worker has no session any more.
    pub fence_after_s: u64,
}
