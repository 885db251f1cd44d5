//! The rows of the control database as the core knows them: what it is loaded from ([`Snapshot`],
//! [`Facts`]) and what a step wants written ([`Rows`]).
//!
//! They carry every column that the core reads or decides; how they lie in tables is the store's
//! affair alone.

use std::collections::BTreeMap;

use berth_common::command::CommandView;
use berth_common::device::DeviceState;
use berth_common::id::{JobId, Replica};
use berth_common::inventory::Gpu;
use berth_common::job::{AttemptStatus, Outcome, Status, StopReason};
use berth_common::message::ToDevice;
use berth_common::queue::Queue;
use berth_common::spec::JobSpec;
use jiff::Timestamp;
use uuid::Uuid;

use super::job::End;

/// A job: what was asked, and where it is in its life.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRow {
    pub id: JobId,
    /// The owner's number; containers carry it.
    pub uid: i64,
    pub owner: String,
    pub priority: i32,
    pub spec: JobSpec,
    /// [`JobSpec::hash`] of what was submitted; of an array's element, of the whole array.
    pub body_hash: String,
    pub array: Option<ArrayPlace>,
    pub life: Life,
}

/// Where a job stands in its array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArrayPlace {
    pub id: Uuid,
    /// From 0.
    pub index: u32,
}

/// The part of a job that changes; `core::job` is the only place that changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    pub status: Status,
    /// While and only while `status` is `exited`.
    pub outcome: Option<Outcome>,
    /// Only while `pending`.
    pub held: bool,
    /// Only while `scheduled` or `running`.
    pub stopping: Option<StopReason>,
    /// Between SIGTERM and SIGKILL; while and only while `stopping` is set.
    pub grace_ms: Option<i64>,
    /// Number of the newest attempt; 0 before the first.
    pub attempt: u32,
    pub failures: u32,
    pub faults: u32,
    /// Not to be placed before this time: as submitted, or a back-off.
    pub not_before: Option<Timestamp>,
    pub exit_code: Option<i64>,
    pub error: Option<String>,
    pub submitted_at: Timestamp,
    /// Of the newest attempt.
    pub scheduled_at: Option<Timestamp>,
    /// Of the newest attempt: when every replica ran.
    pub started_at: Option<Timestamp>,
    /// While and only while `status` is `exited`.
    pub exited_at: Option<Timestamp>,
}

/// One container: a replica of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerRow {
    pub cid: i64,
    pub replica: Replica,
    pub uid: i64,
    pub did: i64,
    /// Session of the device in which it was sent.
    pub session: i64,
    /// Number of its start message.
    pub order_id: i64,
    pub cpu_milli: i64,
    pub memory_mb: i64,
    pub gids: Vec<i64>,
    pub password: String,
    pub ports: BTreeMap<String, u16>,
    /// Of replica 0 of a gang: where the others find it.
    pub master_port: Option<u16>,
    pub status: AttemptStatus,
    pub docker_id: Option<String>,
    pub exit_code: Option<i64>,
    pub oom: bool,
    pub error: Option<String>,
    pub scheduled_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub exited_at: Option<Timestamp>,
    /// How it ended, whole: a gang is judged when its last container is gone, perhaps by another leader.
    pub ending: Option<End>,
}

/// A GPU that is taken. Its key is (cell, gid): two owners cannot be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReservationRow {
    pub gid: i64,
    pub cid: i64,
    pub did: i64,
    pub job: JobId,
    pub reserved_at: Timestamp,
}

/// A reservation that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    pub gid: i64,
    pub cid: i64,
    pub released_at: Timestamp,
}

/// A device and what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRow {
    pub did: i64,
    pub name: String,
    pub ip: String,
    pub cpu_milli: i64,
    pub cpu_name: String,
    pub memory_mb: i64,
    pub data_dir: String,
    pub pub_dir: Option<String>,
    pub engine: String,
    pub gpus_declared: bool,
    /// What jobs may ask for by their `constraints`.
    pub labels: BTreeMap<String, String>,
    /// The GPUs that it has now (`core.gpu` joined with `core.gpu_device`), by place.
    pub gpus: Vec<GpuRow>,
}

impl DeviceRow {
    /// Whether it has all these labels.
    #[must_use]
    pub fn carries(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuRow {
    pub gid: i64,
    pub gpu: Gpu,
}

/// The changing part of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceStateRow {
    pub did: i64,
    pub worker_id: Uuid,
    pub boot: Uuid,
    pub state: DeviceState,
    /// 0 before the first welcome.
    pub session: i64,
    pub note: Option<String>,
    /// Somebody wants nothing started there; it stays so when the device is lost and comes back.
    pub drained: bool,
    pub last_seen_at: Timestamp,
}

/// How much GPU time a queue has used, decayed to a time: among queues it decides whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueUsageRow {
    pub queue: String,
    /// GPU-milliseconds, from 0 on, not counting what runs since `at`.
    pub gpu_ms: i64,
    /// The time to which it was decayed.
    pub at: Timestamp,
}

