//! A device as the leader knows it: what it has, what is taken, and how far the exchange with its
//! worker has come.
//!
//! GPUs, CPU and memory are taken when a container row is written and freed when the container is
//! *known* to be gone, never because someone wished it.

mod standing;

use std::collections::{BTreeMap, BTreeSet};

use berth_common::device::DeviceState;
use berth_common::id::Replica;
use berth_common::inventory::Inventory;
use berth_common::message::PROTOCOL;
use berth_common::spec::Resources;
use jiff::Timestamp;
use uuid::Uuid;

use super::placement::accepts;
use super::rows::{ContainerRow, DeviceRow, DeviceStateRow, GpuRow};

/// A second worker under the same name is refused for so long after the last heartbeat.
pub const NAME_TAKEN_MS: i64 = 15_000;
/// Four heartbeats: a device that has missed them gets nothing new.
pub const QUIET_MS: i64 = 20_000;
/// A welcome has so long to arrive before another one is sent to the same process.
pub const WELCOME_AGAIN_MS: i64 = 10_000;
/// A question that was not answered is asked again after this.
pub const ASK_AGAIN_MS: i64 = 15_000;
/// A start that no heartbeat has shown for so long is asked for.
pub const START_OVERDUE_MS: i64 = 15_000;
/// A device that has not taken a start for so long, nor the question that followed, takes no orders.
pub const UNTAKEN_MS: i64 = 60_000;
/// A stop that the worker has not taken for so long is sent again: it was lost, or overtaken.
pub const STOP_OVERDUE_MS: i64 = 15_000;
/// Beyond the grace time, before a stop is sent again.
pub const STOP_SLACK_MS: i64 = 5_000;
/// `last_seen_at` is written this often, not at each heartbeat.
pub const SEEN_WRITTEN_MS: i64 = 60_000;

/// A stop that was sent in the present session.
#[derive(Debug, Clone, Copy)]
pub struct SentStop {
    pub id: i64,
    pub sent: Timestamp,
    /// When it should have worked.
    pub due: Timestamp,
}

#[derive(Debug, Clone)]
pub struct Device {
    pub row: DeviceRow,
    /// None until its first welcome is decided.
    pub state: Option<DeviceStateRow>,
    /// When its last heartbeat was read; the time of the load before the first.
    pub seen: Timestamp,
    /// For which process the last welcome was, and when it was sent.
    pub welcomed: Option<(Uuid, Timestamp)>,
    pub stops: BTreeMap<Replica, SentStop>,
    pub asked: BTreeMap<Replica, Timestamp>,
    /// Live containers on it.
    pub containers: BTreeSet<Replica>,
    /// The version of the messages that its worker speaks, as last told.
    pub protocol: u32,
    /// How its GPUs are linked, as last told: not in its row, so not known after a load until it tells again.
    pub links: Vec<Vec<u8>>,
    /// What its worker said last about why nothing should start there.
    pub health: Option<String>,
    /// What its worker listed last and nobody believes to be there: it is being stopped, and may still
    /// use GPUs that are free for us.
    strangers: BTreeSet<Replica>,
    /// It may have some: it was loaded so, or has begun a session without a list.
    unlisted: bool,
    /// Its worker is heard, and has not taken what was sent to it for too long.
    deaf: bool,
    /// Containers for which it fetches the image, as its worker has listed them last.
    pulling: BTreeSet<Replica>,
    /// Where gangs of which it has replica 0 meet.
    master_ports: BTreeSet<u16>,
    taken_gpus: BTreeSet<i64>,
    taken_cpu_milli: i64,
    taken_memory_mb: i64,
}

impl Device {
    /// As it is registered, or as the database has it. One that took nothing when it was written may
    /// have old containers, which only its next list shows, or hear nothing.
    #[must_use]
    pub fn new(row: DeviceRow, state: Option<DeviceStateRow>, now: Timestamp) -> Self {
        let takes_nothing = [DeviceState::Degraded, DeviceState::Draining];
        let unlisted = state.as_ref().is_some_and(|state| takes_nothing.contains(&state.state));
        let deaf = state.as_ref().is_some_and(|state| state.state == DeviceState::Degraded);
        Self {
            row,
            state,
            seen: now,
            welcomed: None,
            stops: BTreeMap::new(),
            asked: BTreeMap::new(),
            containers: BTreeSet::new(),
            protocol: PROTOCOL,
            links: Vec::new(),
            health: None,
            strangers: BTreeSet::new(),
            unlisted,
            deaf,
            pulling: BTreeSet::new(),
            master_ports: BTreeSet::new(),
            taken_gpus: BTreeSet::new(),
            taken_cpu_milli: 0,
            taken_memory_mb: 0,
        }
    }

