//! The auditor: sees what clients asked and were answered, what the messages say, and what containers
//! truly ran, and checks the promises. It knows nothing of how anything is done.
//!
//! What it remembers is here. What must hold at every moment is in `messages.rs`, `containers.rs`,
//! `stops.rs`, `silence.rs`, `queues.rs` and `preempted.rs`, what must be true at rest in `rest.rs`.

mod containers;
mod messages;
mod preempted;
mod queues;
mod rest;
mod silence;
mod stops;
mod tally;

use std::collections::{BTreeMap, BTreeSet};

use berth_common::id::{JobId, Replica};
use berth_common::job::Outcome;
use berth_common::message::Start;
use berth_common::queue::Queue;
use berth_scheduler::core::Limits;
use uuid::Uuid;

use crate::exec::Pid;
use crate::world::guard_pid;
use preempted::Lived;
use queues::Queues;
use stops::Wished;
pub use tally::{Counts, Kind, Tally};

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    ByItself,
    /// By a signal of the worker's or the guard's.
    Signalled,
    /// Docker or the host took it down.
    ByDocker,
}

/// Who sent a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Worker,
    Guard,
}

impl By {
    pub fn of(pid: Pid, host: usize) -> Self {
        if pid == guard_pid(host) { Self::Guard } else { Self::Worker }
    }
}

#[derive(Debug)]
struct Run {
    host: usize,
    start: Start,
    started_ms: u64,
    signalled_ms: Option<u64>,
    /// It was signalled when a fence could do that.
    may_be_fenced: bool,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy)]
struct End {
    ms: u64,
    code: i64,
    how: How,
}

/// What a client asked for, as far as queues and others are concerned.
#[derive(Debug, Clone)]
struct Wants {
    queue: String,
    gpus: u64,
    preemptible: bool,
}

/// A job as its client knows it.
#[derive(Debug)]
struct Asked {
    wants: Wants,
    lived: Option<Lived>,
    /// Attempts that went for others.
    preempted: Vec<u32>,
    answered: Option<u16>,
    /// What devices had been said to have, how many times, when it was asked for.
    inventories: u64,
    /// It was refused, and for nothing else: it is larger than every device.
    is_too_large: bool,
    /// Verbs of commands sent, and whether they were accepted.
    commands: Vec<(String, Option<u16>)>,
    /// A kill that was accepted since the last retry was sent.
    killed: bool,
    /// When it was last seen to have exited, with which outcome, after which attempt.
    exited: Option<(Outcome, u32)>,
    /// Once, whatever became of it by a retry.
    has_succeeded: bool,
}

#[derive(Debug)]
struct OfHost {
    cpu_milli: i64,
    memory_mb: i64,
    /// When the broker last confirmed something to its worker.
    confirmed_ms: u64,
    /// When the newest of what was confirmed had been sent.
    heard_ms: u64,
    /// The same, as far as the lease file has it: what the guard knows, and the
    /// next process of the worker.
    written_ms: u64,
    /// The broker heard nothing for so long that the session ended, and no other has begun.
    session_is_over: bool,
    welcomed_ms: u64,
    /// Somebody was answered that it is, and nobody asked for anything else since.
    drained: bool,
    /// How often somebody asked for its return, or was heard with that late.
    resumes: u64,
    /// When it was last given up as lost.
    lost_ms: Option<u64>,
    /// After a silence that was long enough for a fence: it may still be under way.
    fenced_until_ms: u64,
    /// When its worker was dead or paused.
    absent: Vec<(u64, u64)>,
    /// When Docker did not answer, or nobody could fence: from, to.
    gaps: Vec<(u64, u64)>,
}

pub struct Auditor {
    limits: Limits,
    /// Whether the hosts have guards; else workers alone fence.
    guarded: bool,
    hosts: Vec<OfHost>,
    names: BTreeMap<String, usize>,
    /// By the numbers that the database has for them.
    dids: BTreeMap<i64, usize>,
    /// How often it was committed what a device has.
    inventories: u64,
    runs: BTreeMap<Replica, Run>,
    live: BTreeSet<Replica>,
    /// Of which a worker has said that they had a fault, or that it does not know what became of them.
    faulty: BTreeSet<Replica>,
    jobs: BTreeMap<JobId, Asked>,
    /// Which start orders there were: to which host.
    ordered: BTreeMap<Replica, usize>,
    /// Names of containers that Docker was asked to start.
    asked_to_start: BTreeSet<String>,
    /// Commands that Docker ran.
    executed: BTreeSet<Uuid>,
    /// Elements of arrays, for what comes after them.
    arrays: BTreeMap<Uuid, Vec<JobId>>,
    /// Placed elements of arrays.
    placed: BTreeMap<JobId, Uuid>,
    /// With how many resumes before each drain was asked for: one that came later may have come first.
    drains: BTreeMap<Uuid, u64>,
    /// Whether each resume that was asked for has been carried out.
    resumes: BTreeMap<Uuid, bool>,
    wished: BTreeMap<Replica, Wished>,
    queues: Queues,
    counts: Counts,
    tally: Tally,
    findings: Vec<String>,
    events: u64,
}

impl Auditor {
    /// `hosts`: name, thousandths of CPUs, megabytes.
    pub fn new(limits: Limits, guarded: bool, hosts: &[(String, i64, i64)], queues: &[Queue]) -> Self {
        let of = |(_, cpu_milli, memory_mb): &(String, i64, i64)| OfHost {
            cpu_milli: *cpu_milli,
            memory_mb: *memory_mb,
            confirmed_ms: 0,
            heard_ms: 0,
            written_ms: 0,
            session_is_over: false,
            welcomed_ms: 0,
            drained: false,
            resumes: 0,
            lost_ms: None,
            fenced_until_ms: 0,
            gaps: Vec::new(),
            absent: Vec::new(),
        };
        Self {
            limits,
            guarded,
            names: hosts.iter().enumerate().map(|(place, (name, ..))| (name.clone(), place)).collect(),
            hosts: hosts.iter().map(of).collect(),
            dids: BTreeMap::new(),
            inventories: 0,
            runs: BTreeMap::new(),
            live: BTreeSet::new(),
            faulty: BTreeSet::new(),
            jobs: BTreeMap::new(),
            ordered: BTreeMap::new(),
            asked_to_start: BTreeSet::new(),
            executed: BTreeSet::new(),
            arrays: BTreeMap::new(),
            placed: BTreeMap::new(),
            drains: BTreeMap::new(),
            resumes: BTreeMap::new(),
            wished: BTreeMap::new(),
            queues: Queues::new(queues),
            counts: Counts::default(),
            tally: Tally::default(),
            findings: Vec::new(),
            events: 0,
        }
    }

    pub fn wrong(&mut self, text: String) {
        self.find(Kind::Other, text);
    }

    fn find(&mut self, kind: Kind, text: String) {
        *match kind {
            Kind::Lost => &mut self.counts.lost,
            Kind::Doubled => &mut self.counts.doubled,
            Kind::Leaked => &mut self.counts.leaked,
            Kind::Forgotten => &mut self.counts.forgotten,
            Kind::Other => &mut self.counts.other,
        } += 1;
        self.findings.push(text);
    }

    pub fn findings(&self) -> &[String] {
        &self.findings
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// What it has seen.
    pub fn events(&self) -> u64 {
        self.events
    }
}
