//! What runs: jobs that start elsewhere than in a pass, give back what they have bit by bit, are told to stop, and
//! end.

use std::fmt::Debug;
use std::hash::Hash;

use crate::cluster::DeviceKey;
use crate::device::Held;
use crate::queue::ANY_TYPE;
use crate::{Job, Policy, QueueKey, Running, Time};

impl<Id: Copy + Ord + Hash + Debug> Policy<Id> {
    /// It has been running since `started`, as somebody knows who was there before. Those that started first are to be
    /// told first: their queue's use is counted from then on. `places` say what its containers have; when that
    /// ends follows from the job's limit. An id that is known already is not taken again.
    pub fn adopt(
        &mut self,
        id: Id,
        job: Job,
        started: Time,
        places: impl IntoIterator<Item = (DeviceKey, Held)>,
    ) {
        if self.waiting.contains_key(&id) || self.running.contains_key(&id) {
            return;
        }
        let (kind, limit) = self.kind_of(job);
        let (ends, preemptible) = (started.saturating_add(limit), kind.preemptible);
        let there = places.into_iter().filter(|(device, _)| self.cluster.get(*device).is_some());
        let places: Vec<_> =
            there.map(|(device, held)| (device, Held { ends, preemptible, ..held })).collect();
        for (device, held) in &places {
            self.cluster.take(*device, *held);
            self.refresh_on(*device);
        }
        let since = started.max(self.queues[usize::from(kind.queue.0)].usage.since());
        let queue = kind.queue;
        self.runs(id, kind, limit, started, since, places);
        self.may_have_more(queue);
    }

    /// Its quota was perhaps lowered before anybody told us what it has.
    fn may_have_more(&mut self, queue: QueueKey) {
        let queue = &mut self.queues[usize::from(queue.0)];
        queue.lowered |= queue.rules.quota.get(ANY_TYPE).is_some_and(|cap| queue.used_in_all > *cap);
    }

    pub(crate) fn runs(
        &mut self,
        id: Id,
        kind: crate::Kind,
        limit: Time,
        started: Time,
        now: Time,
        places: Vec<(DeviceKey, Held)>,
    ) {
        let gpus = self.gpus_of(&places);
        let running = Running { kind, limit, started, places, gpus, leaving: false };
        self.account(&running, now, true);
        self.running.insert(id, running);
    }

    /// Its containers run only now: its limit counts from here.
    pub fn has_begun(&mut self, id: &Id, at: Time) {
        let Some(running) = self.running.get_mut(id).filter(|running| running.started != at) else { return };
        running.started = at;
        let ends = at.saturating_add(running.limit);
        for (device, held) in &mut running.places {
            self.cluster.set_end(*device, held, ends);
        }
        let devices: Vec<DeviceKey> = running.places.iter().map(|(device, _)| *device).collect();
        devices.into_iter().for_each(|device| self.void_on(device));
    }

    /// One of its containers has ended, which had those GPUs there: they are free, and the job goes on.
    pub fn release(&mut self, id: &Id, device: DeviceKey, gpus: u64, now: Time) {
        let Some(running) = self.running.get_mut(id) else { return };
        let has = |(of, held): &(DeviceKey, Held)| *of == device && held.gpus == gpus;
        let Some(place) = running.places.iter().position(has) else { return };
        let (device, held) = running.places.remove(place);
        let kind = running.kind.clone();
        let fewer = self.gpus_of(&[(device, held)]);
        self.account_gpus(&kind, &fewer, now, false);
        if let Some(running) = self.running.get_mut(id) {
            running.gpus.remove(&fewer);
        }
        self.give_back(device, &held);
    }

    /// One of its containers has that, where something else was known of it before.
    pub fn hold(&mut self, id: &Id, device: DeviceKey, held: Held, now: Time) {
        let Some(running) = self.running.get_mut(id) else { return };
        let ends = running.started.saturating_add(running.limit);
        let held = Held { ends, preemptible: running.kind.preemptible, ..held };
        running.places.push((device, held));
        let kind = running.kind.clone();
        let more = self.gpus_of(&[(device, held)]);
        self.account_gpus(&kind, &more, now, true);
        if let Some(running) = self.running.get_mut(id) {
            running.gpus.add(&more);
        }
        self.cluster.take(device, held);
        self.refresh_on(device);
    }

    /// It was told to stop: nobody else has to go for what it will leave.
    pub fn leaves(&mut self, id: &Id) {
        if let Some(running) = self.running.get_mut(id) {
            running.leaving = true;
        }
    }

    /// It has ended: what it had is free.
    pub fn finish(&mut self, id: &Id, now: Time) {
        let Some(running) = self.running.remove(id) else { return };
        self.promises.remove(id);
        running.places.iter().for_each(|(device, held)| self.give_back(*device, held));
        self.account(&running, now, false);
    }

    fn give_back(&mut self, device: DeviceKey, held: &Held) {
        self.cluster.release(device, held);
        self.memo.freed(device);
        self.refresh_on(device);
    }

    #[must_use]
    pub fn is_running(&self, id: &Id) -> bool {
        self.running.contains_key(id)
    }

    /// The GPU-milliseconds that a queue has had, of which every half-life leaves half.
    #[must_use]
    pub fn usage(&self, queue: QueueKey, now: Time) -> f64 {
        self.queues[usize::from(queue.0)].usage.at(now, self.settings.half_life)
    }

    /// Whether a queue has had any GPU since then.
    #[must_use]
    pub fn has_used_since(&self, queue: QueueKey, at: Time) -> bool {
        let usage = &self.queues[usize::from(queue.0)].usage;
        usage.is_in_use() || usage.since() > at
    }

    /// What a queue has had before anything of it is [adopted](Self::adopt).
    pub fn set_usage(&mut self, queue: QueueKey, gpu_ms: f64, at: Time) {
        self.queues[usize::from(queue.0)].usage = crate::order::Usage::of(gpu_ms, at);
    }
}
