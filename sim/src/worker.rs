//! A worker process: the real agent's decisions (`worker/src/agent.rs`) in a shell that does what the
//! real one does: write down before it acknowledges, look at Docker before each step, record before it
//! reports, report until confirmed, and only then remove the container.

mod attempt;
mod exchange;
mod exec;
mod lease;
mod orders;
mod run;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use berth_common::id::Replica;
use berth_common::message::{Event, FromDevice, Held, HeldState};
use berth_worker::agent::{Numbers, Permission, Term};
use berth_worker::inbox::{StopCause, StopTaken};
use berth_worker::lease::DEFAULT_FENCE_AFTER;
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::watch;
use uuid::Uuid;

use crate::broker::{EVENTS, Link, Message, PublishError, Subscription, device_queue};
use crate::docker::Client;
use crate::exec::Pid;
use crate::host::Host;
use crate::inbox::Inbox;
use crate::message::Payload;
use crate::world::{World, worker_pid};

/// The broker gives a silent worker up after this (heartbeat 10 s).
const SILENCE_MS: u64 = 25_000;
const PREFETCH: usize = 100;
/// A write to the inbox waits for the disk.
const DISK_MS: (u64, u64) = (1, 6);

/// What is wished of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wishes {
    pub permission: Permission,
    pub stop: Option<Stopping>,
    pub limit: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopping {
    pub asked_at: Timestamp,
    pub deadline_ms: u64,
    pub cause: StopCause,
}

impl Wishes {
    /// One more stop was taken: the earlier deadline counts, and the first cause.
    fn stop(&mut self, asked: Stopping) {
        let first = self.stop.unwrap_or(asked);
        self.stop = Some(Stopping { deadline_ms: first.deadline_ms.min(asked.deadline_ms), ..first });
    }
}

struct Entry {
    state: HeldState,
    reported: bool,
    wishes: watch::Sender<Wishes>,
}

pub struct Worker {
    w: Rc<World>,
    host: usize,
    pid: Pid,
    docker: Client,
    link: Rc<Link>,
    worker_id: Uuid,
    numbers: RefCell<Numbers>,
    term: RefCell<Term>,
    term_changed: Notify,
    /// What the lease file says, and that it is to say something else.
    written: Cell<Term>,
    lease_news: Notify,
    attempts: RefCell<BTreeMap<Replica, Entry>>,
    /// Whether Docker answers, and keeps containers.
    engine: Cell<Option<bool>>,
    beat: Notify,
}

/// Runs until it is killed.
pub async fn run(w: Rc<World>, host: usize) {
    let pid = worker_pid(host);
    let queue = device_queue(&w.hosts[host].name);
    let subscription = Subscription { queue, declares: false, prefetch: PREFETCH };
    // Two connections, as the real worker has: the queue is there only after the first heartbeat.
    let (link, _) = Link::start(&w, pid, SILENCE_MS, Vec::new());
    let (_, deliveries) = Link::start(&w, pid, SILENCE_MS, vec![subscription]);
    let worker = Rc::new(Worker::assemble(w, host, link));
    worker.write_lease();
    for taken in worker.of().inbox.borrow().open_attempts() {
        attempt::look_after(&worker, taken, Permission::NotYet);
    }
    exec::settle(&worker);
    let (exec, again) = (&worker.w.exec, || Rc::clone(&worker));
    exec.spawn(pid, exchange::heartbeats(again()));
    exec.spawn(pid, exchange::fence(again()));
    exec.spawn(pid, exchange::keep_lease_file(again()));
    if worker.w.guarded {
        exec.spawn(pid, exchange::keep_guard(again()));
    }
    exec.spawn(pid, exchange::list(again()));
    orders::run(worker, deliveries).await;
}

impl Worker {
    /// As `worker/src/start.rs` and `Lease::open` put it together.
    fn assemble(w: Rc<World>, host: usize, link: Rc<Link>) -> Self {
        let of = &w.hosts[host];
        let station = of.inbox.borrow().station.clone();
        let before = of.lease.borrow().clone().filter(|record| record.boot_id == of.boot_id());
        let confirmed = before.as_ref().map_or_else(|| of.boot_time(&w), |record| record.term().confirmed());
        if before.is_none() {
            // The first since the host's start: its term begins now.
            let now_ms = w.exec.now_ms();
            w.auditor.borrow_mut().confirmed(host, now_ms, now_ms);
        }
        let numbers = Numbers {
            boot: w.chance.uuid(),
            instance: station.instance,
            session: None,
            greatest: station.session,
            last: station.last,
        };
        let pid = worker_pid(host);
        let term = Term::new(confirmed, station.fence_after.unwrap_or(DEFAULT_FENCE_AFTER));
        Self {
            docker: Client { w: Rc::clone(&w), pid, host },
            host,
            pid,
            link,
            worker_id: station.worker_id,
            numbers: RefCell::new(numbers),
            term: RefCell::new(term),
            term_changed: Notify::new(),
            written: Cell::new(term),
            lease_news: Notify::new(),
            attempts: RefCell::default(),
            engine: Cell::new(None),
            beat: Notify::new(),
            w,
        }
    }

