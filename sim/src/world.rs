//! The whole simulated installation of one seed, and what all of its parts need: time, chance, the
//! weather, the trace, and the crash of a process.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::watch;
use berth_scheduler::core::Limits;
use jiff::Timestamp;

use crate::auditor::Auditor;
use crate::broker::{self, Broker};
use crate::chance::Chance;
use crate::clients::Clients;
use crate::database::Database;
use crate::exec::{Exec, NATURE, Pid};
use crate::host::Host;
use crate::scheduler;
use crate::weather::Weather;

/// When every world begins: 2027-01-01.
const EPOCH_S: i64 = 1_798_761_600;

/// Which processes there are.
pub const SCHEDULERS: [Pid; 2] = [Pid(1), Pid(2)];
const FIRST_WORKER: u32 = 10;
const FIRST_GUARD: u32 = 30;

pub fn worker_pid(host: usize) -> Pid {
    Pid(FIRST_WORKER + u32::try_from(host).unwrap_or(0))
}

pub fn guard_pid(host: usize) -> Pid {
    Pid(FIRST_GUARD + u32::try_from(host).unwrap_or(0))
}

/// Who is cut off from the network.
#[derive(Default)]
pub struct Net {
    cut: RefCell<BTreeMap<Pid, watch::Sender<bool>>>,
}

impl Net {
    pub fn watch(&self, pid: Pid) -> watch::Receiver<bool> {
        self.cut.borrow_mut().entry(pid).or_insert_with(|| watch::Sender::new(false)).subscribe()
    }

    pub fn is_cut(&self, pid: Pid) -> bool {
        self.cut.borrow().get(&pid).is_some_and(|cut| *cut.borrow())
    }

    pub fn set(&self, pid: Pid, is_cut: bool) {
        self.cut.borrow_mut().entry(pid).or_insert_with(|| watch::Sender::new(false)).send_replace(is_cut);
    }
}

pub struct World {
    pub exec: Exec,
    pub chance: Chance,
    weather: Weather,
    /// From now on nothing goes wrong any more.
    pub healed: Cell<bool>,
    pub limits: Limits,
    pub net: Net,
    pub broker: Broker,
    pub database: Database,
    pub hosts: Vec<Host>,
    /// Whether workers start guards: without one, only the worker's own fence is left.
    pub guarded: bool,
    pub auditor: RefCell<Auditor>,
    pub clients: Clients,
    dead: RefCell<BTreeSet<Pid>>,
    /// Hosts whose guard runs.
    guards: RefCell<BTreeSet<usize>>,
    /// What the clocks of the schedulers' hosts are off by.
    pub skew_ms: [i64; 2],
    /// Whether nothing goes wrong in this world.
    pub calm: bool,
    pub faults: Cell<u64>,
    lines: Option<RefCell<Vec<String>>>,
}

/// What a world is made of; the rest begins empty.
pub struct Parts {
    pub chance: Chance,
    pub weather: Weather,
    pub limits: Limits,
    pub database: Database,
    pub hosts: Vec<Host>,
    pub guarded: bool,
    pub auditor: Auditor,
    pub skew_ms: [i64; 2],
    pub calm: bool,
    pub traced: bool,
}

impl World {
    pub fn new(parts: Parts) -> Rc<Self> {
        Rc::new(Self {
            exec: Exec::default(),
            chance: parts.chance,
            weather: parts.weather,
            healed: Cell::new(false),
            limits: parts.limits,
            net: Net::default(),
            broker: Broker::new(),
            database: parts.database,
            hosts: parts.hosts,
            guarded: parts.guarded,
            auditor: RefCell::new(parts.auditor),
            clients: Clients::default(),
            dead: RefCell::default(),
            guards: RefCell::default(),
            skew_ms: parts.skew_ms,
            calm: parts.calm,
            faults: Cell::new(0),
            lines: parts.traced.then(RefCell::default),
        })
    }

    pub fn weather(&self) -> Weather {
        if self.healed.get() { Weather::default() } else { self.weather }
    }

    /// A way through the network or to a disk.
    pub fn latency_ms(&self) -> u64 {
        if self.chance.one_in(self.weather().slow_net) {
            return self.chance.skewed(50, 8_000);
        }
        self.chance.between(1, 4)
    }

