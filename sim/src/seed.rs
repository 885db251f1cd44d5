//! One seed: a world is made, has its trouble, heals, comes to rest, and is judged.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use berth_scheduler::core::Limits;

use crate::auditor::{Auditor, Counts, Tally};
use crate::chance::Chance;
use crate::clients;
use crate::database::{Database, Tables};
use crate::exec::NATURE;
use crate::faults;
use crate::host::Host;
use crate::weather::Weather;
use crate::world::{Parts, SCHEDULERS, World, start, worker_pid};

/// How long there is trouble.
const TROUBLE_MS: (u64, u64) = (120_000, 1_000_000);
/// After it, everything comes to rest within this: the longest fault and the longest job go first, then a
/// device may have to be given up, several times.
const REST_MS: u64 = 3 * 3_600_000;
/// Between two looks whether it has.
const LOOK_MS: u64 = 5_000;

/// Whether the steps are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    Off,
    On,
}

/// What became of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub seed: u64,
    /// What was wrong; nothing when all promises were kept.
    pub findings: Vec<String>,
    pub counts: Counts,
    pub tally: Tally,
    /// Messages, commits, starts and ends that the auditor has seen.
    pub events: u64,
    pub faults: u64,
    pub jobs: u64,
    /// Simulated time.
    pub ms: u64,
    pub trace: Vec<String>,
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, trace: Trace) -> Report {
    let w = make(seed, trace);
    let lived = catch_unwind(AssertUnwindSafe(|| live(&w)));
    if let Err(panic) = lived {
        let text =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        // Whatever was borrowed then is not any more.
        w.auditor.borrow_mut().wrong(format!("a panic: {}", text.unwrap_or("without a word")));
    }
    let report = {
        let auditor = w.auditor.borrow();
        Report {
            seed,
            findings: auditor.findings().to_vec(),
            counts: auditor.counts(),
            tally: auditor.tally(),
            events: auditor.events(),
            faults: w.faults.get(),
            jobs: w.database.tables.borrow().jobs.len() as u64,
            ms: w.exec.now_ms(),
            trace: w.take_trace(),
        }
    };
    w.exec.clear();
    report
}

fn make(seed: u64, trace: Trace) -> Rc<World> {
    let chance = Chance::new(seed);
    let limits = match chance.one_in(3) {
        true => Limits::default(),
        false => Limits { fence_after_s: 60, lost_after_s: 120 },
    };
    let calm = chance.one_in(10);
    let weather = if calm { Weather::default() } else { Weather::of(&chance) };
    let hosts: Vec<Host> =
        (1..=chance.between(2, 4)).map(|place| Host::new(&chance, place as usize)).collect();
    let known: Vec<_> =
        hosts.iter().map(|h| (h.name.clone(), h.inventory.cpu_milli, h.inventory.memory_mb)).collect();
    let guarded = chance.one_in(2);
    let skews = [0, 300, -2_000, 20_000];
    let queues = clients::queues(&chance);
    let auditor = Auditor::new(limits, guarded, &known, &queues);
    let tables = Tables::new(chance.uuid(), queues);
    let database = Database { up: true.into(), tables: tables.into() };
    let skew_ms = [*chance.pick(&skews), *chance.pick(&skews)];
    World::new(Parts {
        chance,
        weather,
        limits,
        database,
        hosts,
        guarded,
        auditor,
        skew_ms,
        calm,
        traced: trace == Trace::On,
    })
}

fn live(w: &Rc<World>) {
    for pid in SCHEDULERS.into_iter().chain((0..w.hosts.len()).map(worker_pid)) {
        start(w, pid);
    }
    let until_ms = w.chance.between(TROUBLE_MS.0, TROUBLE_MS.1);
    clients::start(w, until_ms);
    if !w.calm {
        w.exec.spawn(NATURE, faults::run(Rc::clone(w), until_ms));
    }
    w.exec.run_until(until_ms);
    faults::heal(w);
    let mut calm_looks = 0;
    while w.exec.now_ms() < until_ms + REST_MS && calm_looks < 3 && w.auditor.borrow().findings().is_empty() {
        w.exec.run_until(w.exec.now_ms() + LOOK_MS);
        let rests = w.auditor.borrow().is_at_rest(&w.database.tables.borrow(), containers(w).len());
        calm_looks = if rests && w.clients.open.get() == 0 { calm_looks + 1 } else { 0 };
    }
    w.trace(|| format!("at the end: {}", w.broker.describe()));
    if w.auditor.borrow().findings().is_empty() {
        let tables = w.database.tables.borrow();
        w.auditor.borrow_mut().look_back(&tables, &containers(w), w.clients.open.get(), w.calm);
    }
}

fn containers(w: &World) -> Vec<String> {
    w.hosts.iter().flat_map(|host| host.docker.names()).collect()
}
