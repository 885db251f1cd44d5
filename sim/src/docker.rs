//! Docker on a host: containers by unique names, calls that take time, a daemon that goes away or
//! hangs, containers that survive it or not. It tells the auditor what truly runs.

mod call;
mod daemon;
mod life;
mod program;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use berth_common::id::Replica;
use berth_common::message::Start;
use berth_common::spec::Disconnect;
use berth_worker::docker::{Alive, Container, DockerError, Fenceable, Stage};
use uuid::Uuid;

use crate::watch;

pub use daemon::{Going, power_back, power_lost, remove_by_hand, restart};
pub use program::{HERE, MISSING, PULLED, Program, SHAKY, Term, of_attempt};

use crate::auditor::{By, How};
use crate::exec::Pid;
use crate::world::World;
use call::away;
use life::{begin, end, end_later, fails, running};

/// The daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Up,
    /// It takes calls and answers none.
    Hung,
    Down,
}

/// What a program ends with that was killed.
const KILLED: i64 = 137;

/// A signal of the worker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Stop,
    Kill,
}

struct Contained {
    /// One that is made later under the same name has another.
    id: String,
    start: Start,
    stage: Stage,
    program: Program,
    /// Counts its runs: what was planned for one before does nothing.
    run: u64,
    running: watch::Sender<bool>,
}

pub struct Docker {
    pub state: watch::Sender<State>,
    containers: RefCell<BTreeMap<String, Contained>>,
    images: RefCell<BTreeSet<String>>,
    /// Whether containers survive the daemon.
    pub live_restore: Cell<bool>,
}

impl Docker {
    pub fn new(live_restore: bool) -> Self {
        Self {
            state: watch::Sender::new(State::Up),
            containers: RefCell::default(),
            images: RefCell::new(BTreeSet::from([HERE.to_owned()])),
            live_restore: Cell::new(live_restore),
        }
    }

    /// What is there, running or not.
    pub fn names(&self) -> Vec<String> {
        self.containers.borrow().keys().cloned().collect()
    }
}

/// A process's way to its host's Docker.
#[derive(Clone)]
pub struct Client {
    pub w: Rc<World>,
    pub pid: Pid,
    pub host: usize,
}

/// A registry may take its time.
const LONG_PULL_MS: u64 = 300_000;
type Answer<T> = Result<T, DockerError>;

impl Client {
    fn docker(&self) -> &Docker {
        &self.w.hosts[self.host].docker
    }

    /// Whether the daemon answers, and keeps containers through its restarts.
    pub async fn engine(&self) -> Answer<bool> {
        self.call((1, 5), |w, host| Ok(w.hosts[host].docker.live_restore.get())).await
    }

    pub async fn inspect(&self, name: &str) -> Answer<Option<Container>> {
        let name = name.to_owned();
        self.call((1, 10), move |w, host| {
            let containers = w.hosts[host].docker.containers.borrow();
            Ok(containers.get(&name).map(|c| Container {
                id: c.id.clone(),
                stage: c.stage.clone(),
                ports: BTreeMap::new(),
                stop_signal: "SIGTERM".into(),
            }))
        })
        .await
    }

    pub async fn has_image(&self, image: &str) -> Answer<bool> {
        let image = image.to_owned();
        self.call((1, 5), move |w, host| Ok(w.hosts[host].docker.images.borrow().contains(&image))).await
    }

    pub async fn pull(&self, image: &str) -> Answer<()> {
        let image = image.to_owned();
        let most_ms = if self.w.chance.one_in(4) { LONG_PULL_MS } else { 20_000 };
        self.call((500, most_ms), move |w, host| {
            if image == MISSING {
                return Err(DockerError::Invalid("not found".into()));
            }
            if image == SHAKY && !w.calm && !w.healed.get() && !w.chance.one_in(3) {
                return Err(DockerError::Failed("timeout".into()));
            }
            w.hosts[host].docker.images.borrow_mut().insert(image);
            Ok(())
        })
        .await
    }

    pub async fn create(&self, start: &Start) -> Answer<()> {
        self.w.auditor.borrow_mut().create_asked(start.replica);
        let start = start.clone();
        self.change((20, 200), move |w, host| {
            fails(w)?;
            let mut containers = w.hosts[host].docker.containers.borrow_mut();
            let name = start.replica.container_name();
            if containers.contains_key(&name) {
                return Err(DockerError::Conflict("the name is in use".into()));
            }
            let program = Program::of(&start);
            let stage = Stage::Created { exit_code: None };
            let running = watch::Sender::new(false);
            let id = w.chance.uuid().to_string();
            containers.insert(name, Contained { id, start, stage, program, run: 0, running });
            Ok(())
        })
        .await
    }

