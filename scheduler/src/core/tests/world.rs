//! A world for the core: a database made of maps with the tables' keys, and workers that follow the
//! protocol with a few lines each. Every message is written as JSON and read again on its way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use berth_common::command::{CommandBody, CommandStatus, CommandView, Verb};
use berth_common::id::{JobId, Replica};
use berth_common::inventory::{Inventory, declared_gpus};
use berth_common::job::{AttemptStatus, Status};
use berth_common::message::{
    Answer, Ending, Event as Told, Exited, FromDevice, Heartbeat, Held, HeldState, Order, PROTOCOL, Reply,
    Started, Target, ToDevice, WhatBecame,
};
use berth_common::spec::from_value;
use berth_common::time::plus_ms;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::core::check::violations;
use crate::core::input::{Command, Input, Submission};
use crate::core::rows::*;
use crate::core::{Core, Limits};

/// The tables, with the constraints that matter: what breaks one panics.
#[derive(Default)]
pub struct Tables {
    next_id: i64,
    pub jobs: BTreeMap<JobId, JobRow>,
    pub containers: BTreeMap<i64, ContainerRow>,
    pub reservations: BTreeMap<i64, ReservationRow>,
    devices: BTreeMap<i64, DeviceRow>,
    gpus: BTreeMap<i64, GpuRow>,
    states: BTreeMap<i64, DeviceStateRow>,
    pub commands: BTreeMap<Uuid, CommandView>,
    pub events: Vec<JobEventRow>,
    outbox: BTreeMap<i64, OutboxRow>,
}

impl Tables {
    fn commit(&mut self, rows: Rows) {
        let new = |fresh: bool| assert!(fresh, "duplicate key");
        for row in rows.new_gpus {
            assert!(self.gpus.values().all(|known| known.gpu.uuid != row.gpu.uuid), "one GPU, two numbers");
            new(self.gpus.insert(row.gid, row).is_none());
        }
        for row in rows.new_devices {
            new(self.devices.insert(row.did, row).is_none());
        }
        for row in rows.new_device_states {
            new(self.states.insert(row.did, row).is_none());
        }
        for row in rows.new_jobs {
            new(self.jobs.insert(row.id, row).is_none());
        }
        for row in rows.new_containers {
            new(self.containers.insert(row.cid, row).is_none());
        }
        for row in rows.new_commands {
            new(self.commands.insert(row.id, row).is_none());
        }
        for release in rows.releases {
            let row = self.reservations.remove(&release.gid).expect("a reservation that ends was there");
            assert_eq!(row.cid, release.cid);
        }
        for row in rows.reservations {
            new(self.reservations.insert(row.gid, row).is_none());
        }
        let there = |known: bool| assert!(known, "an update of a row that is not there");
        for row in rows.devices {
            there(self.devices.insert(row.did, row).is_some());
        }
        for row in rows.device_states {
            there(self.states.insert(row.did, row).is_some());
        }
        for row in rows.jobs {
            there(self.jobs.insert(row.id, row).is_some());
        }
        for row in rows.containers {
            there(self.containers.insert(row.cid, row).is_some());
        }
        for row in rows.commands {
            there(self.commands.insert(row.id, row).is_some());
        }
        self.events.extend(rows.events);
        for row in rows.outbox {
            assert!(self.outbox.insert(row.message.id, row).is_none(), "message ids are never reused");
        }
        self.next_id = rows.next_id.unwrap_or(self.next_id);
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            instance: Uuid::from_u128(1),
            secret: "secret".into(),
            next_id: self.next_id,
            queues: vec![berth_common::queue::Queue {
                default_timeout_s: Some(7 * 86_400),
                ..berth_common::queue::Queue::new("default")
            }],
            devices: self.devices.values().cloned().collect(),
            gpus: self.gpus.values().cloned().collect(),
            device_states: self.states.values().cloned().collect(),
            jobs: self.jobs.values().filter(|j| j.life.status != Status::Exited).cloned().collect(),
            containers: self
                .containers
                .values()
                .filter(|c| c.status != AttemptStatus::Exited)
                .cloned()
                .collect(),
            reservations: self.reservations.values().copied().collect(),
            commands: self
                .commands
                .values()
                .filter(|c| c.status == CommandStatus::Pending)
                .cloned()
                .collect(),
            outbox: self.outbox.values().cloned().collect(),
            ..Snapshot::default()
        }
    }

    fn facts(&self, needs: &Needs) -> Facts {
        let user = |name: &String| match name.as_str() {
            "root" => Some(UserRow { uid: 1, name: name.clone(), role: Role::Admin }),
            "ann" | "bob" => Some(UserRow { uid: 2, name: name.clone(), role: Role::User }),
            _ => None,
        };
        Facts {
            jobs: needs.jobs.iter().filter_map(|id| self.jobs.get(id).cloned()).collect(),
            users: needs.users.iter().filter_map(user).collect(),
            commands: needs.commands.iter().filter_map(|id| self.commands.get(id).cloned()).collect(),
            ..Facts::default()
        }
    }
}

