//! The pass: takes the waiting jobs in order and places what fits.

use std::collections::{BTreeMap, HashSet};

use berth_common::id::{JobId, Replica};
use berth_common::job::AttemptStatus;
use berth_common::message::{Gang, Order, Start, StartGpu};
use berth_common::spec::JobSpec;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::device::Device;
use super::job::Event;
use super::life::Cause;
use super::placement::{best_fit, gang_fit, memory_mb};
use super::rows::{ContainerRow, JobRow, ReservationRow};
use super::{Core, Job};

/// Where the replicas of a gang meet: PyTorch's own default, and enough after it for every gang that
/// one host can have.
const MASTER_PORTS: std::ops::Range<u16> = 29_500..32_000;

/// Bytes of start messages that one step makes: they are written in one statement of one transaction.
const PASS_BYTES: usize = 32 << 20;

impl Core {
    /// Places every waiting job that fits, in order. Looks at nothing when nothing has changed.
    pub(super) fn place_all(&mut self, now: Timestamp) {
        // After a restore a job that waits here may run somewhere already: first everybody tells what they have.
        if self.recovering_until.is_some() || !std::mem::take(&mut self.unsettled) {
            return;
        }
        self.cut_short = false;
        // In one pass capacity only shrinks: what did not fit once will not fit again.
        let mut failed: HashSet<Shape> = HashSet::new();
        // Where an old container of a job was seen to run, the job is not started beside it.
        if self.devices.values().any(|device| device.has_to_list(now)) {
            self.unsettled = true;
            return;
        }
        let still_run: HashSet<JobId> = self.devices.values().flat_map(Device::strange_jobs).collect();
        let order: Vec<JobId> = self.indexes.pending.iter().map(|place| place.job).collect();
        let mut started_bytes = 0;
        for id in order {
            if started_bytes > PASS_BYTES {
                (self.unsettled, self.cut_short) = (true, true); // the next step goes on
                return;
            }
            let Some(job) = self.jobs.get(&id).filter(|job| self.may_be_placed(job, now)) else { continue };
            if still_run.contains(&id) {
                continue;
            }
            let shape = Shape::of(&job.row.spec);
            if failed.contains(&shape) {
                continue;
            }
            match self.find_devices(job, now) {
                Some(dids) => {
                    started_bytes += job.row.spec.to_json().len() * dids.len();
                    self.place(id, &dids, now);
                }
                None => {
                    failed.insert(shape);
                }
            }
        }
        self.unsettled = false; // placing makes nothing free
    }

    /// Whether only room is missing.
    fn may_be_placed(&self, job: &Job, now: Timestamp) -> bool {
        let row = &job.row;
        !row.life.held
            && row.life.not_before.is_none_or(|at| at <= now)
            && self.unmet(&row.spec).is_none()
            && self.array_cap(row).is_none()
    }

    /// The cap on running elements of its array, where it is reached.
    pub(super) fn array_cap(&self, row: &JobRow) -> Option<u32> {
        let cap = row.spec.array.as_ref()?.max_running?;
        let array = self.indexes.arrays.get(&row.array?.id)?;
        (array.placed() >= cap).then_some(cap)
    }

    /// A device for each replica, or none.
    fn find_devices(&self, job: &Job, now: Timestamp) -> Option<Vec<i64>> {
        let spec = &job.row.spec;
        let devices = self.devices.values().filter(|device| device.row.carries(&spec.constraints));
        if spec.replicas == 1 {
            return best_fit(devices, &spec.resources, job.avoid, now).map(|did| vec![did]);
        }
        gang_fit(devices, &spec.resources, spec.replicas, job.avoid, now)
            .filter(|dids| dids.first().is_some_and(|did| self.free_master_port(*did).is_some()))
    }

    /// One that no live gang meets at on that host, on which several devices may be.
    fn free_master_port(&self, did: i64) -> Option<u16> {
        let ip = &self.devices.get(&did)?.row.ip;
        let there = || self.devices.values().filter(|device| device.row.ip == *ip);
        MASTER_PORTS.clone().find(|port| !there().any(|device| device.has_master_port(*port)))
    }

    /// Reserves and sends: rows, reservations and start messages are of one transaction.
    fn place(&mut self, id: JobId, dids: &[i64], now: Timestamp) {
        let mut names: Vec<&str> = dids.iter().map(|did| self.devices[did].row.name.as_str()).collect();
        names.dedup();
        let cause = Cause::scheduler(Some(format!("placed on {}", names.join(", "))));
        let happened = self.happen(id, &Event::Place { floor: self.attempt_floor }, cause, now);
        debug_assert!(happened.is_ok(), "only waiting jobs are placed: {happened:?}");
        let row = self.jobs[&id].row.clone();
        let gang = dids.first().filter(|_| row.spec.replicas > 1).and_then(|master| {
            Some(Gang {
                replicas: row.spec.replicas,
                master_addr: self.devices[master].row.ip.clone(),
                master_port: self.free_master_port(*master)?,
            })
        });
        let containers: Vec<ContainerRow> = (0..)
            .zip(dids)
            .map(|(index, &did)| {
                let replica = Replica { job: id, attempt: row.life.attempt, replica: index };
                self.start(replica, did, &row, gang.as_ref(), now)
            })
            .collect();
        if let Some(job) = self.jobs.get_mut(&id) {
            job.containers = containers;
        }
    }

    /// One replica: takes what it needs on the device, and sends its start.
    fn start(
        &mut self,
        replica: Replica,
        did: i64,
        row: &JobRow,
        gang: Option<&Gang>,
        now: Timestamp,
    ) -> ContainerRow {
        let need = &row.spec.resources;
        let device = &self.devices[&did];
        let gpus: Vec<_> = device.free_gpus(need).take(need.gpus as usize).cloned().collect();
        let session = device.session();
        let start = Start {
            replica,
            owner: row.owner.clone(),
            spec: row.spec.clone(),
            gpus: gpus
                .iter()
                .map(|g| StartGpu { uuid: g.gpu.uuid.clone(), idx: g.gpu.idx, kind: g.gpu.kind.clone() })
                .collect(),
            password: self.password(replica),
            timeout_s: self.limit_s(&row.spec),
            array_index: row.array.map(|place| place.index),
            gang: gang.cloned(),
        };
        let password = start.password.clone();
        let order_id = self.send(did, Order::Start(Box::new(start)), now);
        let container = ContainerRow {
            cid: self.take_id(),
            replica,
            uid: row.uid,
            did,
            session,
            order_id,
            cpu_milli: need.cpus.milli,
            memory_mb: memory_mb(need),
            gids: gpus.iter().map(|g| g.gid).collect(),
            password,
            ports: BTreeMap::new(),
            master_port: gang.filter(|_| replica.replica == 0).map(|gang| gang.master_port),
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
            let row = ReservationRow { gid, cid: container.cid, did, job: replica.job, reserved_at: now };
            self.changes.reservations.insert(gid, row);
        }
        self.changes.new_containers.insert(container.cid, container.clone());
        if let Some(device) = self.devices.get_mut(&did) {
            device.take(&container);
        }
        container
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
    replicas: u32,
    constraints: BTreeMap<String, String>,
}

impl Shape {
    fn of(spec: &JobSpec) -> Self {
        let need = &spec.resources;
        Self {
            gpus: need.gpus,
            gpu_type: need.gpu_type.clone(),
            cpu_milli: need.cpus.milli,
            memory_mb: need.memory_mb,
            replicas: spec.replicas,
            constraints: spec.constraints.clone(),
        }
    }
}
