//! A value that tasks watch, like `tokio::sync::watch`, with one difference: whoever has waited longest
//! is woken first. Tokio's wakes in an order of its own chance, and then a seed could not be replayed.

use std::cell::{Cell, Ref, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

struct Shared<T> {
    value: RefCell<T>,
    version: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

pub struct Sender<T> {
    shared: Rc<Shared<T>>,
}

pub struct Receiver<T> {
    shared: Rc<Shared<T>>,
    seen: u64,
}

pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Sender<T> {
    pub fn new(value: T) -> Self {
        let shared =
            Shared { value: RefCell::new(value), version: Cell::new(0), waiting: RefCell::default() };
        Self { shared: Rc::new(shared) }
    }

    pub fn subscribe(&self) -> Receiver<T> {
        Receiver { shared: Rc::clone(&self.shared), seen: self.shared.version.get() }
    }

    pub fn borrow(&self) -> Ref<'_, T> {
        self.shared.value.borrow()
    }

    pub fn send_replace(&self, value: T) -> T {
        let before = self.shared.value.replace(value);
        self.shared.news();
        before
    }

    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.shared.value.borrow_mut());
        self.shared.news();
    }
}

impl<T> Shared<T> {
    fn news(&self) {
        self.version.set(self.version.get() + 1);
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
    }

    fn wait<R>(&self, context: &Context<'_>) -> Poll<R> {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { shared: Rc::clone(&self.shared), seen: self.seen }
    }
}

impl<T> Receiver<T> {
    pub fn borrow(&self) -> Ref<'_, T> {
        self.shared.value.borrow()
    }

    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        self.mark_unchanged();
        self.shared.value.borrow()
    }

    pub fn mark_unchanged(&mut self) {
        self.seen = self.shared.version.get();
    }

    /// Returns when there is a value that was not seen.
    pub async fn changed(&mut self) {
        poll_fn(|context| match self.shared.version.get() == self.seen {
            true => self.shared.wait(context),
            false => Poll::Ready(()),
        })
        .await;
        self.mark_unchanged();
    }

    /// Returns when the value is as wished.
    pub async fn wait_for(&mut self, wished: impl Fn(&T) -> bool) {
        poll_fn(|context| match wished(&self.shared.value.borrow()) {
            true => Poll::Ready(()),
            false => self.shared.wait(context),
        })
        .await;
        self.mark_unchanged();
    }
}
