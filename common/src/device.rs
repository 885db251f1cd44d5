//! Devices as their users see them: the answer of `GET /v1/devices/{name}`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::JobId;
use crate::job::words;

words! {
    /// Whether a device takes jobs.
    DeviceState {
        Up = "up",
        /// By command: what runs there goes on, nothing new starts.
        Draining = "draining",
        /// By its own report: what runs there goes on, nothing new starts.
        Degraded = "degraded",
        /// No heartbeat for a long time.
        Lost = "lost",
    }
}

/// What `GET /v1/devices/{name}` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceView {
    pub name: String,
    pub state: DeviceState,
    /// Why it is in this state, in somebody's words.
    pub note: Option<String>,
    pub ip: String,
    pub cpus: f64,
    pub cpu_name: String,
    pub memory_mb: i64,
    /// What the jobs on it have reserved.
    pub cpus_used: f64,
    pub memory_used_mb: i64,
    pub gpus: Vec<DeviceGpuView>,
    /// Whether its GPUs were declared by configuration instead of measured.
    pub gpus_declared: bool,
    pub engine: String,
    /// What jobs may ask for by their `constraints`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub session: Option<i64>,
    #[serde(with = "crate::time::option")]
    pub last_seen_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceGpuView {
    pub id: i64,
    pub idx: u32,
    #[serde(rename = "type")]
    pub kind: String,
    pub uuid: String,
    pub memory_mb: i64,
    /// Whether no job has it.
    pub free: bool,
    /// The job that has it, where the reader may see that job.
    #[schema(value_type = Option<uuid::Uuid>)]
    pub job: Option<JobId>,
}
