//! The pass: takes the waiting jobs in order and places what fits.

use std::collections::{BTreeMap, HashSet};

use berth_common::id::{JobId, Replica};
use berth_common::job::AttemptStatus;
use berth_common::message::{Order, Start, StartGpu};
use berth_common::spec::Resources;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::Core;
use super::job::Event;
use super::life::Cause;
use super::placement::{best_fit, memory_mb};
use super::rows::{ContainerRow, ReservationRow};

impl Core {
    /// Places every waiting job that fits, in order. Looks at nothing when nothing has changed.
    pub(super) fn place_all(&mut self, now: Timestamp) {
        if !std::mem::take(&mut self.unsettled) {
            return;
        }
        // In one pass capacity only shrinks: what did not fit once will not fit again.
        let mut failed: HashSet<Shape> = HashSet::new();
        let order: Vec<JobId> = self.pending.iter().map(|place| place.job).collect();
        for id in order {
            let Some(job) = self.jobs.get(&id) else { continue };
            if job.row.life.held || job.row.life.not_before.is_some_and(|at| at > now) {
                continue;
            }
            let need = &job.row.spec.resources;
            let shape = Shape::of(need);
            if failed.contains(&shape) {
                continue;
            }
            match best_fit(self.devices.values(), need, job.avoid, now) {
                Some(did) => self.place(id, did, now),
                None => {
                    failed.insert(shape);
                }
            }
        }
        self.unsettled = false; // placing makes nothing free
    }

    /// Reserves and sends: rows, reservation and start message are of one transaction.
    fn place(&mut self, id: JobId, did: i64, now: Timestamp) {
        let cause = Cause::scheduler(Some(format!("placed on {}", self.devices[&did].row.name)));
        let happened = self.happen(id, &Event::Place, cause, now);
        debug_assert!(happened.is_ok(), "only waiting jobs are placed: {happened:?}");
        let row = self.jobs[&id].row.clone();
        let replica = Replica { job: id, attempt: row.life.attempt, replica: 0 };
        let device = &self.devices[&did];
        let gpus: Vec<_> =
            device.free_gpus(&row.spec.resources).take(row.spec.resources.gpus as usize).cloned().collect();
        let session = device.session();
        let password = self.password(replica);
        let start = Start {
            replica,
            owner: row.owner.clone(),
            spec: row.spec.clone(),
            gpus: gpus
                .iter()
                .map(|g| StartGpu { uuid: g.gpu.uuid.clone(), idx: g.gpu.idx, kind: g.gpu.kind.clone() })
                .collect(),
            password: password.clone(),
            timeout_s: row.spec.timeout_s,
            array_index: row.array.map(|a| a.index),
            gang: None,
        };
        let order_id = self.send(did, Order::Start(Box::new(start)), now);
        let container = ContainerRow {
            cid: self.take_id(),
            replica,
            uid: row.uid,
            did,
            session,
            order_id,
            cpu_milli: row.spec.resources.cpus.milli,
            memory_mb: memory_mb(&row.spec.resources),
            gids: gpus.iter().map(|g| g.gid).collect(),
            password,
            ports: BTreeMap::new(),
            master_port: None,
            status: AttemptStatus::Pending,
            docker_id: None,
            exit_code: None,
            oom: false,
            error: None,
            scheduled_at: now,
            started_at: None,
            exited_at: None,
            ending: None,
        };
        for &gid in &container.gids {
            let row = ReservationRow { gid, cid: container.cid, did, job: id, reserved_at: now };
            self.changes.reservations.insert(gid, row);
        }
        self.changes.new_containers.insert(container.cid, container.clone());
        if let Some(device) = self.devices.get_mut(&did) {
            device.take(&container);
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            job.containers = vec![container];
        }
    }

    /// For ssh and Jupyter in the container: nobody can guess it, and it needs no chance here.
    fn password(&self, replica: Replica) -> String {
        let digest = Sha256::digest(format!("{}\0{replica}", self.secret));
        hex::encode(&digest[..12])
    }
}

/// What decides whether a job fits.
#[derive(PartialEq, Eq, Hash)]
struct Shape {
    gpus: u32,
    gpu_type: Vec<String>,
    cpu_milli: i64,
    memory_mb: u64,
}

impl Shape {
    fn of(need: &Resources) -> Self {
        Self {
            gpus: need.gpus,
            gpu_type: need.gpu_type.clone(),
            cpu_milli: need.cpus.milli,
            memory_mb: need.memory_mb,
        }
    }
}
