//! A world for the core: a database made of maps with the tables' keys, and workers that follow the
//! protocol with a few lines each. Every message is written as JSON and read again on its way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use berth_common::command::{CommandBody, CommandStatus, CommandView, Verb};
use berth_common::id::{JobId, Replica};
use berth_common::inventory::{Inventory, declared_gpus};
use berth_common::job::{AttemptStatus, Status};
use berth_common::message::{
    AdminRequest, Answer, Ending, Event as Told, Exec, Executed, Exited, FromDevice, Heartbeat, Held,
    HeldState, Limit, Order, PROTOCOL, Reply, Start, Started, Target, ToDevice, WhatBecame,
};
use berth_common::queue::Queue;
use berth_common::spec::{Disconnect, from_value};
use berth_common::time::plus_ms;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::core::check::violations;
use crate::core::input::{Admin, Command, Input, Submission};
use crate::core::rows::*;
use crate::core::{Core, Limits};

/// The tables, with the constraints that matter: what breaks one panics.
#[derive(Default, Clone)]
pub struct Tables {
    pub next_id: i64,
    pub attempt_floor: u32,
    pub recovering: bool,
    pub queues: BTreeMap<String, Queue>,
    pub usages: BTreeMap<String, QueueUsageRow>,
    pub jobs: BTreeMap<JobId, JobRow>,
    pub containers: BTreeMap<i64, ContainerRow>,
    pub reservations: BTreeMap<i64, ReservationRow>,
    devices: BTreeMap<i64, DeviceRow>,
    pub gpus: BTreeMap<i64, GpuRow>,
    states: BTreeMap<i64, DeviceStateRow>,
    pub commands: BTreeMap<Uuid, CommandView>,
    pub events: Vec<JobEventRow>,
    outbox: BTreeMap<i64, OutboxRow>,
}

