//! Plays a [`Present`] to its end: ends, then what may start by then, then one pass.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use berth_policy::cluster::DeviceKey;
use berth_policy::demand::Need;
use berth_policy::device::Inventory;
use berth_policy::fgd::Usual;
use berth_policy::{Job, NEVER, Policy, QueueKey, Settings, Time, check};

use super::{Known, Played, Present, State};

type Events = BinaryHeap<Reverse<(Time, u32)>>;

struct Play<'a> {
    present: &'a Present,
    policy: Policy<u32>,
    queues: Vec<QueueKey>,
    /// When what runs reaches its limit; also what was stopped before that.
    ends: Events,
    /// When what waits may be started.
    comes: Events,
    /// Until when they run.
    running: HashMap<u32, Time>,
    /// By job: how many it still comes after, and who comes after it.
    open: Vec<usize>,
    followers: Vec<Vec<u32>>,
    played: Played,
}

/// Plays what runs and waits in `present`, with `added` as further devices.
#[must_use]
pub fn play(present: &Present, added: &[Inventory]) -> Played {
    let mut play = Play::new(present, added);
    loop {
        let next = |events: &Events| events.peek().map(|Reverse((at, _))| *at);
        let Some(now) = next(&play.ends).into_iter().chain(next(&play.comes)).min() else { break };
        while let Some(id) = take(&mut play.ends, now) {
            // Else it was stopped for another, and ends later.
            if play.running.get(&id) == Some(&now) {
                play.end(id, now);
            }
        }
        while let Some(id) = take(&mut play.comes, now) {
            let job = play.job(id);
            play.policy.submit(id, job);
        }
        play.pass(now);
    }
    play.played.violations = check::violations(&play.policy);
    play.played
}

/// The first of `events` if it is at this time.
fn take(events: &mut Events, now: Time) -> Option<u32> {
    let Reverse((_, id)) = events.peek().copied().filter(|Reverse((at, _))| *at == now)?;
    events.pop();
    Some(id)
}

/// Jobs with their numbers.
fn numbered(jobs: &[Known]) -> impl Iterator<Item = (u32, &Known)> {
    (0..).zip(jobs)
}

impl<'a> Play<'a> {
    fn new(present: &'a Present, added: &[Inventory]) -> Self {
        let mut policy = Policy::new(Settings::default());
        let queues = present.queues.iter().map(|(name, rules)| policy.set_queue(name, rules.clone()));
        let queues = queues.collect();
        let mut devices = Vec::new();
        for device in &present.devices {
            let key = policy.add_device(device.inventory.clone());
            policy.set_open(key, device.open);
            devices.push(key);
        }
        for inventory in added {
            policy.add_device(inventory.clone());
        }
        policy.cluster_mut().usual = usual(&present.jobs);
        let mut followers = vec![Vec::new(); present.jobs.len()];
        for (id, known) in numbered(&present.jobs) {
            known.after.iter().for_each(|before| followers[*before].push(id));
        }
        let mut play = Self {
            present,
            policy,
            queues,
            ends: Events::new(),
            comes: Events::new(),
            running: HashMap::new(),
            open: present.jobs.iter().map(|known| known.after.len()).collect(),
            followers,
            played: Played { starts: vec![None; present.jobs.len()], violations: Vec::new() },
        };
        play.begin(&devices);
        play
    }

    /// What runs is there, those that started first at first; what waits for nothing else may start.
    fn begin(&mut self, devices: &[DeviceKey]) {
        let mut runs = Vec::new();
        for (id, known) in numbered(&self.present.jobs) {
            match &known.state {
                State::Running { started, places } => runs.push((*started, id, places)),
                State::Waiting { from } if known.after.is_empty() => {
                    self.comes.push(Reverse(((*from).max(self.present.now), id)));
                }
                State::Waiting { .. } => {}
            }
        }
        runs.sort_unstable_by_key(|(started, id, _)| (*started, *id));
        for (started, id, places) in runs {
            let job = self.job(id);
            let ends = started.saturating_add(job.limit).max(self.present.now);
            let places = places.iter().map(|(place, held)| (devices[*place], *held));
            self.policy.adopt(id, job, started, places);
            self.played.starts[id as usize] = Some(started);
            self.runs_until(id, ends);
        }
    }

    fn job(&self, id: u32) -> Job {
        let job = &self.present.jobs[id as usize].job;
        Job { queue: self.queues[usize::from(job.queue.0)], ..job.clone() }
    }

    fn runs_until(&mut self, id: u32, end: Time) {
        self.running.insert(id, end);
        if end != NEVER {
            self.ends.push(Reverse((end, id)));
        }
    }

    fn end(&mut self, id: u32, now: Time) {
        self.running.remove(&id);
        self.policy.finish(&id, now);
        for follower in std::mem::take(&mut self.followers[id as usize]) {
            let open = &mut self.open[follower as usize];
            *open -= 1;
            if let (0, State::Waiting { from }) = (*open, &self.present.jobs[follower as usize].state) {
                self.comes.push(Reverse(((*from).max(now), follower)));
            }
        }
    }

    /// One pass; and again as long as jobs are stopped for others, which then wait anew.
    fn pass(&mut self, now: Time) {
        loop {
            let pass = self.policy.pass(now);
            for start in &pass.starts {
                let limit = self.present.jobs[start.id as usize].job.limit;
                self.played.starts[start.id as usize].get_or_insert(now);
                self.runs_until(start.id, now.saturating_add(limit));
            }
            if pass.preempted.is_empty() {
                return;
            }
            for id in pass.preempted {
                self.running.remove(&id);
                self.policy.finish(&id, now);
                let job = self.job(id);
                self.policy.submit(id, job);
            }
        }
    }
}

/// What usually comes: the containers of these jobs.
fn usual(jobs: &[Known]) -> Usual {
    let mut times: BTreeMap<Need, u64> = BTreeMap::new();
    for (need, count) in jobs.iter().flat_map(|known| &known.job.demand.parts) {
        *times.entry(need.clone()).or_default() += u64::from(*count);
    }
    Usual::new(times)
}
