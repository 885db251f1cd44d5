//! Publishes what was committed (`scheduler/src/broker/outbox.rs`): a device's rows in their order,
//! each after the one before was confirmed; no device waits for another.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use berth_scheduler::core::rows::OutboxRow;

use crate::broker::{Link, Message, PublishError, device_queue};
use crate::exec::Pid;
use crate::message::Payload;
use crate::world::World;

const PAUSE_MS: u64 = 500;

/// It ends when it is dropped: a leader that was deposed publishes nothing.
pub struct Outbox {
    shared: Rc<Shared>,
}

struct Shared {
    w: Rc<World>,
    pid: Pid,
    link: Rc<Link>,
    of_device: RefCell<BTreeMap<String, VecDeque<OutboxRow>>>,
    published: RefCell<Vec<i64>>,
    ended: Cell<bool>,
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.shared.ended.set(true);
    }
}

impl Outbox {
    pub fn start(w: &Rc<World>, pid: Pid, link: Rc<Link>) -> Self {
        let shared = Shared {
            w: Rc::clone(w),
            pid,
            link,
            of_device: RefCell::default(),
            published: RefCell::default(),
            ended: Cell::new(false),
        };
        Self { shared: Rc::new(shared) }
    }

    /// Takes rows that were committed, in their order.
    pub fn send(&self, rows: Vec<OutboxRow>) {
        for row in rows {
            let mut of_device = self.shared.of_device.borrow_mut();
            let device = row.device.clone();
            if let Some(waiting) = of_device.get_mut(&device) {
                waiting.push_back(row);
                continue;
            }
            of_device.insert(device.clone(), VecDeque::from([row]));
            let shared = Rc::clone(&self.shared);
            self.shared.w.exec.spawn(self.shared.pid, async move { shared.device(device).await });
        }
    }

    pub fn take_published(&self) -> Vec<i64> {
        std::mem::take(&mut self.shared.published.borrow_mut())
    }
}

impl Shared {
    async fn device(self: Rc<Self>, device: String) {
        loop {
            let row = self.of_device.borrow_mut().get_mut(&device).and_then(VecDeque::pop_front);
            let Some(row) = row else { break };
            let id = row.message.id;
            self.publish(row).await;
            if self.ended.get() {
                return;
            }
            self.published.borrow_mut().push(id);
        }
        self.of_device.borrow_mut().remove(&device);
    }

    async fn publish(&self, row: OutboxRow) {
        let text = serde_json::to_string(&row.message).expect("an order is plain JSON");
        let payload = Rc::new(Payload::Order(text));
        let queue = device_queue(&row.device);
        while !self.ended.get() {
            self.w.point(self.pid, "before an order is published").await;
            self.w.auditor.borrow_mut().ordered(&row.device, &row.message, self.w.exec.now_ms());
            self.w.trace(|| format!("{:?} to {}: {:?}", self.pid, row.device, brief(&row)));
            let message = Message { payload: Rc::clone(&payload), reply_to: None, expires_at_ms: None };
            match self.link.publish(&self.w, &queue, message).await {
                Ok(()) => return self.w.point(self.pid, "after an order was published").await,
                Err(PublishError::Unroutable) => {
                    self.w.broker.declare(&queue);
                    continue;
                }
                Err(PublishError::Unavailable | PublishError::Unknown) => {}
            }
            self.w.exec.sleep(PAUSE_MS).await;
        }
    }
}

fn brief(row: &OutboxRow) -> String {
    use berth_common::message::Order;
    let (session, id) = (row.message.session, row.message.id);
    match &row.message.order {
        Order::Start(start) => format!("{session}/{id} start {}", start.replica),
        Order::Stop(stop) => {
            format!("{session}/{id} stop {} {} {} ms", stop.replica, stop.reason, stop.grace_ms)
        }
        Order::Ask(replica) => format!("{session}/{id} ask {replica}"),
        Order::Exec(exec) => format!("{session}/{id} exec {} in {}", exec.command, exec.replica),
        Order::Limit(limit) => format!("{session}/{id} limit {} {:?}", limit.replica, limit.timeout_s),
        Order::Welcome(welcome) => format!("{session}/{id} welcome {:?}", welcome.expected),
    }
}