/// A worker: its inbox survives a crash, its session does not.
pub struct Worker {
    name: String,
    pub gpus: u32,
    boot: Uuid,
    session: Option<i64>,
    /// The largest session and id ever taken.
    taken: (i64, i64),
    /// By replica: its state; those that ended keep their ending.
    pub held: BTreeMap<Replica, HeldState>,
    ended: BTreeMap<Replica, Ending>,
    stopping: BTreeSet<Replica>,
    /// What Docker was told to start, for ever.
    pub started: Vec<Replica>,
    pub queue: VecDeque<String>,
}

pub struct World {
    pub core: Core,
    pub now: Timestamp,
    pub tables: Tables,
    pub workers: BTreeMap<String, Worker>,
    pub dropped: u64,
    /// Reports on their way to the leader.
    pub reports: VecDeque<String>,
}

impl World {
    pub fn new() -> Self {
        let tables = Tables { next_id: 1, ..Tables::default() };
        let now = Timestamp::UNIX_EPOCH;
        let mut core = Core::load(tables.snapshot(), Limits::default(), now);
        core.set_hearing(true, now);
        Self { core, now, tables, workers: BTreeMap::new(), dropped: 0, reports: VecDeque::new() }
    }

    /// With these devices, welcomed.
    pub fn with(devices: &[(&str, u32)]) -> Self {
        let mut world = Self::new();
        for (name, gpus) in devices {
            world.worker(name, *gpus);
            world.settle();
        }
        world
    }

    pub fn worker(&mut self, name: &str, gpus: u32) {
        let worker = Worker {
            name: name.into(),
            gpus,
            boot: Uuid::from_u128(self.workers.len() as u128 * 1000),
            session: None,
            taken: (0, 0),
            held: BTreeMap::new(),
            ended: BTreeMap::new(),
            stopping: BTreeSet::new(),
            started: Vec::new(),
            queue: VecDeque::new(),
        };
        self.workers.insert(name.into(), worker);
        self.heartbeat(name);
    }

    /// One step; commits it, and hands the messages to the devices' queues.
    pub fn step(&mut self, inputs: Vec<Input>) -> Vec<Reply> {
        let facts = self.tables.facts(&self.core.needs(&inputs));
        let decisions = self.core.step(self.now, inputs, facts);
        assert_eq!(violations(&self.core), Vec::<String>::new());
        self.dropped += decisions.dropped_reports;
        for row in &decisions.rows.outbox {
            let text = serde_json::to_string(&row.message).expect("JSON");
            self.workers.get_mut(&row.device).expect("a known device").queue.push_back(text);
        }
        self.tables.commit(decisions.rows);
        decisions.replies.into_iter().map(|(_, reply)| reply).collect()
    }

    /// The leader loses its memory.
    pub fn reload(&mut self) {
        self.core = Core::load(self.tables.snapshot(), Limits::default(), self.now);
        self.core.set_hearing(true, self.now);
        assert_eq!(violations(&self.core), Vec::<String>::new());
    }

    pub fn pass(&mut self, ms: i64) {
        self.now = plus_ms(self.now, ms);
        self.step(Vec::new());
    }

    pub fn submit_as(&mut self, owner: &str, n: u128, extra: Value) -> Reply {
        let mut body = json!({"image": "busybox"});
        for (key, value) in extra.as_object().expect("an object") {
            body[key] = value.clone();
        }
        let spec = from_value(body).expect("a valid specification");
        let submission = Submission { id: Uuid::from_u128(n), owner: owner.into(), hash: spec.hash(), spec };
        self.step(vec![Input::Submit(Box::new(submission))]).remove(0)
    }

    pub fn submit(&mut self, n: u128, gpus: u32) -> JobId {
        let reply = self.submit_as("ann", n, json!({"resources": {"gpus": gpus}}));
        assert_eq!(reply.status, 201, "{}", reply.body);
        Uuid::from_u128(n)
    }

    pub fn command_as(&mut self, actor: &str, id: u128, job: JobId, verb: Verb) -> Reply {
        let body = CommandBody::new(verb);
        let command =
            Command { id: Uuid::from_u128(id), target: Target::Job(job), actor: actor.into(), body };
        self.step(vec![Input::Command(command)]).remove(0)
    }

