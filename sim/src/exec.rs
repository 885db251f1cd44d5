//! Virtual time and processes: an executor of one thread that runs tasks in a fixed order and, when
//! all of them wait, lets the time jump to the next moment at which one does not.
//!
//! Every task belongs to a process. A process can be killed (its tasks are dropped, wherever they
//! wait) and paused (its tasks run on when it is resumed, as after SIGSTOP and SIGCONT). What must
//! always hold: the same seed runs the same steps; nothing here knows the real clock.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// A process of the simulated world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pid(pub u32);

/// What belongs to no process: the network, the broker, the database, Docker.
pub const NATURE: Pid = Pid(0);

type Future = Pin<Box<dyn std::future::Future<Output = ()>>>;

struct Task {
    pid: Pid,
    /// None while it is being polled.
    future: Option<Future>,
    waker: Waker,
}

struct Ready {
    id: u64,
    queued: AtomicBool,
    queue: Arc<Mutex<VecDeque<u64>>>,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.id);
        }
    }
}

/// The executor.
#[derive(Default)]
pub struct Exec {
    now_ms: Cell<u64>,
    next: Cell<u64>,
    timers: RefCell<BTreeMap<(u64, u64), Waker>>,
    ready: Arc<Mutex<VecDeque<u64>>>,
    flags: RefCell<BTreeMap<u64, Arc<Ready>>>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    paused: RefCell<BTreeMap<Pid, BTreeSet<u64>>>,
}

impl Exec {
    /// Milliseconds since the beginning.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    pub fn spawn(&self, pid: Pid, future: impl std::future::Future<Output = ()> + 'static) {
        let id = self.number();
        let ready = Arc::new(Ready { id, queued: AtomicBool::new(false), queue: Arc::clone(&self.ready) });
        let waker = Waker::from(Arc::clone(&ready));
        self.flags.borrow_mut().insert(id, ready);
        let task = Task { pid, future: Some(Box::pin(future)), waker: waker.clone() };
        self.tasks.borrow_mut().insert(id, task);
        waker.wake();
    }

    /// Drops every task of a process. The one that calls this never runs again after its next `await`.
    pub fn kill(&self, pid: Pid) {
        let mut tasks = self.tasks.borrow_mut();
        let ids: Vec<u64> = tasks.iter().filter(|(_, task)| task.pid == pid).map(|(&id, _)| id).collect();
        let dead: Vec<Task> = ids.iter().filter_map(|id| tasks.remove(id)).collect();
        drop(tasks);
        self.flags.borrow_mut().retain(|id, _| !ids.contains(id));
        self.paused.borrow_mut().remove(&pid);
        drop(dead); // outside of the borrow: what they hold may call us
    }

    pub fn pause(&self, pid: Pid) {
        self.paused.borrow_mut().entry(pid).or_default();
    }

    pub fn is_paused(&self, pid: Pid) -> bool {
        self.paused.borrow().contains_key(&pid)
    }

    /// It goes on: wake what waited.
    pub fn resume(&self, pid: Pid) -> Vec<Waker> {
        let waiting = self.paused.borrow_mut().remove(&pid).unwrap_or_default();
        let tasks = self.tasks.borrow();
        waiting.iter().filter_map(|id| tasks.get(id)).map(|task| task.waker.clone()).collect()
    }

    /// Runs until nothing is left to do before `until_ms`; the time is `until_ms` then.
    pub fn run_until(&self, until_ms: u64) {
        loop {
            while let Some(id) = self.next_ready() {
                self.poll(id);
            }
            let due = self.timers.borrow().first_key_value().map(|(key, _)| *key);
            let Some(key) = due.filter(|(at, _)| *at <= until_ms) else { break };
            self.now_ms.set(key.0);
            let waker = self.timers.borrow_mut().remove(&key);
            waker.into_iter().for_each(Waker::wake);
        }
        self.now_ms.set(until_ms);
    }

    /// Drops everything, so that what tasks and world hold of each other is freed.
    pub fn clear(&self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
        self.timers.borrow_mut().clear();
        self.flags.borrow_mut().clear();
    }

    /// Waits; at once when `ms` is 0.
    pub fn sleep(&self, ms: u64) -> Sleep<'_> {
        self.sleep_until(self.now_ms().saturating_add(ms))
    }

    pub fn sleep_until(&self, at_ms: u64) -> Sleep<'_> {
        Sleep { exec: self, at_ms, key: None }
    }

    fn number(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    fn next_ready(&self) -> Option<u64> {
        let id = self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop_front()?;
        if let Some(flag) = self.flags.borrow().get(&id) {
            flag.queued.store(false, Ordering::Relaxed);
        }
        Some(id)
    }

    fn poll(&self, id: u64) {
        let Some((pid, taken, waker)) = self
            .tasks
            .borrow_mut()
            .get_mut(&id)
            .map(|task| (task.pid, task.future.take(), task.waker.clone()))
        else {
            return;
        };
        let Some(mut future) = taken else { return };
        if let Some(waiting) = self.paused.borrow_mut().get_mut(&pid) {
            waiting.insert(id);
            self.put_back(id, future);
            return;
        }
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => self.put_back(id, future),
            Poll::Ready(()) => {
                drop(future);
                self.tasks.borrow_mut().remove(&id);
                self.flags.borrow_mut().remove(&id);
            }
        }
    }

    /// One that was killed meanwhile is dropped here.
    fn put_back(&self, id: u64, future: Future) {
        let mut tasks = self.tasks.borrow_mut();
        match tasks.get_mut(&id) {
            Some(task) => task.future = Some(future),
            None => {
                drop(tasks);
                drop(future);
            }
        }
    }
}

/// See [`Exec::sleep`].
pub struct Sleep<'a> {
    exec: &'a Exec,
    at_ms: u64,
    key: Option<(u64, u64)>,
}

impl std::future::Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.exec.now_ms() >= self.at_ms {
            return Poll::Ready(());
        }
        let key = self.key.unwrap_or_else(|| (self.at_ms, self.exec.number()));
        self.key = Some(key);
        self.exec.timers.borrow_mut().insert(key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.exec.timers.borrow_mut().remove(&key);
        }
    }
}
