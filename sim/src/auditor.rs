//! The auditor: sees what clients asked and were answered, what the messages say, and what containers
//! truly ran, and checks the promises. It knows nothing of how anything is done.
//!
//! What it looks at while the world goes on is here; what must be true at rest is in `rest.rs`.

mod rest;

use std::collections::{BTreeMap, BTreeSet};

use berth_common::id::{JobId, Replica};
use berth_common::job::{Outcome, Status};
use berth_common::message::{FromDevice, Order, Reply, Start, Target, ToDevice};
use berth_common::spec::Disconnect;
use berth_scheduler::core::Limits;
use berth_scheduler::core::rows::Rows;
use serde_json::Value;
use uuid::Uuid;

use crate::exec::Pid;
use crate::message::Request;
use crate::world::guard_pid;

/// A call of Docker's may take so long.
const START_UNDER_WAY_MS: u64 = 60_000;
/// Before and after the end of a container: Docker's absence, and what the worker needs to tell it.
const WATCHED_MS: u64 = 500_000;

/// A confirm counts from when the message was sent, so long before it at most.
const CONFIRM_MS: u64 = 20_000;
/// A fence ends within this when Docker answers (`lost_after` − `fence_after` − 10 s).
const FENCE_MS: u64 = 50_000;

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

/// The four counts of the summary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub lost: u64,
    pub doubled: u64,
    pub leaked: u64,
    pub forgotten: u64,
    pub other: u64,
}

/// Which of them a finding belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A job that was answered and is not there, or never ends.
    Lost,
    /// Something that may be once was twice.
    Doubled,
    /// A GPU, a container, a message that stays.
    Leaked,
    /// A command that was accepted and not carried out.
    Forgotten,
    Other,
}

#[derive(Debug)]
struct Run {
    host: usize,
    start: Start,
    started_ms: u64,
    signalled_ms: Option<u64>,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy)]
struct End {
    ms: u64,
    code: i64,
    how: How,
}

/// A job as its client knows it.
#[derive(Debug)]
struct Asked {
    answered: Option<u16>,
    /// Verbs of commands sent, and whether they were accepted.
    commands: Vec<(String, Option<u16>)>,
    /// A kill that was accepted since the last retry was sent.
    killed: bool,
    /// When it was last seen to have exited, with which outcome, after which attempt.
    exited: Option<(Outcome, u32)>,
}

#[derive(Debug)]
struct OfHost {
    cpu_milli: i64,
    memory_mb: i64,
    confirmed_ms: u64,
    /// Somebody was answered that it is, and nobody asked for anything else since.
    drained: bool,
    /// After a silence that was long enough for a fence: it may still be under way.
    fenced_until_ms: u64,
    /// When its worker was dead or paused.
    absent: Vec<(u64, u64)>,
    /// When Docker did not answer, or nobody could fence: from, to.
    gaps: Vec<(u64, u64)>,
}

pub struct Auditor {
    limits: Limits,
    hosts: Vec<OfHost>,
    names: BTreeMap<String, usize>,
    runs: BTreeMap<Replica, Run>,
    live: BTreeSet<Replica>,
    jobs: BTreeMap<JobId, Asked>,
    /// Which start orders there were: to which host.
    ordered: BTreeMap<Replica, usize>,
    /// The shortest time limit that it was ever told.
    limits_s: BTreeMap<Replica, u64>,
    /// Commands that Docker ran.
    executed: BTreeSet<Uuid>,
    /// Elements of arrays, for what comes after them.
    arrays: BTreeMap<Uuid, Vec<JobId>>,
    /// Placed elements of arrays.
    placed: BTreeMap<JobId, Uuid>,
    /// What a stop order, or a welcome that lacks it, was sent for.
    unwanted: BTreeSet<Replica>,
    counts: Counts,
    findings: Vec<String>,
    events: u64,
}

