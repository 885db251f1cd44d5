//! Who waits for nothing but the turn: those, and only those, are submitted to the policy.
//!
//! A job that is held, that comes after others, that is to start later, or of which an old container may still
//! run, is not among them. Whatever may change that touches the job; before a pass the touched ones are looked
//! at, and no others.

use std::collections::HashSet;

use berth_common::id::JobId;
use berth_common::job::Status;
use berth_policy::NEVER;
use jiff::Timestamp;

use super::life::default_grace_ms;
use super::plan::{demand, ms};
use super::queue::Seat;
use super::rows::JobRow;
use super::{Core, Job};

/// How long a job without any limit is taken to run, where that only orders it: as long as one may by the limit that
/// a new installation's queue has.
const USUAL_LIMIT_MS: i64 = 7 * 24 * 3_600_000;
/// When a job without any limit is taken to end at the latest. Else nothing could ever be kept free for a large job
/// among such.
const LONGEST_MS: i64 = 365 * 24 * 3_600_000;
/// Beyond its limit and the grace that follows it, until a container is seen to be gone.
const SEEN_GONE_MS: i64 = 10_000;
/// From its start message to the moment from which its limit counts: most images are there, or fetched by then.
const BEGINS_WITHIN_MS: i64 = 120_000;
/// Of a promise that relies on jobs that never have to end, nobody is told.
pub(super) const FAR_MS: i64 = LONGEST_MS / 2;

impl Core {
    /// Tells the policy what has changed for its purposes since the last pass.
    pub(super) fn bring_plan_up_to_date(&mut self, now: Timestamp) {
        self.renew_devices(now);
        for device in self.devices.values() {
            self.plan.set_open(device.row.did, device.is_placeable(now));
        }
        // Where an old container of a job was seen to run, the job is not started beside it.
        let still_run: HashSet<JobId> = self.devices.values().flat_map(|d| d.strange_jobs()).collect();
        self.plan.touched.extend(&still_run);
        for id in std::mem::take(&mut self.plan.touched) {
            let Some(job) = self.jobs.get(&id).filter(|job| job.is_pending()) else { continue };
            let seat = Seat::of(&job.row);
            if still_run.contains(&id) {
                self.plan.policy.withdraw(&seat);
                self.plan.touched.insert(id);
            } else if !self.plan.policy.is_waiting(&seat)
                && self.waits_for_its_turn(job, now)
                && let Some(turn) = self.turn_of(job)
            {
                self.plan.policy.submit(seat, turn);
            }
        }
    }

    fn renew_devices(&mut self, now: Timestamp) {
        for did in std::mem::take(&mut self.plan.stale) {
            let device = self.devices.get(&did);
            let there = device.into_iter().flat_map(|device| &device.containers).filter_map(|replica| {
                let job = self.jobs.get(&replica.job)?;
                Some((Seat::of(&job.row), job.live().find(|container| container.replica == *replica)?))
            });
            self.plan.renew_device(did, device, there, now);
        }
    }

    /// Whether only the turn and room are missing.
    fn waits_for_its_turn(&self, job: &Job, now: Timestamp) -> bool {
        let life = &job.row.life;
        !life.held && life.not_before.is_none_or(|at| at <= now) && self.unmet(&job.row.spec).is_none()
    }

    /// A job as the policy sees it.
    pub(super) fn turn_of(&self, job: &Job) -> Option<berth_policy::Job> {
        let row = &job.row;
        let estimate_s = row.spec.expected_s.or_else(|| self.limit_s(&row.spec));
        let cap = row.spec.array.as_ref().and_then(|array| array.max_running);
        Some(berth_policy::Job {
            queue: self.plan.queue(&row.spec.queue)?,
            demand: demand(&row.spec),
            priority: row.priority,
            submitted: ms(row.life.submitted_at),
            estimate: estimate_s.map_or(USUAL_LIMIT_MS, in_ms),
            limit: self.time_of(row),
            preemptible: row.spec.preemptible,
            group: row.array.zip(cap).map(|(place, cap)| (place.id.as_u64_pair().1, cap)),
            avoid: job.avoid.and_then(|did| self.plan.device(did)),
        })
    }

    /// For how long its GPUs may be taken from the moment it is placed, or runs, in milliseconds.
    fn time_of(&self, row: &JobRow) -> i64 {
        let has_begun = row.life.status == Status::Running;
        let beyond = beyond_limit_ms() - if has_begun { BEGINS_WITHIN_MS } else { 0 };
        self.limit_s(&row.spec).map_or(LONGEST_MS, |limit| in_ms(limit).saturating_add(beyond))
    }

    /// Tells the policy where a job stands, after its row has changed: see [`Core::index`].
    pub(super) fn plan_job(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (seat, life) = (Seat::of(&job.row), &job.row.life);
        match life.status {
            Status::Pending => {
                self.plan.touched.insert(id);
                self.unsettled = true;
            }
            Status::Scheduled | Status::Running => {
                let limit = self.time_of(&job.row);
                let policy = &mut self.plan.policy;
                policy.set_limit(&seat, limit);
                if let Some(at) = life.started_at.filter(|_| life.status == Status::Running) {
                    policy.has_begun(&seat, ms(at));
                }
                if life.stopping.is_some() {
                    policy.leaves(&seat);
                }
            }
            Status::Unapproved | Status::Exited => {}
        }
    }

    /// Everything that runs, as the rows have it: those that began first are told first.
    pub(super) fn adopt_all(&mut self, now: Timestamp) {
        self.plan.stale.extend(self.devices.keys());
        self.renew_devices(now);
        let mut running: Vec<&Job> = self.jobs.values().filter(|job| job.live().next().is_some()).collect();
        running.sort_unstable_by_key(|job| (job.row.life.scheduled_at, job.row.id));
        for job in running {
            let Some(turn) = self.turn_of(job) else { continue };
            let places: Vec<_> = job.live().filter_map(|container| self.plan.held(container)).collect();
            let since = job.row.life.started_at.or(job.row.life.scheduled_at).map_or(0, ms);
            self.plan.policy.adopt(Seat::of(&job.row), turn, since, places);
        }
    }
}

/// So much longer than its limit a job may have its GPUs from the moment it is placed.
pub(super) fn beyond_limit_ms() -> i64 {
    BEGINS_WITHIN_MS + default_grace_ms() + SEEN_GONE_MS
}

fn in_ms(seconds: u64) -> i64 {
    i64::try_from(seconds).map_or(NEVER, |seconds| seconds.saturating_mul(1000))
}
