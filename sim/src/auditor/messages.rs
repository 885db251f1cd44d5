//! What is asked, answered, ordered and committed, and what must hold in it at every moment.

use std::collections::BTreeMap;

use berth_common::command::{CommandStatus, CommandView, Verb};
use berth_common::id::{JobId, Replica};
use berth_common::job::{Outcome, Status};
use berth_common::message::{FromDevice, Order, Reply, Target, ToDevice};
use berth_scheduler::core::rows::Rows;
use serde_json::Value;
use uuid::Uuid;

use super::rest::is_too_large;
use super::{Asked, Auditor, Kind, Wants};
use crate::message::Request;

impl Auditor {
    pub fn asked(&mut self, request: &Request) {
        self.events += 1;
        match request {
            Request::Submit { id, spec, .. } => {
                let (jobs, wants) = read(*id, spec);
                for job in &jobs {
                    let asked = Asked {
                        wants: wants.clone(),
                        lived: None,
                        preempted: Vec::new(),
                        answered: None,
                        inventories: self.inventories,
                        is_too_large: false,
                        commands: Vec::new(),
                        killed: false,
                        exited: None,
                        has_succeeded: false,
                    };
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
            Request::Command { id, target: Target::Device(name), body, .. } => {
                let Some(&host) = self.names.get(name) else { return };
                let of = &mut self.hosts[host];
                if verb(body) == "resume" {
                    of.resumes += 1;
                    of.drained = false;
                    self.resumes.insert(*id, false);
                } else {
                    self.drains.insert(*id, of.resumes);
                }
            }
            Request::Admin { .. } => {
                if let Some(queue) = request.settings() {
                    self.settings_asked(queue);
                }
            }
        }
    }

    pub fn answered(&mut self, request: &Request, reply: &Reply, _now_ms: u64) {
        self.events += 1;
        match request {
            Request::Submit { id, spec, .. } => {
                for job in read(*id, spec).0 {
                    if let Some(job) = self.jobs.get_mut(&job) {
                        job.answered = Some(reply.status);
                        job.is_too_large = is_too_large(reply);
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
                // A refusal is not remembered: a late copy of a retry that was refused is carried out when it
                // makes sense.
                let retried = job.commands.iter().any(|(of, _)| of == "retry");
                if verb(body) == "kill" && reply.status == 202 {
                    job.killed = !retried;
                }
            }
            Request::Command { id, target: Target::Device(name), .. } => {
                let Some(&host) = self.names.get(name) else { return };
                let resumes = self.drains.get(id).filter(|_| reply.status == 202);
                self.hosts[host].drained |= resumes == Some(&self.hosts[host].resumes);
            }
            Request::Admin { .. } => {
                if let Some(queue) = request.settings() {
                    self.settings_answered(&queue, reply);
                }
            }
        }
    }

    /// An order is published, perhaps once more.
    pub fn ordered(&mut self, device: &str, order: &ToDevice, now_ms: u64) {
        self.events += 1;
        let Some(&host) = self.names.get(device) else { return };
        match &order.order {
            Order::Start(start) => {
                self.limited(start.replica, start.timeout_s);
                if *self.ordered.entry(start.replica).or_insert(host) != host {
                    self.find(Kind::Doubled, format!("{} is ordered on two devices", start.replica));
                }
            }
            Order::Stop(stop) => self.stop_ordered(stop, now_ms),
            Order::Welcome(welcome) => {
                let here = |(_, of): &(&Replica, &usize)| **of == host;
                let lacks = self.ordered.iter().filter(here).map(|(replica, _)| *replica);
                let lacks: Vec<Replica> =
                    lacks.filter(|replica| !welcome.expected.contains(replica)).collect();
                lacks.into_iter().for_each(|replica| self.not_expected(replica, now_ms));
            }
            Order::Limit(limit) => self.limited(limit.replica, limit.timeout_s),
            Order::Ask(_) | Order::Exec(_) => {}
        }
    }

    /// A worker makes a report.
    pub fn told(&mut self, told: &FromDevice) {
        self.events += 1;
        self.fault_told(&told.event);
    }

    /// A step is committed, with its state changes.
    pub fn committed(&mut self, rows: &Rows, now_ms: u64) {
        self.events += 1;
        self.settings_are_as_asked(rows);
        self.inventories += (rows.new_devices.len() + rows.devices.len()) as u64;
        self.devices_lost(rows, now_ms);
        self.devices_return(rows);
        self.quotas_are_kept(rows);
        self.lives_go_on(rows, now_ms);
        self.gangs_are_whole(rows);
        self.arrays_keep_their_caps(rows);
        for row in rows.new_jobs.iter().chain(&rows.jobs) {
            let Some(job) = self.jobs.get_mut(&row.id) else { continue };
            let may_return = job.commands.iter().any(|(of, _)| of == "retry");
            job.has_succeeded |= row.life.outcome == Some(Outcome::Succeeded);
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

    /// A refusal is not remembered: a late copy of a resume that was refused is carried out when it makes sense,
    /// after a drain too. Each is once at most.
    fn devices_return(&mut self, rows: &Rows) {
        let is_done = |row: &&CommandView| row.command == Verb::Resume && row.status == CommandStatus::Done;
        for row in rows.new_commands.iter().chain(&rows.commands).filter(is_done) {
            let host = row.device.as_ref().and_then(|name| self.names.get(name)).copied();
            let (Some(host), Some(was_done)) = (host, self.resumes.insert(row.id, true)) else {
                self.wrong(format!("nobody asked for this: {row:?}"));
                continue;
            };
            if was_done {
                self.find(Kind::Doubled, format!("the resume {} was carried out twice", row.id));
            }
            let of = &mut self.hosts[host];
            of.resumes += 1;
            of.drained = false;
        }
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
            let succeeded = |id: &&JobId| self.jobs.get(*id).is_some_and(|job| job.has_succeeded);
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
}

/// The jobs that a submission makes, and what each wants.
fn read(id: Uuid, spec: &Value) -> (Vec<JobId>, Wants) {
    let spec = berth_common::spec::from_value(spec.clone()).expect("the simulated clients write valid ones");
    let wants = Wants { queue: spec.queue.clone(), gpus: spec.gpus(), preemptible: spec.preemptible };
    (spec.job_ids(id), wants)
}

fn verb(body: &Value) -> &str {
    body["command"].as_str().unwrap_or_default()
}
