//! A host: what on it outlives the worker's process (its inbox, its lease file, the guard's notes),
//! and Docker.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use berth_common::inventory::{Inventory, declared_gpus};
use berth_worker::clock::BootTime;
use berth_worker::lease::Record;
use jiff::Timestamp;

use crate::chance::Chance;
use crate::docker::{self, Docker};
use crate::exec::NATURE;
use crate::inbox::Inbox;
use crate::world::{World, boot, worker_pid};

/// Types of GPUs; a host has one of them.
pub const KINDS: [&str; 2] = ["T4", "A100-80GB"];

pub struct Host {
    pub name: String,
    pub inventory: Inventory,
    pub is_on: Cell<bool>,
    /// How often it was started, and when it was last.
    boots: Cell<u64>,
    booted_ms: Cell<u64>,
    pub skew_ms: i64,
    /// The worker's state folder.
    pub lease: RefCell<Option<Record>>,
    pub notes: RefCell<BTreeSet<String>>,
    pub inbox: RefCell<Inbox>,
    pub docker: Docker,
}

impl Host {
    pub fn new(chance: &Chance, place: usize) -> Self {
        let name = format!("dev-{place}");
        let gpus = u32::try_from(chance.between(1, 4)).unwrap_or(1);
        let kind = KINDS[usize::from(chance.one_in(4))];
        let inventory = Inventory {
            ip: format!("10.0.0.{place}"),
            cpu_milli: 8_000,
            cpu_name: "simulated".into(),
            memory_mb: 16_384,
            gpus: declared_gpus(&name, &[(gpus, kind.into())]),
            gpus_declared: true,
            links: Vec::new(),
            engine: "simulated".into(),
            data_dir: "/srv".into(),
            pub_dir: None,
            labels: std::collections::BTreeMap::new(),
        };
        let skews = [0, 0, 700, -3_000, 90_000, -90_000];
        Self {
            name,
            inventory,
            is_on: Cell::new(true),
            boots: Cell::new(1),
            booted_ms: Cell::new(0),
            skew_ms: *chance.pick(&skews),
            lease: RefCell::default(),
            notes: RefCell::default(),
            inbox: RefCell::new(Inbox::new(chance.uuid())),
            docker: Docker::new(chance.one_in(2)),
        }
    }

    /// The type of its GPUs.
    pub fn kind(&self) -> &str {
        self.inventory.gpus.first().map_or("", |gpu| &gpu.kind)
    }

    /// Which start of the host this is.
    pub fn boot_id(&self) -> String {
        format!("boot-{}", self.boots.get())
    }

    /// Time since its start.
    pub fn boot_time(&self, w: &World) -> BootTime {
        BootTime::from_ms(w.exec.now_ms() - self.booted_ms.get())
    }

    pub fn started_at(&self, w: &World) -> Timestamp {
        let since_ms = i64::try_from(w.exec.now_ms() - self.booted_ms.get()).unwrap_or(0);
        berth_common::time::plus_ms(w.now(self.skew_ms), -since_ms)
    }

    pub fn now(&self, w: &World) -> Timestamp {
        w.now(self.skew_ms)
    }
}

/// The host loses its power, and comes back.
pub fn reboot(w: &Rc<World>, host: usize) {
    let of = &w.hosts[host];
    if !of.is_on.replace(false) {
        return;
    }
    w.trace(|| format!("{} loses its power", of.name));
    w.bury(worker_pid(host), "the host is off");
    w.kill_guard(host);
    docker::power_lost(w, host);
    let world = Rc::clone(w);
    w.exec.spawn(NATURE, async move {
        world.exec.sleep(world.chance.skewed(20_000, 400_000)).await;
        let of = &world.hosts[host];
        of.boots.set(of.boots.get() + 1);
        of.booted_ms.set(world.exec.now_ms());
        of.is_on.set(true);
        docker::power_back(&world, host);
        boot(&world, worker_pid(host));
    });
}
