//! The broker: durable queues, consumers with acknowledgements, publisher confirms, and all that can
//! come between: copies, reordering, expiry, a restart, and the loss of everything.
//!
//! What it promises is what RabbitMQ promises: a message that was confirmed is there until it was
//! acknowledged (unless the broker is set up anew), and a device's queue has one active consumer.

mod conn;
mod link;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use tokio::sync::mpsc;

pub use conn::{Conn, process_died, watch_silence};
pub use link::{Link, PublishError, Subscription};

use crate::exec::NATURE;
use crate::message::Payload;
use crate::world::World;

/// The queue of submissions and commands.
pub const REQUESTS: &str = "requests";
/// The queue of what workers, and leaders to themselves, tell.
pub const EVENTS: &str = "events";

pub fn device_queue(device: &str) -> String {
    format!("device.{device}")
}

/// A message in a queue.
#[derive(Debug, Clone)]
pub struct Message {
    pub payload: Rc<Payload>,
    /// Where its answer is awaited.
    pub reply_to: Option<u64>,
    pub expires_at_ms: Option<u64>,
}

/// A message in the hands of a consumer.
pub struct Delivery {
    pub queue: String,
    pub tag: u64,
    pub conn: Rc<Conn>,
    pub message: Message,
}

struct Consumer {
    conn: Rc<Conn>,
    prefetch: usize,
    unacked: BTreeMap<u64, Message>,
    to: mpsc::UnboundedSender<Delivery>,
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<Message>,
    consumers: Vec<Consumer>,
    /// Whose turn it is, where several may consume.
    turn: usize,
}

/// The broker's state; its doings are functions of the world.
pub struct Broker {
    pub up: Cell<bool>,
    queues: RefCell<BTreeMap<String, Queue>>,
    conns: RefCell<BTreeMap<u64, Rc<Conn>>>,
    next: Cell<u64>,
    /// Messages delivered, ever.
    pub delivered: Cell<u64>,
}

impl Broker {
    pub fn new() -> Self {
        Self {
            up: Cell::new(true),
            queues: RefCell::default(),
            conns: RefCell::default(),
            next: Cell::new(1),
            delivered: Cell::new(0),
        }
    }

