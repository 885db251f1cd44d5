//! What its owner could change so that a waiting job starts sooner.
//!
//! What must always hold: a suggestion is found by trying, with the very predicates that place jobs, and never
//! by guessing: whoever follows it gets what it says, as long as nobody else is faster.

use std::collections::{BTreeMap, BTreeSet};

use berth_common::id::JobId;
use berth_common::job::Suggestion;
use berth_common::queue::Policy;
use berth_common::spec::JobSpec;
use berth_policy::why::Why;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::device::Device;
use super::explain_turn::thousandth;
use super::plan::ms;
use super::queue::Seat;
use super::waiting::beyond_limit_ms;
use super::{Core, Job};

/// Shorter limits are not worth a suggestion, in seconds.
const SHORTEST_LIMIT_S: u64 = 60;

impl Core {
    /// Single changes of a waiting job's specification that would let it start now, the most useful one first;
    /// none for a job that waits for something else than its turn and room.
    #[must_use]
    pub fn changes_that_help(&self, id: JobId, now: Timestamp) -> Vec<Suggestion> {
        let Some(job) = self.jobs.get(&id).filter(|job| self.plan.policy.is_waiting(&Seat::of(&job.row)))
        else {
            return Vec::new();
        };
        // Where it fits as it is, or stands behind another whom nobody may pass, no change of its own helps.
        if self.would_start(job, now, |_| {}) || self.may_pass_nobody(job, now) {
            return Vec::new();
        }
        let spec = &job.row.spec;
        let tried = [
            self.shorter(job, now),
            self.fewer_gpus(job, now),
            self.fewer_replicas(job, now),
            self.other_type(job, now),
            self.of_the_rest(job, now),
            (!spec.constraints.is_empty()
                && self.would_start(job, now, |spec| spec.constraints = BTreeMap::new()))
            .then(|| suggestion("/constraints", json!({}), "would start now without its constraints".into())),
            (!spec.preemptible && self.would_start(job, now, |spec| spec.preemptible = true)).then(|| {
                let text = "would start now as a preemptible job, which others may stop";
                suggestion("/preemptible", json!(true), text.into())
            }),
        ];
        tried.into_iter().flatten().collect()
    }

    /// Whether the job would start now if its specification were another one.
    fn would_start(&self, job: &Job, now: Timestamp, change: impl FnOnce(&mut JobSpec)) -> bool {
        let mut changed = Job { avoid: job.avoid, ..Job::waiting(job.row.clone()) };
        change(&mut changed.row.spec);
        let turn = self.turn_of(&changed);
        turn.is_some_and(|turn| self.plan.policy.would_start(Seat::of(&job.row), turn, ms(now)))
    }

    /// Whether it is not the first of a queue that is strictly first come, first served.
    fn may_pass_nobody(&self, job: &Job, now: Timestamp) -> bool {
        let is_strict =
            self.queues.get(&job.row.spec.queue).is_some_and(|queue| queue.policy == Policy::Fifo);
        is_strict && self.plan.policy.ahead(&Seat::of(&job.row), ms(now)) != Some(0)
    }

    fn shorter(&self, job: &Job, now: Timestamp) -> Option<Suggestion> {
        let Some(Why::WouldDelay { by, .. }) = self.plan.policy.why(&Seat::of(&job.row), ms(now)) else {
            return None;
        };
        let limit_ms = self.turn_of(job)?.limit.saturating_sub(by).saturating_sub(beyond_limit_ms());
        let own_s = self.limit_s(&job.row.spec);
        // A minute is lost while somebody changes it.
        let limit_s = u64::try_from(limit_ms / 1000).ok()?.saturating_sub(SHORTEST_LIMIT_S);
        let limit_s = limit_s / SHORTEST_LIMIT_S * SHORTEST_LIMIT_S;
        let helps =
            limit_s >= SHORTEST_LIMIT_S && self.would_start(job, now, |spec| spec.timeout_s = Some(limit_s));
        let instead = own_s.map_or("none".to_owned(), |own| format!("{own} s"));
        let text = format!("would start now with a time limit of {limit_s} s instead of {instead}");
        helps.then(|| suggestion("/timeout_s", json!(limit_s), text))
    }

    /// The most that would do, of the numbers that halving leads to: what many programs can be split into.
    fn fewer_gpus(&self, job: &Job, now: Timestamp) -> Option<Suggestion> {
        let own = job.row.spec.resources.gpus;
        let mut halves =
            std::iter::successors(Some(own / 2), |gpus| Some(gpus / 2)).take_while(|gpus| *gpus > 0);
        let gpus = halves.find(|gpus| self.would_start(job, now, |spec| spec.resources.gpus = *gpus))?;
        let text = format!("would start now with {gpus} GPU{} instead of {own}", plural(gpus));
        Some(suggestion("/resources/gpus", json!(gpus), text))
    }

    fn fewer_replicas(&self, job: &Job, now: Timestamp) -> Option<Suggestion> {
        let own = job.row.spec.replicas;
        let starts = |replicas: u32| self.would_start(job, now, |spec| spec.replicas = replicas);
        if own < 2 || !starts(1) {
            return None;
        }
        // Whatever fits with some replicas fits with fewer.
        let (mut fits, mut fails) = (1, own);
        while fails - fits > 1 {
            let middle = u32::midpoint(fits, fails);
            if starts(middle) { fits = middle } else { fails = middle }
        }
        let text = format!("would start now with {fits} replica{} instead of {own}", plural(fits));
        Some(suggestion("/replicas", json!(fits), text))
    }

    fn other_type(&self, job: &Job, now: Timestamp) -> Option<Suggestion> {
        let own = &job.row.spec.resources.gpu_type;
        if own.is_empty() {
            return None;
        }
        let known: BTreeSet<&String> = self
            .devices
            .values()
            .flat_map(|device| device.row.gpus.iter().map(|gpu| &gpu.gpu.kind))
            .collect();
        let kind = known.into_iter().filter(|kind| !own.contains(kind)).find(|kind| {
            self.would_start(job, now, |spec| spec.resources.gpu_type = vec![(*kind).clone()])
        })?;
        let text = format!("would start now on {kind} instead of {}", own.join(" or "));
        Some(suggestion("/resources/gpu_type", json!([kind]), text))
    }

    /// With the CPUs, or the memory, that are free on the device that has most of them.
    fn of_the_rest(&self, job: &Job, now: Timestamp) -> Option<Suggestion> {
        let (own, devices) =
            (&job.row.spec.resources, || self.devices.values().filter(|d| d.is_placeable(now)));
        let cpu_milli = devices().map(Device::free_cpu_milli).max()?;
        if (1..own.cpus.milli).contains(&cpu_milli)
            && self.would_start(job, now, |spec| spec.resources.cpus.milli = cpu_milli)
        {
            let (cpus, instead) = (thousandth(cpu_milli), thousandth(own.cpus.milli));
            let text = format!("would start now with {cpus} CPUs instead of {instead}");
            return Some(suggestion("/resources/cpus", json!(cpus), text));
        }
        let memory = u64::try_from(devices().map(Device::free_memory_mb).max()?).ok()?;
        let helps = (1..own.memory_mb).contains(&memory)
            && self.would_start(job, now, |spec| spec.resources.memory_mb = memory);
        let text = format!("would start now with {memory} MB of memory instead of {}", own.memory_mb);
        helps.then(|| suggestion("/resources/memory_mb", json!(memory), text))
    }
}

fn suggestion(field: &str, value: Value, text: String) -> Suggestion {
    Suggestion { field: field.into(), value, text }
}

fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}
