//! Docker on one device: its containers, and which GPUs they have.

use std::collections::{BTreeMap, BTreeSet};

use berth_common::id::Replica;
use berth_common::spec::Disconnect;
use berth_worker::docker::{Container as Seen, Exit, Stage};
use jiff::Timestamp;

/// What a container ended with that was killed.
pub const KILLED: i64 = 137;

#[derive(Debug, Clone)]
pub struct Container {
    pub state: Run,
    pub gpus: Vec<String>,
    pub disconnect: Disconnect,
    /// A process of the worker that is dead asked for its start, and Docker is still at it.
    pub start_on_its_way: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Run {
    Created,
    Running,
    /// `after_stop`: a stop stood in the inbox when it ended.
    Exited {
        code: i64,
        after_stop: bool,
    },
}

#[derive(Debug, Clone, Default)]
pub struct Engine {
    pub containers: BTreeMap<Replica, Container>,
    /// What was ever started.
    pub started: BTreeSet<Replica>,
}

impl Engine {
    pub fn create(&mut self, replica: Replica, gpus: Vec<String>, disconnect: Disconnect) {
        let made = Container { state: Run::Created, gpus, disconnect, start_on_its_way: false };
        self.containers.insert(replica, made);
    }

    /// Whether that was the first start of it, ever.
    pub fn start(&mut self, replica: Replica) -> bool {
        if let Some(container) = self.containers.get_mut(&replica) {
            container.state = Run::Running;
            container.start_on_its_way = false;
        }
        self.started.insert(replica)
    }

    pub fn end(&mut self, replica: Replica, code: i64, after_stop: bool) {
        if let Some(container) = self.containers.get_mut(&replica) {
            container.state = Run::Exited { code, after_stop };
        }
    }

    pub fn running(&self) -> impl Iterator<Item = (Replica, &Container)> {
        self.containers.iter().filter(|(_, c)| c.state == Run::Running).map(|(r, c)| (*r, c))
    }

    /// As the worker sees it.
    #[must_use]
    pub fn inspect(&self, replica: Replica) -> Option<Seen> {
        let at = Some(Timestamp::UNIX_EPOCH);
        let stage = self.containers.get(&replica).map(|container| match container.state {
            Run::Created => Stage::Created { exit_code: None },
            Run::Running => Stage::Running { started_at: at },
            Run::Exited { code, .. } => {
                Stage::Exited(Exit { code, oom: false, started_at: at, finished_at: at })
            }
        });
        stage.map(|stage| Seen {
            id: String::new(),
            stage,
            ports: BTreeMap::new(),
            stop_signal: String::new(),
        })
    }
}