impl Tables {
    fn commit(&mut self, rows: Rows) {
        for device in rows.forgotten_devices {
            assert!(self.states.remove(&device.did).is_some(), "a device that is deleted was there");
            self.outbox.retain(|_, row| row.device != device.name);
            if let Some(row) = self.devices.get_mut(&device.did) {
                row.gpus.clear();
            }
        }
        insert(&mut self.gpus, rows.new_gpus, |row| row.gid);
        let uuids: BTreeSet<_> = self.gpus.values().map(|row| &row.gpu.uuid).collect();
        assert_eq!(uuids.len(), self.gpus.len(), "one GPU, two numbers");
        insert(&mut self.devices, rows.new_devices, |row| row.did);
        insert(&mut self.states, rows.new_device_states, |row| row.did);
        insert(&mut self.jobs, rows.new_jobs, |row| row.id);
        insert(&mut self.containers, rows.new_containers, |row| row.cid);
        insert(&mut self.commands, rows.new_commands, |row| row.id);
        for release in rows.releases {
            let row = self.reservations.remove(&release.gid).expect("a reservation that ends was there");
            assert_eq!(row.cid, release.cid);
        }
        insert(&mut self.reservations, rows.reservations, |row| row.gid);
        update(&mut self.devices, rows.devices, |row| row.did);
        update(&mut self.states, rows.device_states, |row| row.did);
        for row in rows.jobs {
            let known = self.jobs.get_mut(&row.id).expect("an update of a row that is there");
            assert_eq!(known.life.submitted_at, row.life.submitted_at, "a job keeps its place");
            (known.priority, known.life) = (row.priority, row.life);
        }
        for row in rows.respecified {
            self.jobs.get_mut(&row.id).expect("an update of a row that is there").spec = row.spec;
        }
        insert(&mut self.queues, rows.new_queues, |queue| queue.name.clone());
        update(&mut self.queues, rows.queues, |queue| queue.name.clone());
        for name in rows.deleted_queues {
            assert!(self.queues.remove(&name).is_some(), "a queue that is deleted was there");
            self.usages.remove(&name);
        }
        for row in rows.queue_usages.into_iter().filter(|row| self.queues.contains_key(&row.queue)) {
            assert!(row.gpu_ms >= 0, "{row:?}");
            self.usages.insert(row.queue.clone(), row);
        }
        self.recovering &= !rows.recovered;
        update(&mut self.containers, rows.containers, |row| row.cid);
        update(&mut self.commands, rows.commands, |row| row.id);
        self.events.extend(rows.events);
        insert(&mut self.outbox, rows.outbox, |row| row.message.id);
        self.next_id = rows.next_id.unwrap_or(self.next_id);
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            instance: Uuid::from_u128(1),
            secret: "secret".into(),
            next_id: self.next_id,
            attempt_floor: self.attempt_floor,
            recovering: self.recovering,
            queues: self.queues.values().cloned().collect(),
            queue_usages: self.usages.values().cloned().collect(),
            devices: self.devices.values().cloned().collect(),
            gpus: self.gpus.values().cloned().collect(),
            device_states: self.states.values().cloned().collect(),
            jobs: self.jobs.values().filter(|j| j.life.status != Status::Exited).cloned().collect(),
            containers: self
                .containers
                .values()
                .filter(|c| c.status != AttemptStatus::Exited || self.is_of_a_live_attempt(c))
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
        }
    }

    fn has_jobs(&self, queue: &str) -> bool {
        self.jobs.values().any(|job| job.spec.queue == queue)
    }

    fn is_of_a_live_attempt(&self, container: &ContainerRow) -> bool {
        let life = &self.jobs[&container.replica.job].life;
        life.status.is_placed() && life.attempt == container.replica.attempt
    }

    fn dependencies(&self, needs: &Needs) -> Vec<DependencyRow> {
        let of_jobs = needs.jobs.iter().filter_map(|id| self.jobs.get(id)).flat_map(|job| &job.spec.after);
        let named: BTreeSet<Uuid> = needs.dependencies.iter().chain(of_jobs).copied().collect();
        let is_named = |job: &&JobRow| {
            named.contains(&job.id) || job.array.is_some_and(|place| named.contains(&place.id))
        };
        let row = |job: &JobRow| DependencyRow {
            id: job.id,
            array: job.array.map(|place| place.id),
            owner: job.owner.clone(),
            outcome: job.life.outcome,
        };
        self.jobs.values().filter(is_named).map(row).collect()
    }

    fn facts(&self, needs: &Needs) -> Facts {
        let user = |name: &String| match name.as_str() {
            "root" => Some(UserRow { uid: 1, name: name.clone(), role: Role::Admin }),
            "ann" | "bob" | "carol" => Some(UserRow { uid: 2, name: name.clone(), role: Role::User }),
            _ => None,
        };
        Facts {
            jobs: needs.jobs.iter().filter_map(|id| self.jobs.get(id).cloned()).collect(),
            users: needs.users.iter().filter_map(user).collect(),
            commands: needs.commands.iter().filter_map(|id| self.commands.get(id).cloned()).collect(),
            dependencies: self.dependencies(needs),
            used_queues: needs.queues.iter().filter(|name| self.has_jobs(name)).cloned().collect(),
        }
    }
}

fn insert<K: Ord, V>(table: &mut BTreeMap<K, V>, rows: Vec<V>, key: impl Fn(&V) -> K) {
    for row in rows {
        assert!(table.insert(key(&row), row).is_none(), "duplicate key");
    }
}

fn update<K: Ord, V>(table: &mut BTreeMap<K, V>, rows: Vec<V>, key: impl Fn(&V) -> K) {
    for row in rows {
        assert!(table.insert(key(&row), row).is_some(), "an update of a row that is not there");
    }
}

/// A worker: its inbox survives a crash, its session does not.
pub struct Worker {
    name: String,
    /// T4s.
    pub gpus: u32,
    /// GPUs of other types.
    others: Vec<(u32, String)>,
    /// What its inventory tells from its next hello on.
    pub labels: BTreeMap<String, String>,
    boot: Uuid,
    session: Option<i64>,
    /// The largest session and id ever taken.
    pub taken: (i64, i64),
    /// By replica: its state; those that ended keep their ending.
    pub held: BTreeMap<Replica, HeldState>,
    ended: BTreeMap<Replica, Ending>,
    pub stopping: BTreeSet<Replica>,
    /// What Docker was told to start, for ever.
    pub started: Vec<Replica>,
    pub queue: VecDeque<String>,
    pub protocol: u32,
    pub instance: Option<Uuid>,
    pub health: Option<String>,
    /// Commands that were run, in order.
    pub executed: Vec<Uuid>,
    pub limits: Vec<Limit>,
    /// The starts that it took.
    pub orders: Vec<Start>,
}