    fn number(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    pub fn declare(&self, queue: &str) {
        self.queues.borrow_mut().entry(queue.to_owned()).or_default();
    }

    pub fn exists(&self, queue: &str) -> bool {
        self.queues.borrow().contains_key(queue)
    }

    /// Each queue with its messages that are ready, and those in the hands of each consumer.
    pub fn describe(&self) -> String {
        let of = |(name, q): (&String, &Queue)| {
            let hands: Vec<_> = q.consumers.iter().map(|c| (c.conn.pid.0, c.unacked.len())).collect();
            format!("{name}: {} ready, {hands:?}", q.ready.len())
        };
        self.queues.borrow().iter().map(of).collect::<Vec<_>>().join("; ")
    }
}

/// Puts a message into a queue, with what the weather adds. False: there is no such queue.
pub fn route(w: &Rc<World>, queue: &str, message: Message) -> bool {
    if !w.broker.exists(queue) {
        return false;
    }
    let weather = w.weather();
    if message.expires_at_ms.is_some() && w.chance.one_in(weather.lose_transient) {
        w.trace(|| format!("broker loses {:?}", message.payload));
        return true;
    }
    if w.chance.one_in(weather.duplicate) {
        let (world, copy, queue) = (Rc::clone(w), message.clone(), queue.to_owned());
        w.exec.spawn(NATURE, async move {
            world.exec.sleep(world.chance.skewed(1, 90_000)).await;
            insert(&world, &queue, copy);
        });
    }
    insert(w, queue, message);
    true
}

fn insert(w: &Rc<World>, queue: &str, message: Message) {
    let reorder = w.chance.one_in(w.weather().reorder);
    if let Some(queue) = w.broker.queues.borrow_mut().get_mut(queue) {
        let place = w.chance.between(0, queue.ready.len() as u64);
        let end = queue.ready.len();
        queue.ready.insert(if reorder { usize::try_from(place).unwrap_or(end) } else { end }, message);
    }
    pump(w, queue);
}

/// Hands ready messages to whoever may have them.
fn pump(w: &Rc<World>, name: &str) {
    let single = name != REQUESTS && name != EVENTS;
    loop {
        let mut queues = w.broker.queues.borrow_mut();
        let Some(queue) = queues.get_mut(name) else { return };
        let now_ms = w.exec.now_ms();
        while queue.ready.front().is_some_and(|m| m.expires_at_ms.is_some_and(|at| at <= now_ms)) {
            queue.ready.pop_front();
        }
        let count = if single { queue.consumers.len().min(1) } else { queue.consumers.len() };
        let room = |c: &Consumer| c.unacked.len() < c.prefetch;
        let Some(place) = (0..count).map(|i| (queue.turn + i) % count).find(|&i| room(&queue.consumers[i]))
        else {
            return;
        };
        let Some(message) = queue.ready.pop_front() else { return };
        queue.turn = place + 1;
        let tag = w.broker.number();
        let consumer = &mut queue.consumers[place];
        consumer.unacked.insert(tag, message.clone());
        let (conn, to) = (Rc::clone(&consumer.conn), consumer.to.clone());
        drop(queues);
        let delivery = Delivery { queue: name.to_owned(), tag, conn: Rc::clone(&conn), message };
        let crossing = conn.cross_down(w);
        let world = Rc::clone(w);
        w.exec.spawn(NATURE, async move {
            if crossing.await {
                world.broker.delivered.set(world.broker.delivered.get() + 1);
                let _ = to.send(delivery); // its process may have died
            }
        });
    }
}

impl Delivery {
    /// Acknowledges it; whether that arrives, nobody is told.
    pub fn ack(self, w: &Rc<World>) {
        let crossing = self.conn.cross_up(w);
        let world = Rc::clone(w);
        w.exec.spawn(NATURE, async move {
            if !crossing.await {
                return;
            }
            let known = {
                let mut queues = world.broker.queues.borrow_mut();
                let consumers = queues.get_mut(&self.queue).map(|q| &mut q.consumers);
                let ours = consumers.and_then(|c| c.iter_mut().find(|c| c.conn.id == self.conn.id));
                ours.and_then(|c| c.unacked.remove(&self.tag)).is_some()
            };
            if known {
                pump(&world, &self.queue);
            }
        });
    }
}

/// A consumer joins. False: there is no such queue.
fn consume(
    w: &Rc<World>,
    queue: &str,
    conn: &Rc<Conn>,
    prefetch: usize,
    to: mpsc::UnboundedSender<Delivery>,
) -> bool {
    if let Some(queue) = w.broker.queues.borrow_mut().get_mut(queue) {
        queue.consumers.push(Consumer { conn: Rc::clone(conn), prefetch, unacked: BTreeMap::new(), to });
    } else {
        return false;
    }
    pump(w, queue);
    true
}

/// The broker gives a connection up: what its consumer had in hand goes to others.
fn give_up(w: &Rc<World>, conn: &Rc<Conn>) {
    if !conn.broker_open.send_replace(false) {
        return;
    }
    w.broker.conns.borrow_mut().remove(&conn.id);
    let mut touched = Vec::new();
    for (name, queue) in w.broker.queues.borrow_mut().iter_mut() {
        let Some(place) = queue.consumers.iter().position(|c| c.conn.id == conn.id) else { continue };
        let consumer = queue.consumers.remove(place);
        for message in consumer.unacked.into_values().rev() {
            queue.ready.push_front(message);
        }
        touched.push(name.clone());
    }
    touched.iter().for_each(|name| pump(w, name));
}

/// Every connection breaks.
fn break_all(w: &Rc<World>) {
    let conns: Vec<Rc<Conn>> = w.broker.conns.borrow().values().cloned().collect();
    for conn in conns {
        give_up(w, &conn);
        conn.client_open.send_replace(false);
    }
}

/// The broker goes away.
pub fn stop(w: &Rc<World>) {
    w.broker.up.set(false);
    break_all(w);
}

/// It comes back, with its durable messages, or as it was first set up.
pub fn start(w: &Rc<World>, keeps: Keeps) {
    match keeps {
        Keeps::Everything => {}
        Keeps::Nothing => w.broker.queues.borrow_mut().clear(),
    }
    w.broker.up.set(true);
}

/// What a broker has after its restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    Everything,
    /// It was set up anew.
    Nothing,
}