    fn of(&self) -> &Host {
        &self.w.hosts[self.host]
    }

    fn now(&self) -> Timestamp {
        self.of().now(&self.w)
    }

    fn session(&self) -> Option<i64> {
        self.numbers.borrow().session
    }

    fn stopping(&self, StopTaken { at, grace, cause }: StopTaken) -> Stopping {
        let passed = berth_common::time::ms_between(at, self.now());
        let left = grace.saturating_sub(Duration::from_millis(u64::try_from(passed).unwrap_or(0)));
        let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        Stopping { asked_at: at, deadline_ms: self.w.exec.now_ms().saturating_add(left_ms), cause }
    }

    /// Writes to the inbox; it is written when this returns.
    async fn persist<T>(&self, write: impl FnOnce(&mut Inbox) -> T) -> T {
        self.w.point(self.pid, "before the inbox").await;
        self.w.exec.sleep(self.w.chance.between(DISK_MS.0, DISK_MS.1)).await;
        let value = write(&mut self.of().inbox.borrow_mut());
        self.w.point(self.pid, "after the inbox").await;
        value
    }

    /// Publishes once; what the broker confirms renews the lease.
    async fn publish(&self, payload: &Rc<Payload>, expires_ms: Option<u64>) -> Result<(), PublishError> {
        let (sent, sent_ms) = (self.of().boot_time(&self.w), self.w.exec.now_ms());
        let expires_at_ms = expires_ms.map(|ms| self.w.exec.now_ms() + ms);
        let message = Message { payload: Rc::clone(payload), reply_to: None, expires_at_ms };
        self.link.publish(&self.w, EVENTS, message).await?;
        self.w.auditor.borrow_mut().confirmed(self.host, sent_ms, self.w.exec.now_ms());
        if self.term.borrow_mut().confirm(sent) {
            self.term_changed.notify_waiters();
            self.lease_news.notify_one();
        }
        Ok(())
    }

    fn message(&self, event: Event) -> Rc<Payload> {
        let told = FromDevice {
            device: self.of().name.clone(),
            worker_id: self.worker_id,
            boot: self.numbers.borrow().boot,
            at: self.now(),
            event,
        };
        self.w.auditor.borrow_mut().told(&told);
        Rc::new(Payload::Report(serde_json::to_string(&told).expect("an event has only string keys")))
    }

    async fn until_confirmed(&self, event: Event) {
        self.w.trace(|| format!("{} tells {event:?}", self.of().name));
        let payload = self.message(event);
        let mut pause = Backoff::default();
        loop {
            self.w.point(self.pid, "before a report").await;
            match self.publish(&payload, None).await {
                Ok(()) => return self.w.point(self.pid, "after a report").await,
                Err(PublishError::Unavailable) => self.link.up().await,
                Err(PublishError::Unroutable | PublishError::Unknown) => {}
            }
            pause.wait(&self.w).await;
        }
    }

    fn is_in(&self, replica: Replica, state: HeldState) {
        if let Some(entry) = self.attempts.borrow_mut().get_mut(&replica) {
            entry.state = state;
        }
    }

    /// All whose end has not been reported.
    fn held(&self) -> Vec<Held> {
        let attempts = self.attempts.borrow();
        let unreported = attempts.iter().filter(|(_, entry)| !entry.reported);
        unreported.map(|(&replica, entry)| Held { replica, state: entry.state }).collect()
    }

    fn held_replicas(&self) -> BTreeSet<Replica> {
        self.held().into_iter().map(|held| held.replica).collect()
    }

    fn state(&self, replica: Replica) -> Option<HeldState> {
        self.attempts.borrow().get(&replica).filter(|entry| !entry.reported).map(|entry| entry.state)
    }

    /// False where it is not here.
    fn wish(&self, replica: Replica, change: impl FnOnce(&mut Wishes)) -> bool {
        let attempts = self.attempts.borrow();
        let Some(entry) = attempts.get(&replica) else { return false };
        entry.wishes.send_modify(change);
        true
    }

    fn permit_all(&self, permission: Permission) {
        for entry in self.attempts.borrow().values() {
            entry.wishes.send_modify(|wishes| wishes.permission = permission);
        }
    }
}

/// Growing pauses, as `worker/src/worker.rs` makes them.
struct Backoff {
    next_ms: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next_ms: 200 }
    }
}

impl Backoff {
    async fn wait(&mut self, w: &World) {
        w.exec.sleep(self.next_ms).await;
        self.next_ms = (self.next_ms * 2).min(5_000);
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}