impl Auditor {
    /// `hosts`: name, thousandths of CPUs, megabytes.
    pub fn new(limits: Limits, hosts: &[(String, i64, i64)]) -> Self {
        let of = |(_, cpu_milli, memory_mb): &(String, i64, i64)| OfHost {
            cpu_milli: *cpu_milli,
            memory_mb: *memory_mb,
            confirmed_ms: 0,
            drained: false,
            fenced_until_ms: 0,
            gaps: Vec::new(),
            absent: Vec::new(),
        };
        Self {
            limits,
            names: hosts.iter().enumerate().map(|(place, (name, ..))| (name.clone(), place)).collect(),
            hosts: hosts.iter().map(of).collect(),
            runs: BTreeMap::new(),
            live: BTreeSet::new(),
            jobs: BTreeMap::new(),
            ordered: BTreeMap::new(),
            limits_s: BTreeMap::new(),
            executed: BTreeSet::new(),
            arrays: BTreeMap::new(),
            placed: BTreeMap::new(),
            unwanted: BTreeSet::new(),
            counts: Counts::default(),
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

    /// What it has seen.
    pub fn events(&self) -> u64 {
        self.events
    }

    pub fn asked(&mut self, request: &Request) {
        self.events += 1;
        match request {
            Request::Submit { id, spec, .. } => {
                let jobs = jobs_of(*id, spec);
                for job in &jobs {
                    let asked = Asked { answered: None, commands: Vec::new(), killed: false, exited: None };
                    self.jobs.insert(*job, asked);
                }
                self.arrays.insert(*id, jobs);
            }
            Request::Command { target: Target::Job(job), body, .. } => {
                if let Some(job) = self.jobs.get_mut(job) {
                    // From now on it may be carried out, whatever is answered.
                    job.killed &= verb(body) != "retry";
                    job.commands.push((verb(body).to_owned(), None));
                }
            }
            Request::Command { target: Target::Device(name), body, .. } => {
                if let Some(&host) = self.names.get(name).filter(|_| verb(body) == "resume") {
                    self.hosts[host].drained = false;
                }
            }
        }
    }

    pub fn answered(&mut self, request: &Request, reply: &Reply, _now_ms: u64) {
        self.events += 1;
        match request {
            Request::Submit { id, spec, .. } => {
                for job in jobs_of(*id, spec) {
                    if let Some(job) = self.jobs.get_mut(&job) {
                        job.answered = Some(reply.status);
                    }
                }
            }
            Request::Command { target: Target::Job(id), body, .. } => {
                let Some(job) = self.jobs.get_mut(id) else { return };
                if let Some(last) =
                    job.commands.iter_mut().rev().find(|(of, answer)| of == verb(body) && answer.is_none())
                {
                    last.1 = Some(reply.status);
                }
                let retried =
                    job.commands.iter().rev().take_while(|(of, _)| of != "kill").any(|(of, _)| of == "retry");
                if verb(body) == "kill" && reply.status == 202 {
                    job.killed = !retried;
                }
            }
            Request::Command { target: Target::Device(name), body, .. } => {
                if let Some(&host) =
                    self.names.get(name).filter(|_| verb(body) == "drain" && reply.status == 202)
                {
                    self.hosts[host].drained = true;
                }
            }
        }
    }

    /// An order is published, perhaps once more.
    pub fn ordered(&mut self, device: &str, order: &ToDevice, _now_ms: u64) {
        self.events += 1;
        let Some(&host) = self.names.get(device) else { return };
        match &order.order {
            Order::Start(start) => {
                self.limited(start.replica, start.timeout_s);
                if *self.ordered.entry(start.replica).or_insert(host) != host {
                    self.find(Kind::Doubled, format!("{} is ordered on two devices", start.replica));
                }
            }
            Order::Stop(stop) => drop(self.unwanted.insert(stop.replica)),
            Order::Welcome(welcome) => {
                let here = |(_, of): &(&Replica, &usize)| **of == host;
                let lacks = self.ordered.iter().filter(here).map(|(replica, _)| *replica);
                let lacks: Vec<Replica> =
                    lacks.filter(|replica| !welcome.expected.contains(replica)).collect();
                self.unwanted.extend(lacks);
            }
            Order::Limit(limit) => self.limited(limit.replica, limit.timeout_s),
            Order::Ask(_) | Order::Exec(_) => {}
        }
    }

    fn limited(&mut self, replica: Replica, timeout_s: Option<u64>) {
        if let Some(timeout_s) = timeout_s {
            let least_s = self.limits_s.entry(replica).or_insert(timeout_s);
            *least_s = timeout_s.min(*least_s);
        }
    }

    /// Docker runs a command in a container.
    pub fn executed(&mut self, command: Uuid) {
        self.events += 1;
        if !self.executed.insert(command) {
            self.find(Kind::Doubled, format!("the command {command} was run twice"));
        }
    }

    /// A worker makes a report.
    pub fn told(&mut self, _told: &FromDevice, _now_ms: u64) {
        self.events += 1;
    }

    /// The broker has confirmed something to the worker of a host.
    pub fn confirmed(&mut self, host: usize, now_ms: u64) {
        let of = &mut self.hosts[host];
        if now_ms - of.confirmed_ms + CONFIRM_MS >= self.limits.fence_after_s * 1_000 {
            of.fenced_until_ms = now_ms + FENCE_MS;
        }
        of.confirmed_ms = now_ms;
    }

    pub fn docker_away(&mut self, host: usize, from_ms: u64, to_ms: u64) {
        self.hosts[host].gaps.push((from_ms, to_ms));
    }

    /// Neither the worker nor a guard could fence.
    pub fn unfenced(&mut self, host: usize, from_ms: u64, to_ms: u64) {
        self.hosts[host].gaps.push((from_ms, to_ms));
    }

    /// A step is committed, with its state changes.
    pub fn committed(&mut self, rows: &Rows, _now_ms: u64) {
        self.events += 1;
        self.gangs_are_whole(rows);
        self.arrays_keep_their_caps(rows);
        for row in rows.new_jobs.iter().chain(&rows.jobs) {
            let Some(job) = self.jobs.get_mut(&row.id) else { continue };
            let may_return = job.commands.iter().any(|(of, _)| of == "retry");
            match (row.life.status, row.life.outcome) {
                (Status::Exited, Some(outcome)) => job.exited = Some((outcome, row.life.attempt)),
                _ if job.exited.take().is_some() && !may_return => {
                    let text = format!("{} had exited and is {} again", row.id, row.life.status);
                    self.find(Kind::Doubled, text);
                }
                _ => {}
            }
        }
        self.starts_are_due(rows);
    }

    /// The start messages of one attempt come all in one transaction, or none does.
    fn gangs_are_whole(&mut self, rows: &Rows) {
        let mut replicas: BTreeMap<(JobId, u32), (u32, u32)> = BTreeMap::new();
        for row in &rows.outbox {
            if let Order::Start(start) = &row.message.order {
                let of = (start.replica.job, start.replica.attempt);
                let entry = replicas.entry(of).or_insert((0, start.spec.replicas));
                entry.0 += 1;
            }
        }
        for ((job, attempt), (placed, wanted)) in replicas {
            if placed != wanted {
                self.wrong(format!("{job} attempt {attempt}: {placed} of {wanted} replicas were placed"));
            }
        }
    }

    /// What is placed comes after nothing that has not succeeded, and on no drained device.
    fn starts_are_due(&mut self, rows: &Rows) {
        for row in &rows.outbox {
            let Order::Start(start) = &row.message.order else { continue };
            let named = start.spec.after.iter().filter_map(|id| self.arrays.get(id)).flatten();
            let succeeded = |id: &&JobId| {
                self.jobs.get(*id).and_then(|job| job.exited).is_some_and(|(of, _)| of == Outcome::Succeeded)
            };
            let early = named.filter(|id| !succeeded(id)).copied().next();
            let drained = self.names.get(&row.device).is_some_and(|&host| self.hosts[host].drained);
            if let Some(dependency) = early {
                self.wrong(format!("{} is placed before {dependency} has succeeded", start.replica));
            }
            if drained {
                self.wrong(format!("{} is placed on {}, which is drained", start.replica, row.device));
            }
        }
    }

    fn arrays_keep_their_caps(&mut self, rows: &Rows) {
        for row in rows.new_jobs.iter().chain(&rows.jobs) {
            let Some(array) = row.array else { continue };
            if row.life.status.is_placed() {
                self.placed.insert(row.id, array.id);
            } else {
                self.placed.remove(&row.id);
            }
        }
        for row in rows.jobs.iter().filter(|row| row.life.status.is_placed()) {
            let cap = row.spec.array.as_ref().and_then(|array| array.max_running);
            let (Some(array), Some(cap)) = (row.array, cap) else { continue };
            let placed = self.placed.values().filter(|of| **of == array.id).count();
            if placed > cap as usize {
                self.wrong(format!("{placed} elements of {} are placed at once, {cap} may be", array.id));
            }
        }
    }

    /// A container begins to run.
    pub fn started(&mut self, host: usize, start: &Start, now_ms: u64) {
        self.events += 1;
        let replica = start.replica;
        if self.runs.contains_key(&replica) {
            self.find(Kind::Doubled, format!("{replica} was started twice"));
        }
        if self.ordered.get(&replica) != Some(&host) {
            self.wrong(format!("{replica} runs where nobody ordered it"));
        }
        if let Some((outcome, attempt)) = self.jobs.get(&replica.job).and_then(|job| job.exited)
            && replica.attempt <= attempt
        {
            self.find(Kind::Doubled, format!("{replica} starts after the job was {outcome}"));
        }
        self.gpus_are_free(start);
        self.no_other_attempt_lives(start, now_ms);
        let run = Run { host, start: start.clone(), started_ms: now_ms, signalled_ms: None, end: None };
        self.runs.insert(replica, run);
        self.live.insert(replica);
        self.device_is_not_over_committed(host);
    }

    fn gpus_are_free(&mut self, start: &Start) {
        let taken = |uuid: &String| {
            let has = |replica: &&Replica| self.runs[replica].start.gpus.iter().any(|gpu| &gpu.uuid == uuid);
            self.live.iter().find(has).copied()
        };
        let found = start.gpus.iter().find_map(|gpu| Some((gpu.uuid.clone(), taken(&gpu.uuid)?)));
        if let Some((uuid, other)) = found {
            self.find(Kind::Doubled, format!("{} got the GPU {uuid}, which {other} has", start.replica));
        }
    }

    /// With `disconnect: requeue` an attempt has ended when the next one begins.
    fn no_other_attempt_lives(&mut self, start: &Start, now_ms: u64) {
        if start.spec.disconnect == Disconnect::Keep {
            return;
        }
        let of =
            |replica: &&Replica| replica.job == start.replica.job && replica.attempt != start.replica.attempt;
        let Some(other) = self.live.iter().find(of).copied() else { return };
        // A Docker that does not answer can kill nothing: that is not promised.
        let since_ms = now_ms.saturating_sub(self.limits.lost_after_s * 2_000);
        let gap = |(from_ms, to_ms): &(u64, u64)| *from_ms <= now_ms && *to_ms >= since_ms;
        if !self.hosts[self.runs[&other].host].gaps.iter().any(gap) {
            self.find(Kind::Doubled, format!("{} starts while {other} lives", start.replica));
        }
    }

    fn device_is_not_over_committed(&mut self, host: usize) {
        let here = self.live.iter().map(|replica| &self.runs[replica]).filter(|run| run.host == host);
        let (cpu_milli, memory_mb) = here.fold((0, 0), |(cpu_milli, memory_mb), run| {
            let needs = &run.start.spec.resources;
            (cpu_milli + needs.cpus.milli, memory_mb + i64::try_from(needs.memory_mb).unwrap_or(i64::MAX))
        });
        let of = &self.hosts[host];
        if cpu_milli > of.cpu_milli || memory_mb > of.memory_mb {
            self.wrong(format!("host {host} is over-committed: {cpu_milli} milli-CPUs, {memory_mb} MB"));
        }
    }

    /// A signal reaches a running container: somebody must have had a reason.
    pub fn signalled(&mut self, host: usize, replica: Replica, by: By, now_ms: u64) {
        self.events += 1;
        if let Some(run) = self.runs.get_mut(&replica) {
            run.signalled_ms.get_or_insert(now_ms);
        }
        let of = &self.hosts[host];
        let silent_ms = now_ms.saturating_sub(of.confirmed_ms) + CONFIRM_MS;
        let requeue =
            self.runs.get(&replica).is_some_and(|run| run.start.spec.disconnect == Disconnect::Requeue);
        let over = silent_ms >= self.limits.fence_after_s * 1_000 || now_ms <= of.fenced_until_ms;
        let fenced = requeue && over;
        if !fenced && !(by == By::Worker && self.unwanted.contains(&replica)) {
            self.wrong(format!("{replica} was signalled by {by:?} without a reason"));
        }
    }

    /// A running container is removed. A start may have been on its way when the worker gave it up, and
    /// come in between: it is taken back.
    pub fn removed(&mut self, host: usize, replica: Replica, by: By, now_ms: u64) {
        let young = |run: &Run| now_ms - run.started_ms < START_UNDER_WAY_MS;
        if self.runs.get(&replica).is_some_and(young) {
            if let Some(run) = self.runs.get_mut(&replica) {
                run.signalled_ms.get_or_insert(now_ms);
            }
            return;
        }
        self.signalled(host, replica, by, now_ms);
    }

    /// The worker of a host dies, or is paused, or is there again.
    pub fn worker_is(&mut self, host: usize, there: bool, now_ms: u64) {
        let absent = &mut self.hosts[host].absent;
        match (there, absent.last_mut()) {
            (true, Some((_, to_ms))) if *to_ms == u64::MAX => *to_ms = now_ms,
            (true, _) => {}
            (false, Some((_, to_ms))) if *to_ms == u64::MAX => {}
            (false, _) => absent.push((now_ms, u64::MAX)),
        }
    }

    /// Whether a worker that was there all the time saw Docker take this container down; else nobody can
    /// tell its end from one of its own.
    fn seen_by_worker(&self, run: &Run) -> bool {
        let Some(end) = run.end else { return false };
        let (from_ms, to_ms) = (end.ms.saturating_sub(WATCHED_MS), end.ms + WATCHED_MS);
        !self.hosts[run.host].absent.iter().any(|(from, to)| *from <= to_ms && *to >= from_ms)
    }

    /// A worker says that a container has run for as long as it may.
    pub fn time_is_over(&mut self, replica: Replica, now_ms: u64) {
        let limit_ms = self.limits_s.get(&replica).map(|s| s * 1000);
        let ran_ms = self.runs.get(&replica).map_or(0, |run| now_ms - run.started_ms);
        if limit_ms.is_some_and(|limit_ms| ran_ms + 100 >= limit_ms) {
            self.unwanted.insert(replica);
        }
    }

    pub fn ended(&mut self, _host: usize, replica: Replica, code: i64, how: How, now_ms: u64) {
        self.events += 1;
        self.live.remove(&replica);
        if let Some(run) = self.runs.get_mut(&replica) {
            run.end = Some(End { ms: now_ms, code, how });
        }
    }
}

/// The jobs that a submission makes.
fn jobs_of(id: Uuid, spec: &Value) -> Vec<JobId> {
    let spec = berth_common::spec::from_value(spec.clone());
    spec.map_or_else(|_| vec![id], |spec| spec.job_ids(id))
}

fn verb(body: &Value) -> &str {
    body["command"].as_str().unwrap_or_default()
}
