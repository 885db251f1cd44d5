//! The pass: the policy says who starts and where, and here that becomes rows, reservations and start messages.

use std::collections::BTreeMap;

use berth_common::id::Replica;
use berth_common::job::AttemptStatus;
use berth_common::message::{Gang, Order, Start, StartGpu};
use berth_common::queue::Placement;
use berth_common::time::{ms_between, plus_ms};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::Core;
use super::job::Event;
use super::life::{Cause, default_grace_ms};
use super::placement::memory_mb;
use super::plan::{ms, timestamp};
use super::queue::Seat;
use super::rows::{ContainerRow, GpuRow, JobRow, ReservationRow};

/// Where the replicas of a gang meet: PyTorch's own default, and enough after it for every gang that
/// one host can have.
const MASTER_PORTS: std::ops::Range<u16> = 29_500..32_000;

/// Bytes of start messages that one step makes: they are written in one statement of one transaction.
const PASS_BYTES: usize = 32 << 20;

/// While somebody waits, a pass is made this often though nothing has happened: whoever has waited for too long is
/// found by the time alone.
const PASS_EVERY_MS: i64 = 60_000;

/// What jobs usually need is looked at this often: it changes from day to day.
const LEARN_EVERY_MS: i64 = 600_000;

/// Where one container goes, and the GPUs that it gets.
struct Berth {
    did: i64,
    gids: Vec<i64>,
}

impl Core {
    /// Starts what can start. Looks at nothing when nothing has changed.
    pub(super) fn place_all(&mut self, now: Timestamp) {
        // After a restore a job that waits here may run somewhere already: first everybody tells what they have.
        if self.recovering_until.is_some() || !std::mem::take(&mut self.unsettled) {
            return;
        }
        self.cut_short = false;
        if self.devices.values().any(|device| device.has_to_list(now)) {
            self.unsettled = true;
            return;
        }
        self.bring_plan_up_to_date(now);
        self.learn_what_is_usual(now);
        let (jobs, mut bytes) = (&self.jobs, 0);
        let pass = self.plan.policy.pass_while(ms(now), |start| {
            let spec = jobs.get(&start.id.job).map_or(0, |job| job.row.spec.to_json().len());
            bytes += spec * start.places.len();
            bytes <= PASS_BYTES
        });
        for start in pass.starts {
            let berths = start.places.iter().filter_map(|(device, held)| {
                let did = self.plan.did(*device)?;
                Some(Berth { did, gids: self.plan.gids(did, held.gpus).collect() })
            });
            let berths: Vec<Berth> = berths.collect();
            self.place(start.id, &berths, now);
        }
        for seat in pass.preempted {
            let grace_ms = default_grace_ms();
            let cause = Cause::scheduler(Some("its GPUs are needed for a job within its quota".to_owned()));
            let happened = self.happen(seat.job, &Event::Preempt { grace_ms }, cause, now);
            debug_assert!(happened.is_ok(), "only what runs is preempted: {happened:?}");
        }
        // Placing makes nothing free; what was left is for the next step.
        (self.unsettled, self.cut_short) = (pass.cut_short, pass.cut_short);
        let waits = self.plan.policy.waiting_count() > 0 || !self.plan.touched.is_empty();
        let again_at = pass.again_at.and_then(timestamp);
        self.next_pass = waits.then(|| plus_ms(now, PASS_EVERY_MS)).into_iter().chain(again_at).min();
    }

    /// Now and then, for all jobs are gone through; and only where some queue asks for it.
    fn learn_what_is_usual(&mut self, now: Timestamp) {
        let is_due = self.usual_learned.is_none_or(|at| ms_between(at, now) >= LEARN_EVERY_MS);
        if is_due && self.queues.values().any(|queue| queue.placement == Placement::Fgd) {
            self.usual_learned = Some(now);
            self.plan.set_usual(self.jobs.values().map(|job| &job.row.spec));
        }
    }

    /// One that no live gang meets at on that host, on which several devices may be.
    fn free_master_port(&self, did: i64) -> Option<u16> {
        let ip = &self.devices.get(&did)?.row.ip;
        let there = || self.devices.values().filter(|device| device.row.ip == *ip);
        MASTER_PORTS.clone().find(|port| !there().any(|device| device.has_master_port(*port)))
    }

    /// Reserves and sends: rows, reservations and start messages are of one transaction.
    fn place(&mut self, seat: Seat, berths: &[Berth], now: Timestamp) {
        let id = seat.job;
        let (Some(job), Some(master)) = (self.jobs.get(&id), berths.first()) else { return };
        let replicas = job.row.spec.replicas;
        let port = if replicas > 1 { self.free_master_port(master.did) } else { None };
        if replicas > 1 && port.is_none() {
            // Nothing to meet at: it waits until another gang has gone.
            self.plan.policy.finish(&seat, ms(now));
            self.plan.touched.insert(id);
            return;
        }
        let gang = port.map(|master_port| Gang {
            replicas,
            master_addr: self.devices[&master.did].row.ip.clone(),
            master_port,
        });
        let mut names: Vec<&str> =
            berths.iter().map(|berth| self.devices[&berth.did].row.name.as_str()).collect();
        names.dedup();
        let cause = Cause::scheduler(Some(format!("placed on {}", names.join(", "))));
        let happened = self.happen(id, &Event::Place { floor: self.attempt_floor }, cause, now);
        debug_assert!(happened.is_ok(), "only waiting jobs are placed: {happened:?}");
        let row = self.jobs[&id].row.clone();
        let containers: Vec<ContainerRow> = (0..)
            .zip(berths)
            .map(|(index, berth)| {
                let replica = Replica { job: id, attempt: row.life.attempt, replica: index };
                self.start(replica, berth, &row, gang.as_ref(), now)
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
        berth: &Berth,
        row: &JobRow,
        gang: Option<&Gang>,
        now: Timestamp,
    ) -> ContainerRow {
        let need = &row.spec.resources;
        let Berth { did, gids } = berth;
        let device = &self.devices[did];
        let has = |gpu: &&GpuRow| gids.contains(&gpu.gid);
        let gpu = |gpu: &GpuRow| StartGpu {
            uuid: gpu.gpu.uuid.clone(),
            idx: gpu.gpu.idx,
            kind: gpu.gpu.kind.clone(),
        };
        let session = device.session();
        let start = Start {
            replica,
            owner: row.owner.clone(),
            spec: row.spec.clone(),
            gpus: device.row.gpus.iter().filter(has).map(gpu).collect(),
            password: self.password(replica),
            timeout_s: self.limit_s(&row.spec),
            array_index: row.array.map(|place| place.index),
            gang: gang.cloned(),
        };
        let password = start.password.clone();
        let order_id = self.send(*did, Order::Start(Box::new(start)), now);
        let container = ContainerRow {
            cid: self.take_id(),
            replica,
            uid: row.uid,
            did: *did,
            session,
            order_id,
            cpu_milli: need.cpus.milli,
            memory_mb: memory_mb(need),
            gids: gids.clone(),
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
            let row =
                ReservationRow { gid, cid: container.cid, did: *did, job: replica.job, reserved_at: now };
            self.changes.reservations.insert(gid, row);
        }
        self.changes.new_containers.insert(container.cid, container.clone());
        if let Some(device) = self.devices.get_mut(did) {
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
