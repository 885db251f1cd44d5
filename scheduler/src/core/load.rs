//! The beginning of a leader: the state as the database has it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use berth_common::command::{CommandView, Verb};
use berth_common::id::JobId;
use berth_common::job::AttemptStatus;
use berth_common::time::plus_ms;
use jiff::Timestamp;

use super::changes::Changes;
use super::device::Device;
use super::index::Indexes;
use super::plan::Plan;
use super::rows::Snapshot;
use super::{Core, Job, Limits};

impl Core {
    /// The state as the database has it. Every device is granted a full `lost_after` anew.
    #[must_use]
    pub fn load(snapshot: Snapshot, limits: Limits, now: Timestamp) -> Self {
        let lost_after_ms = i64::try_from(limits.lost_after_s * 1000).unwrap_or(i64::MAX);
        let mut core = Self {
            instance: snapshot.instance,
            secret: snapshot.secret,
            limits,
            next_id: snapshot.next_id,
            promised_id: snapshot.next_id,
            attempt_floor: snapshot.attempt_floor,
            recovering_until: snapshot.recovering.then(|| plus_ms(now, lost_after_ms)),
            queues: snapshot.queues.into_iter().map(|q| (q.name.clone(), q)).collect(),
            jobs: HashMap::new(),
            indexes: Indexes::default(),
            plan: Plan::default(),
            devices: BTreeMap::new(),
            dids: HashMap::new(),
            forgotten: HashMap::new(),
            gids: snapshot.gpus.into_iter().map(|g| (g.gpu.uuid, g.gid)).collect(),
            hearing: false,
            commands: snapshot.commands.into_iter().map(|c| (c.id, c)).collect(),
            exec_deadlines: BTreeSet::new(),
            exited: Vec::new(),
            freed: BTreeSet::new(),
            unsettled: true,
            cut_short: false,
            shares_kept: now,
            usual_learned: None,
            next_pass: None,
            changes: Changes::default(),
        };
        let mut states: HashMap<i64, _> = snapshot.device_states.into_iter().map(|s| (s.did, s)).collect();
        for row in snapshot.devices {
            match states.remove(&row.did) {
                Some(state) => {
                    core.dids.insert(row.name.clone(), row.did);
                    core.devices.insert(row.did, Device::new(row, Some(state), now));
                }
                None => drop(core.forgotten.insert(row.name, row.did)),
            }
        }
        for row in snapshot.jobs {
            core.jobs.insert(row.id, Job::waiting(row));
        }
        for container in snapshot.containers {
            let live = container.status != AttemptStatus::Exited;
            if let Some(device) = core.devices.get_mut(&container.did).filter(|_| live) {
                device.take(&container);
            }
            if let Some(job) = core.jobs.get_mut(&container.replica.job) {
                job.containers.push(container);
            }
        }
        core.queues.values().for_each(|queue| core.plan.set_queue(queue));
        core.load_shares(&snapshot.queue_usages, now);
        core.adopt_all(now);
        let ids: Vec<JobId> = core.jobs.keys().copied().collect();
        for id in ids {
            core.index(id);
        }
        // Whoever waits for quota is looked at once: it may have been freed while nobody led.
        core.freed = core.indexes.unapproved.keys().cloned().collect();
        core.load_commands(now);
        core
    }

    fn load_commands(&mut self, now: Timestamp) {
        let pending: Vec<CommandView> = self.commands.values().cloned().collect();
        for command in pending {
            match command.command {
                Verb::Exec => self.load_exec(&command, now),
                // Of the others only kills are accepted before they are done.
                Verb::Kill
                | Verb::Hold
                | Verb::Release
                | Verb::Retry
                | Verb::Approve
                | Verb::Priority
                | Verb::Timeout
                | Verb::Drain
                | Verb::Resume => {
                    if let Some(job) = command.job.and_then(|id| self.jobs.get_mut(&id)) {
                        job.kills.push(command.id);
                    }
                }
            }
        }
    }
}