/// A line of a job's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEventRow {
    /// From the leader's numbers: grows with time.
    pub seq: i64,
    pub job: JobId,
    pub from: Option<Status>,
    pub to: Status,
    /// A user's name, `scheduler`, or `device:<name>`.
    pub actor: String,
    pub reason: Option<String>,
    pub at: Timestamp,
}

/// A message to a device that is to be published after the commit.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxRow {
    pub device: String,
    /// Its `id` is the row's key.
    pub message: ToDevice,
    pub created_at: Timestamp,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    pub uid: i64,
    pub name: String,
    pub role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    User,
    Admin,
}

impl Role {
    pub const ALL: &'static [Self] = &[Self::User, Self::Admin];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }
}

/// Everything that one step wants written, in one transaction. Each job, container and device
/// stands in it once at most, as it is at the end of the step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    pub new_devices: Vec<DeviceRow>,
    /// Inventory changed: columns, and the set of GPUs on it.
    pub devices: Vec<DeviceRow>,
    /// GPUs never seen before, on any device; they are also in their device's `gpus`.
    pub new_gpus: Vec<GpuRow>,
    pub new_device_states: Vec<DeviceStateRow>,
    pub device_states: Vec<DeviceStateRow>,
    pub new_jobs: Vec<JobRow>,
    /// Of a known job only `priority` and `life` change.
    pub jobs: Vec<JobRow>,
    /// Jobs of which a command changed the specification too; they are also among `jobs`.
    pub respecified: Vec<JobRow>,
    pub new_containers: Vec<ContainerRow>,
    pub containers: Vec<ContainerRow>,
    pub reservations: Vec<ReservationRow>,
    pub releases: Vec<Release>,
    pub new_commands: Vec<CommandView>,
    pub commands: Vec<CommandView>,
    pub events: Vec<JobEventRow>,
    pub outbox: Vec<OutboxRow>,
    pub new_queues: Vec<Queue>,
    pub queues: Vec<Queue>,
    /// By name.
    pub deleted_queues: Vec<String>,
    /// Each instead of what was stored; one whose queue is not there after this step is left out.
    pub queue_usages: Vec<QueueUsageRow>,
    /// Devices that were deleted: their state, their hold on GPUs and the messages to them go; the
    /// device itself stays for the history of its containers.
    pub forgotten_devices: Vec<ForgottenDevice>,
    /// The restore of a backup is over and done with: `recovering` is cleared in the leader's row.
    pub recovered: bool,
    /// The leader's row must promise that no number below this is free any more.
    pub next_id: Option<i64>,
}

impl Rows {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A device that an admin deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgottenDevice {
    pub did: i64,
    pub name: String,
}

/// All that a leader needs to begin: everything unfinished.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub instance: Uuid,
    /// From which the containers' passwords are derived.
    pub secret: String,
    /// The first number that is free.
    pub next_id: i64,
    /// Attempts are numbered beyond this: those that a restored backup does not know stay below it.
    pub attempt_floor: u32,
    /// A backup was restored, and what workers have that it does not know must not be stopped yet.
    pub recovering: bool,
    pub queues: Vec<Queue>,
    /// Of those that have used anything.
    pub queue_usages: Vec<QueueUsageRow>,
    /// Those without a state were deleted, and may come back.
    pub devices: Vec<DeviceRow>,
    /// Every GPU that was ever seen, also those that no device has now.
    pub gpus: Vec<GpuRow>,
    pub device_states: Vec<DeviceStateRow>,
    /// Those that have not exited.
    pub jobs: Vec<JobRow>,
    /// Those that have not exited, and of jobs that are placed also those of the present attempt that have.
    pub containers: Vec<ContainerRow>,
    pub reservations: Vec<ReservationRow>,
    /// Those that are pending.
    pub commands: Vec<CommandView>,
    /// Not published, or published and not yet deleted.
    pub outbox: Vec<OutboxRow>,
}

/// What a batch of inputs names and memory may lack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    pub jobs: Vec<JobId>,
    pub users: Vec<String>,
    pub commands: Vec<Uuid>,
    /// Jobs or arrays that others come after.
    pub dependencies: Vec<Uuid>,
    /// Queues of which it must be known whether a job ever was in them.
    pub queues: Vec<String>,
}

impl Needs {
    /// Each thing once.
    #[must_use]
    pub fn distinct(mut self) -> Self {
        for ids in [&mut self.jobs, &mut self.commands, &mut self.dependencies] {
            ids.sort_unstable();
            ids.dedup();
        }
        for names in [&mut self.users, &mut self.queues] {
            names.sort_unstable();
            names.dedup();
        }
        self
    }
}

/// The answer to [`Needs`]: what of it is in the database.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub jobs: Vec<JobRow>,
    pub users: Vec<UserRow>,
    pub commands: Vec<CommandView>,
    /// Those named by [`Needs::dependencies`], and those that the jobs above come after.
    pub dependencies: Vec<DependencyRow>,
    /// Of those named by [`Needs::queues`], the ones that some job, also one that exited, is in.
    pub used_queues: Vec<String>,
}

/// A job that others come after, by its own id or its array's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DependencyRow {
    pub id: JobId,
    pub array: Option<Uuid>,
    pub owner: String,
    pub outcome: Option<Outcome>,
}