    pub fn status(&self, job: JobId) -> Status {
        self.tables.jobs[&job].life.status
    }

    pub fn life(&self, job: JobId) -> &Life {
        &self.tables.jobs[&job].life
    }

    // ---- what the workers do ----

    pub fn heartbeat(&mut self, name: &str) {
        let worker = &self.workers[name];
        let inventory = worker.session.is_none().then(|| Inventory {
            ip: "127.0.0.1".into(),
            cpu_milli: 64_000,
            cpu_name: "cpu".into(),
            memory_mb: 64_000,
            gpus: declared_gpus(name, &[(worker.gpus, "T4".into())][..usize::from(worker.gpus > 0)]),
            gpus_declared: true,
            engine: "test".into(),
            data_dir: "/data".into(),
            pub_dir: None,
        });
        let attempts = worker.held.iter().map(|(&replica, &state)| Held { replica, state }).collect();
        let heartbeat = Heartbeat {
            protocol: PROTOCOL,
            session: worker.session,
            last: worker.session.map(|_| worker.taken.1),
            instance: None,
            inventory,
            attempts: Some(attempts),
            health: None,
        };
        self.tell(name, Told::Heartbeat(Box::new(heartbeat)));
    }

    fn tell(&mut self, name: &str, event: Told) {
        let worker = &self.workers[name];
        let worker_id = Uuid::new_v5(&Uuid::nil(), worker.name.as_bytes());
        let told = FromDevice { device: name.into(), worker_id, boot: worker.boot, at: self.now, event };
        self.reports.push_back(serde_json::to_string(&told).expect("JSON"));
    }

    /// The leader reads the oldest report; it may stay, to be read again.
    pub fn read_report(&mut self, again: bool) {
        let Some(text) = self.reports.pop_front() else { return };
        if again {
            self.reports.push_back(text.clone());
        }
        self.step(vec![Input::Device(serde_json::from_str(&text).expect("JSON"))]);
    }

    /// A worker takes the oldest message of its queue; it may come again.
    pub fn take(&mut self, name: &str, again: bool) {
        let worker = self.workers.get_mut(name).expect("a known worker");
        let Some(text) = worker.queue.pop_front() else { return };
        if again {
            worker.queue.push_back(text.clone());
        }
        let message: ToDevice = serde_json::from_str(&text).expect("JSON");
        if let Order::Welcome(welcome) = message.order {
            if welcome.boot == worker.boot && message.session > worker.taken.0 {
                self.begin(name, message.session, message.id, &welcome.expected);
            }
            return;
        }
        if worker.session != Some(message.session) || message.id <= worker.taken.1 {
            return;
        }
        worker.taken.1 = message.id;
        match message.order {
            Order::Start(start) => {
                worker.held.insert(start.replica, HeldState::Taken);
            }
            Order::Stop(stop) => {
                if worker.held.contains_key(&stop.replica) {
                    worker.stopping.insert(stop.replica);
                } else {
                    self.answer(name, stop.replica);
                }
            }
            Order::Ask(replica) => self.answer(name, replica),
            Order::Welcome(_) | Order::Exec(_) | Order::Limit(_) => {}
        }
    }

    fn begin(&mut self, name: &str, session: i64, id: i64, expected: &[Replica]) {
        let worker = self.workers.get_mut(name).expect("a known worker");
        worker.session = Some(session);
        worker.taken = (session, id);
        let strangers: Vec<_> = worker.held.keys().filter(|r| !expected.contains(r)).copied().collect();
        worker.stopping.extend(strangers);
        for &replica in expected {
            if self.workers[name].held.get(&replica).is_none_or(|s| *s == HeldState::Exited) {
                self.answer(name, replica);
            }
        }
        self.heartbeat(name);
    }

    fn answer(&mut self, name: &str, replica: Replica) {
        let worker = &self.workers[name];
        let answer = match (worker.held.get(&replica), worker.ended.get(&replica)) {
            (_, Some(ending)) => WhatBecame::Ended { ending: ending.clone() },
            (Some(state), None) => WhatBecame::Live { state: *state },
            (None, None) => WhatBecame::NeverTaken,
        };
        let session = worker.session.unwrap_or(0);
        self.tell(name, Told::Answer(Answer { replica, session, answer }));
    }