impl Worker {
    fn inventory(&self) -> Inventory {
        Inventory {
            ip: "127.0.0.1".into(),
            cpu_milli: 64_000,
            cpu_name: "cpu".into(),
            memory_mb: 64_000,
            gpus: declared_gpus(&self.name, &[&[(self.gpus, "T4".into())], &self.others[..]].concat()),
            gpus_declared: true,
            links: Vec::new(),
            engine: "test".into(),
            data_dir: "/data".into(),
            pub_dir: None,
            labels: self.labels.clone(),
        }
    }
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
        let queue = Queue { default_timeout_s: Some(7 * 86_400), ..Queue::new("default") };
        let queues = BTreeMap::from([(queue.name.clone(), queue)]);
        let tables = Tables { next_id: 1, queues, ..Tables::default() };
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
        self.worker_of(name, gpus, Vec::new());
    }

    pub fn worker_of(&mut self, name: &str, gpus: u32, others: Vec<(u32, String)>) {
        let worker = Worker {
            name: name.into(),
            gpus,
            others,
            labels: BTreeMap::new(),
            boot: Uuid::from_u128(self.workers.len() as u128 * 1000),
            session: None,
            taken: (0, 0),
            held: BTreeMap::new(),
            ended: BTreeMap::new(),
            stopping: BTreeSet::new(),
            started: Vec::new(),
            queue: VecDeque::new(),
            protocol: PROTOCOL,
            instance: None,
            health: None,
            executed: Vec::new(),
            limits: Vec::new(),
            orders: Vec::new(),
        };
        self.workers.insert(name.into(), worker);
        self.heartbeat(name);
    }

    /// One step; commits it, and hands the messages to the devices' queues.
    pub fn step(&mut self, inputs: Vec<Input>) -> Vec<Reply> {
        let facts = self.tables.facts(&self.core.needs(&inputs));
        let decisions = self.core.step(self.now, inputs, facts);
        assert_eq!(violations(&self.core), Vec::<String>::new());
        // Else the leader would go round and round without anything to do.
        let due = self.core.next_wakeup();
        assert!(due.is_none_or(|at| at > self.now || at == Timestamp::MIN), "{due:?} is over");
        self.dropped += decisions.dropped_reports;
        for row in &decisions.rows.outbox {
            let text = serde_json::to_string(&row.message).expect("JSON");
            self.workers.get_mut(&row.device).expect("a known device").queue.push_back(text);
        }
        self.tables.commit(decisions.rows);
        decisions.replies.into_iter().map(|(_, reply)| reply).collect()
    }

    /// For so long nobody leads: another leader then has what the tables have.
    pub fn take_over(&mut self, ms: i64) {
        self.now = plus_ms(self.now, ms);
        self.reload();
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

    /// A job of ann's with more than GPUs, which is accepted.
    pub fn submit_with(&mut self, n: u128, extra: Value) -> JobId {
        let reply = self.submit_as("ann", n, extra);
        assert_eq!(reply.status, 201, "{}", reply.body);
        Uuid::from_u128(n)
    }

    pub fn give(&mut self, actor: &str, id: u128, target: Target, body: Value) -> Reply {
        let body = CommandBody::from_value(body).expect("a valid command");
        let command = Command { id: Uuid::from_u128(id), target, actor: actor.into(), body };
        self.step(vec![Input::Command(command)]).remove(0)
    }

    pub fn administer(&mut self, request: AdminRequest) -> Reply {
        self.step(vec![Input::Admin(Admin { actor: "root".into(), request })]).remove(0)
    }

    /// Why a job waits: the code of its reason.
    pub fn why(&self, job: JobId) -> String {
        let reasons = self.core.explain(&[job], self.now);
        reasons.get(&job).map_or_else(String::new, |waiting| waiting.reason.code.clone())
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
        let inventory = worker.session.is_none().then(|| worker.inventory());
        let attempts = worker.held.iter().map(|(&replica, &state)| Held { replica, state }).collect();
        let heartbeat = Heartbeat {
            protocol: worker.protocol,
            session: worker.session,
            last: worker.session.map(|_| worker.taken.1),
            instance: worker.instance,
            inventory,
            attempts: Some(attempts),
            health: worker.health.clone(),
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

    /// Reads the oldest report; the answer to it, if there is one.
    pub fn read_reply(&mut self) -> Option<Reply> {
        let text = self.reports.pop_front().expect("a report");
        self.step(vec![Input::Device(serde_json::from_str(&text).expect("JSON"))]).pop()
    }

    pub fn device_state(&self, name: &str) -> &DeviceStateRow {
        let did = self.tables.devices.values().find(|row| row.name == name).expect("a known device").did;
        &self.tables.states[&did]
    }

    /// A device is not heard for so long that it is lost; what runs there goes on.
    pub fn silence(&mut self, name: &str) {
        let others: Vec<String> = self.workers.keys().filter(|other| *other != name).cloned().collect();
        for _ in 0..62 {
            self.hear(&others);
            self.pass(5_000);
        }
    }

    /// These workers tell how they are, and the leader reads whatever was told so far.
    fn hear(&mut self, names: &[String]) {
        names.iter().for_each(|name| self.heartbeat(name));
        while !self.reports.is_empty() {
            self.read_report(false);
        }
    }

    /// So long nothing happens; then everybody is heard, and the leader looks once more.
    pub fn wait(&mut self, ms: i64) {
        self.pass(ms);
        self.hear(&self.workers.keys().cloned().collect::<Vec<_>>());
        self.pass(1_000);
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
                worker.orders.push(*start);
            }
            Order::Stop(stop) => {
                if worker.held.contains_key(&stop.replica) {
                    worker.stopping.insert(stop.replica);
                } else {
                    self.answer(name, stop.replica);
                }
            }
            Order::Ask(replica) => self.answer(name, replica),
            Order::Exec(exec) => self.exec(name, exec),
            Order::Limit(limit) => drop(self.workers.get_mut(name).map(|w| w.limits.push(limit))),
            Order::Welcome(_) => {}
        }
    }

    /// Runs it once, however often it comes.
    fn exec(&mut self, name: &str, exec: Exec) {
        let worker = self.workers.get_mut(name).expect("a known worker");
        if worker.held.get(&exec.replica) == Some(&HeldState::Running)
            && !worker.executed.contains(&exec.command)
        {
            worker.executed.push(exec.command);
        }
        let ran = worker.executed.contains(&exec.command);
        let (status, exit_code) =
            if ran { (CommandStatus::Done, Some(0)) } else { (CommandStatus::Failed, None) };
        let output = exec.argv.join(" ");
        self.tell(
            name,
            Told::Executed(Executed { command: exec.command, status, exit_code, output, truncated: false }),
        );
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
        let worker = self.workers.get_mut(name).expect("a known worker");
        worker.session = None;
        worker.boot = Uuid::from_u128(worker.boot.as_u128() + 1);
        let keeps = |replica: &Replica| {
            let spec = worker.orders.iter().find(|start| start.replica == *replica).map(|start| &start.spec);
            spec.is_some_and(|spec| spec.disconnect == Disconnect::Keep)
        };
        let held: Vec<Replica> = worker.held.keys().filter(|replica| !keeps(replica)).copied().collect();
        worker.stopping.extend(&held);
        let reports = std::mem::take(&mut self.reports);
        for replica in held {
            self.end(name, replica, Some(137));
        }
        let told = std::mem::take(&mut self.reports);
        self.silence(name);
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

    /// A hello of another worker that took the name of a device, at the address `ip`.
    pub fn stranger(&mut self, name: &str, ip: &str) -> FromDevice {
        self.heartbeat(name);
        let text = self.reports.pop_back().expect("the heartbeat");
        let mut told: FromDevice = serde_json::from_str(&text).expect("JSON");
        if let Told::Heartbeat(heartbeat) = &mut told.event {
            heartbeat.session = None;
            heartbeat.inventory = Some(Inventory { ip: ip.into(), ..self.workers[name].inventory() });
        }
        FromDevice { worker_id: Uuid::from_u128(99), boot: Uuid::from_u128(77), ..told }
    }
}