    /// Whether new containers may go there.
    #[must_use]
    pub fn is_placeable(&self, now: Timestamp) -> bool {
        self.state.as_ref().is_some_and(|s| s.state == DeviceState::Up && s.session > 0)
            && !self.is_quiet(now)
    }

    /// Whether it has not been heard for so long that nothing new should be sent there. What is
    /// there is not given up before it is lost.
    #[must_use]
    pub fn is_quiet(&self, now: Timestamp) -> bool {
        berth_common::time::ms_between(self.seen, now) >= QUIET_MS
    }

    /// The state that people see; `lost` before its first welcome.
    #[must_use]
    pub fn shown_state(&self) -> DeviceState {
        self.state.as_ref().map_or(DeviceState::Lost, |s| s.state)
    }

    /// 0 before the first welcome.
    #[must_use]
    pub fn session(&self) -> i64 {
        self.state.as_ref().map_or(0, |s| s.session)
    }

    #[must_use]
    pub fn has_master_port(&self, port: u16) -> bool {
        self.master_ports.contains(&port)
    }

    #[must_use]
    pub fn free_cpu_milli(&self) -> i64 {
        self.row.cpu_milli - self.taken_cpu_milli
    }

    #[must_use]
    pub fn free_memory_mb(&self) -> i64 {
        self.row.memory_mb - self.taken_memory_mb
    }

    /// Free GPUs of a type that will do, in the order of their places.
    pub fn free_gpus(&self, need: &Resources) -> impl Iterator<Item = &GpuRow> {
        let kinds = need.clone();
        self.row
            .gpus
            .iter()
            .filter(move |g| !self.taken_gpus.contains(&g.gid) && accepts(&kinds, &g.gpu.kind))
    }

    /// A GPU that another device has now.
    pub fn forget_gpu(&mut self, gid: i64) {
        self.row.gpus.retain(|row| row.gid != gid);
    }

    #[must_use]
    pub fn is_taken(&self, gid: i64) -> bool {
        self.taken_gpus.contains(&gid)
    }

    #[must_use]
    pub fn taken_gpu_count(&self) -> usize {
        self.taken_gpus.len()
    }

    pub fn take(&mut self, container: &ContainerRow) {
        self.containers.insert(container.replica);
        self.taken_gpus.extend(&container.gids);
        self.master_ports.extend(container.master_port);
        self.taken_cpu_milli += container.cpu_milli;
        self.taken_memory_mb += container.memory_mb;
    }

    pub fn free(&mut self, container: &ContainerRow) {
        if self.containers.remove(&container.replica) {
            for gid in &container.gids {
                self.taken_gpus.remove(gid);
            }
            if let Some(port) = container.master_port {
                self.master_ports.remove(&port);
            }
            self.taken_cpu_milli -= container.cpu_milli;
            self.taken_memory_mb -= container.memory_mb;
        }
        self.stops.remove(&container.replica);
        self.asked.remove(&container.replica);
    }

    /// Whether another worker than the one that tells `worker_id` is alive under this name.
    #[must_use]
    pub fn is_held_by_another(&self, worker_id: Uuid, now: Timestamp) -> bool {
        self.state.as_ref().is_some_and(|s| s.worker_id != worker_id)
            && berth_common::time::ms_between(self.seen, now) < NAME_TAKEN_MS
    }

    /// Whether the inventory differs from what is known.
    #[must_use]
    pub fn differs(&self, told: &Inventory) -> bool {
        let row = &self.row;
        row.ip != told.ip
            || row.cpu_milli != told.cpu_milli
            || row.cpu_name != told.cpu_name
            || row.memory_mb != told.memory_mb
            || row.data_dir != told.data_dir
            || row.pub_dir != told.pub_dir
            || row.engine != told.engine
            || row.gpus_declared != told.gpus_declared
            || row.labels != told.labels
            || self.links != told.links
            || !row.gpus.iter().map(|g| &g.gpu).eq(told.gpus.iter())
    }
}

/// A device's row from what its worker tells; `gpus` are filled in by the caller, who knows which
/// of them have been seen before.
#[must_use]
pub fn row_from(did: i64, name: &str, told: &Inventory, gpus: Vec<GpuRow>) -> DeviceRow {
    DeviceRow {
        did,
        name: name.to_owned(),
        ip: told.ip.clone(),
        cpu_milli: told.cpu_milli,
        cpu_name: told.cpu_name.clone(),
        memory_mb: told.memory_mb,
        data_dir: told.data_dir.clone(),
        pub_dir: told.pub_dir.clone(),
        engine: told.engine.clone(),
        gpus_declared: told.gpus_declared,
        labels: told.labels.clone(),
        gpus,
    }
}