    /// Docker starts what was taken.
    pub fn start(&mut self, name: &str) {
        let worker = self.workers.get_mut(name).expect("a known worker");
        if worker.session.is_none() {
            return;
        }
        let taken = worker.held.iter().find(|(_, state)| **state == HeldState::Taken).map(|(r, _)| *r);
        let Some(replica) = taken else { return };
        let session = worker.taken.0;
        if worker.stopping.contains(&replica) {
            return self.end(name, replica, None);
        }
        worker.held.insert(replica, HeldState::Running);
        worker.started.push(replica);
        let started =
            Started { replica, session, docker_id: "d".into(), started_at: self.now, ports: BTreeMap::new() };
        self.tell(name, Told::Started(started));
    }

    /// The oldest container ends: by itself with `code`, or because it was told to stop.
    pub fn finish(&mut self, name: &str, code: i64) {
        let running = self.workers[name].held.iter().find(|(_, state)| **state == HeldState::Running);
        if let Some((&replica, _)) = running {
            self.end(name, replica, Some(code));
        }
    }

    fn end(&mut self, name: &str, replica: Replica, code: Option<i64>) {
        let worker = self.workers.get_mut(name).expect("a known worker");
        let signalled = worker.stopping.contains(&replica);
        let ending = Ending {
            exit_code: if signalled { code.map(|_| 143) } else { code },
            oom: false,
            signalled,
            timed_out: false,
            fault: None,
            started_at: code.map(|_| self.now),
            exited_at: self.now,
        };
        worker.held.remove(&replica);
        worker.ended.insert(replica, ending.clone());
        let session = worker.taken.0;
        self.tell(name, Told::Exited(Exited { replica, session, ending }));
    }

    /// The worker's process dies and comes back; its containers go on.
    pub fn crash(&mut self, name: &str) {
        let worker = self.workers.get_mut(name).expect("a known worker");
        worker.boot = Uuid::from_u128(worker.boot.as_u128() + 1);
        worker.session = None;
        self.heartbeat(name);
    }

    pub fn lose(&mut self, name: &str) {
        self.workers.get_mut(name).expect("a known worker").queue.pop_front();
    }

    pub fn delay(&mut self, name: &str) {
        let queue = &mut self.workers.get_mut(name).expect("a known worker").queue;
        if let Some(text) = queue.pop_front() {
            queue.push_back(text);
        }
    }

    /// No heartbeat for longer than a device may be silent. The worker has fenced itself by then:
    /// what it ran is killed, what it took is not started, and a welcome from before is not for it.
    pub fn cut(&mut self, name: &str) {
        let others: Vec<String> = self.workers.keys().filter(|other| *other != name).cloned().collect();
        let worker = self.workers.get_mut(name).expect("a known worker");
        worker.session = None;
        worker.boot = Uuid::from_u128(worker.boot.as_u128() + 1);
        worker.stopping.extend(worker.held.keys().copied().collect::<Vec<_>>());
        let held: Vec<Replica> = worker.held.keys().copied().collect();
        let reports = std::mem::take(&mut self.reports);
        for replica in held {
            self.end(name, replica, Some(137));
        }
        let told = std::mem::take(&mut self.reports);
        for _ in 0..62 {
            for other in &others {
                self.heartbeat(other);
            }
            while !self.reports.is_empty() {
                self.read_report(false);
            }
            self.pass(5_000);
        }
        self.reports.extend(reports.into_iter().chain(told));
        self.heartbeat(name);
    }

    /// Everything that is on its way arrives, and everything that can start does.
    pub fn settle(&mut self) {
        for _ in 0..1000 {
            let names: Vec<String> = self.workers.keys().cloned().collect();
            let busy = !self.reports.is_empty() || self.workers.values().any(|w| !w.queue.is_empty());
            while !self.reports.is_empty() {
                self.read_report(false);
            }
            let mut started = false;
            for name in &names {
                self.take(name, false);
                let before = self.workers[name].started.len();
                self.start(name);
                started |= self.workers[name].started.len() != before;
            }
            if !busy && !started && self.reports.is_empty() {
                return;
            }
        }
        panic!("the world does not come to rest");
    }
}

impl World {
    /// Like [`Self::settle`], while the other workers are cut off.
    pub fn settle_one(&mut self, name: &str) {
        for _ in 0..20 {
            while !self.reports.is_empty() {
                self.read_report(false);
            }
            self.take(name, false);
            self.start(name);
        }
    }

    /// A heartbeat of another worker that took the name of a device.
    pub fn stranger(&mut self, name: &str) -> FromDevice {
        self.heartbeat(name);
        let text = self.reports.pop_back().expect("the heartbeat");
        let told: FromDevice = serde_json::from_str(&text).expect("JSON");
        FromDevice { worker_id: Uuid::from_u128(99), ..told }
    }
}