    /// The present time by a clock that is off by `skew_ms`.
    pub fn now(&self, skew_ms: i64) -> Timestamp {
        let ms = i64::try_from(self.exec.now_ms()).unwrap_or(i64::MAX) + skew_ms;
        let at = Timestamp::from_second(EPOCH_S).expect("a time of this century");
        berth_common::time::plus_ms(at, ms)
    }

    /// A line of the trace, made only when somebody wants to read it.
    pub fn trace(&self, line: impl FnOnce() -> String) {
        if let Some(lines) = &self.lines {
            let ms = self.exec.now_ms();
            lines.borrow_mut().push(format!("{:>6}.{:03} {}", ms / 1000, ms % 1000, line()));
        }
    }

    pub fn take_trace(&self) -> Vec<String> {
        self.lines.as_ref().map(|lines| std::mem::take(&mut *lines.borrow_mut())).unwrap_or_default()
    }

    /// A place at which a process may die: between two steps that others can see. Guards are spared: when
    /// both are dead, worker and guard, nobody fences (see `faults.rs`).
    pub async fn point(self: &Rc<Self>, pid: Pid, place: &'static str) {
        if pid.0 < FIRST_GUARD && pid != NATURE && self.chance.one_in(self.weather().crash_point) {
            self.crash(pid, place);
            std::future::pending::<()>().await;
        }
    }

    /// Tells the auditor whether a worker is there.
    pub fn there(&self, pid: Pid, is: bool) {
        if let Some(host) = host_of(pid).filter(|&host| pid == worker_pid(host)) {
            self.auditor.borrow_mut().worker_is(host, is, self.exec.now_ms());
        }
    }

    pub fn is_dead(&self, pid: Pid) -> bool {
        self.dead.borrow().contains(&pid)
    }

    /// A process dies, and is started again some time later.
    pub fn crash(self: &Rc<Self>, pid: Pid, why: &str) {
        if !self.bury(pid, why) {
            return;
        }
        let world = Rc::clone(self);
        self.exec.spawn(NATURE, async move {
            world.exec.sleep(world.chance.skewed(200, 60_000)).await;
            boot(&world, pid);
        });
    }

    pub fn guard_is_free(&self, host: usize) -> bool {
        !self.guards.borrow().contains(&host)
    }

    pub fn guard_left(&self, host: usize) {
        self.guards.borrow_mut().remove(&host);
    }

    /// The guard of a host is killed; a worker that lives starts another one.
    pub fn kill_guard(&self, host: usize) {
        if self.guards.borrow_mut().remove(&host) {
            self.trace(|| format!("{:?} is killed", guard_pid(host)));
            self.exec.kill(guard_pid(host));
        }
    }

    /// A process dies. False: it was dead.
    pub fn bury(self: &Rc<Self>, pid: Pid, why: &str) -> bool {
        if !self.dead.borrow_mut().insert(pid) {
            return false;
        }
        self.faults.set(self.faults.get() + 1);
        self.trace(|| format!("{pid:?} dies: {why}"));
        self.there(pid, false);
        self.exec.kill(pid);
        broker::process_died(self, pid);
        true
    }
}

/// Starts a process that is dead. Those of a host that is off are started with the host.
pub fn boot(w: &Rc<World>, pid: Pid) {
    let host = host_of(pid);
    if host.is_some_and(|host| !w.hosts[host].is_on.get()) || !w.dead.borrow_mut().remove(&pid) {
        return;
    }
    start(w, pid);
}

/// Starts a process.
pub fn start(w: &Rc<World>, pid: Pid) {
    w.trace(|| format!("{pid:?} starts"));
    w.there(pid, true);
    let world = Rc::clone(w);
    match host_of(pid) {
        None => w.exec.spawn(pid, async move { scheduler::run(world, pid).await }),
        Some(host) if pid == worker_pid(host) => {
            w.exec.spawn(pid, async move { crate::worker::run(world, host).await });
        }
        Some(host) => {
            w.guards.borrow_mut().insert(host);
            w.exec.spawn(pid, async move { crate::guard::run(world, host).await });
        }
    }
}

fn host_of(pid: Pid) -> Option<usize> {
    let first = if pid.0 >= FIRST_GUARD { FIRST_GUARD } else { FIRST_WORKER };
    pid.0.checked_sub(first).and_then(|host| usize::try_from(host).ok())
}