    /// Like Docker, it starts what has ended once more. By its id: what was removed is not started, also
    /// when another has its name by then.
    pub async fn start(&self, name: &str, id: &str) -> Answer<()> {
        self.w.auditor.borrow_mut().start_asked(self.host, name, self.w.exec.now_ms());
        let (name, id) = (name.to_owned(), id.to_owned());
        self.change((50, 600), move |w, host| {
            fails(w)?;
            let there = w.hosts[host].docker.containers.borrow().get(&name).is_some_and(|c| c.id == id);
            if !there {
                return Err(DockerError::NotFound(id));
            }
            begin(w, host, &name)
        })
        .await
    }

    /// False: there is no running container of that name.
    pub async fn signal(&self, name: &str, signal: Signal) -> Answer<bool> {
        let (name, pid) = (name.to_owned(), self.pid);
        self.change((5, 50), move |w, host| {
            let found = running(w, host, &name);
            let Some((replica, run, program)) = found else { return Ok(false) };
            w.auditor.borrow_mut().signalled(host, replica, By::of(pid, host), signal, w.exec.now_ms());
            let (after_ms, code) = match (signal, program.on_term) {
                (Signal::Kill, _) => (w.chance.between(1, 400), KILLED),
                (Signal::Stop, Term::Ends { code, after_ms }) => (after_ms, code),
                (Signal::Stop, Term::Ignores) => return Ok(true),
            };
            end_later(w, host, name, run, after_ms, (code, How::Signalled));
            Ok(true)
        })
        .await
    }

    /// Runs a command in a container, and waits for it; its exit code. It ends with the container.
    pub async fn execute(&self, name: &str, command: Uuid) -> Answer<i64> {
        let container = name.to_owned();
        self.change((5, 50), move |w, host| {
            if running(w, host, &container).is_none() {
                return Err(DockerError::Conflict("it is not running".into()));
            }
            w.auditor.borrow_mut().executed(command);
            Ok(())
        })
        .await?;
        let chance = &self.w.chance;
        let runs_ms = if chance.one_in(2) { chance.skewed(3_000, 400_000) } else { chance.between(1, 3_000) };
        tokio::select! {
            biased;
            ended = self.wait(name) => ended.map(|()| KILLED),
            () = self.w.exec.sleep(runs_ms) => Ok(0),
        }
    }

    /// Waits until it does not run; an error when the connection broke.
    pub async fn wait(&self, name: &str) -> Answer<()> {
        let mut state = self.docker().state.subscribe();
        let runs = self.docker().containers.borrow().get(name).map(|c| c.running.subscribe());
        let Some(mut runs) = runs else { return Err(DockerError::NotFound(name.into())) };
        tokio::select! {
            biased;
            () = state.wait_for(|state| *state == State::Down) => Err(away()),
            () = runs.wait_for(|runs| !runs) => {
                self.w.exec.sleep(self.w.latency_ms()).await;
                Ok(())
            }
        }
    }

    /// Removes it, running or not. True: it is known to be gone.
    pub async fn remove(&self, name: &str) -> Answer<bool> {
        let (name, pid) = (name.to_owned(), self.pid);
        self.change((10, 300), move |w, host| {
            fails(w)?;
            if let Some((replica, _, _)) = running(w, host, &name) {
                w.auditor.borrow_mut().removed(host, replica, By::of(pid, host), w.exec.now_ms());
                end(w, host, &name, KILLED, How::Signalled);
            }
            w.trace(|| format!("{} removes {name}", w.hosts[host].name));
            w.hosts[host].docker.containers.borrow_mut().remove(&name);
            Ok(true)
        })
        .await
    }

    /// All containers of ours.
    pub async fn list(&self) -> Answer<Vec<Replica>> {
        self.call((5, 50), |w, host| {
            let containers = w.hosts[host].docker.containers.borrow();
            Ok(containers.values().map(|c| c.start.replica).collect())
        })
        .await
    }

    /// Those that a fence kills.
    pub async fn fenceable(&self) -> Answer<Vec<Fenceable>> {
        self.call((5, 50), |w, host| {
            let containers = w.hosts[host].docker.containers.borrow();
            let of = |(name, c): (&String, &Contained)| {
                let alive = match c.stage {
                    Stage::Created { .. } => Alive::Made,
                    Stage::Running { .. } => Alive::Running,
                    Stage::Exited(_) | Stage::Removing => return None,
                };
                (c.start.spec.disconnect == Disconnect::Requeue)
                    .then(|| Fenceable { name: name.clone(), alive })
            };
            Ok(containers.iter().filter_map(of).collect())
        })
        .await
    }
}
