//! A connection of a process to the broker: bytes in order, each way, until one end gives it up.
//!
//! A short cut of the network delays what is under way; a long one makes both ends give the
//! connection up, each by its own heartbeats, the client before the broker.

use std::cell::Cell;
use std::rc::Rc;

use crate::watch;

use super::give_up;
use crate::exec::{NATURE, Pid};
use crate::world::World;

/// A client misses the broker after so long.
const CLIENT_MISSES_MS: u64 = 20_000;
/// Between two looks at a connection whose other end is silent.
const LOOK_MS: u64 = 1_000;

pub struct Conn {
    pub id: u64,
    pub pid: Pid,
    /// How long the broker waits for a silent client.
    broker_misses_ms: u64,
    pub client_open: watch::Sender<bool>,
    pub broker_open: watch::Sender<bool>,
    /// When what was sent last arrives: nothing overtakes it.
    last_up_ms: Cell<u64>,
    last_down_ms: Cell<u64>,
}

impl Conn {
    /// Connects; `None` when the broker is not there, or not heard of.
    pub async fn open(w: &Rc<World>, pid: Pid, broker_misses_ms: u64) -> Option<Rc<Self>> {
        w.exec.sleep(3 * w.latency_ms()).await;
        if w.net.is_cut(pid) {
            w.exec.sleep(10_000).await;
            return None;
        }
        if !w.broker.up.get() {
            return None;
        }
        let conn = Rc::new(Self {
            id: w.broker.number(),
            pid,
            broker_misses_ms,
            client_open: watch::Sender::new(true),
            broker_open: watch::Sender::new(true),
            last_up_ms: Cell::new(0),
            last_down_ms: Cell::new(0),
        });
        w.broker.conns.borrow_mut().insert(conn.id, Rc::clone(&conn));
        Some(conn)
    }

    /// Something goes to the broker; false when it does not arrive.
    pub fn cross_up(self: &Rc<Self>, w: &Rc<World>) -> impl Future<Output = bool> + use<> {
        self.cross(w, &self.last_up_ms, &self.broker_open)
    }

    pub fn cross_down(self: &Rc<Self>, w: &Rc<World>) -> impl Future<Output = bool> + use<> {
        self.cross(w, &self.last_down_ms, &self.client_open)
    }

    /// `to`: whether the end that it goes to is open. The place in the order is taken at once.
    fn cross(
        &self,
        w: &Rc<World>,
        last_ms: &Cell<u64>,
        to: &watch::Sender<bool>,
    ) -> impl Future<Output = bool> + use<> {
        let arrives_ms = last_ms.get().max(w.exec.now_ms() + w.latency_ms());
        last_ms.set(arrives_ms);
        let (w, pid) = (Rc::clone(w), self.pid);
        let (mut open, mut cut) = (to.subscribe(), w.net.watch(pid));
        async move {
            w.exec.sleep_until(arrives_ms).await;
            tokio::select! {
                biased;
                () = open.wait_for(|open| !open) => false,
                () = cut.wait_for(|cut| !cut) => true,
            }
        }
    }

    pub fn is_usable(&self) -> bool {
        *self.client_open.borrow()
    }
}

/// A process is cut off or paused: looks after its connections until it is there again.
pub fn watch_silence(w: &Rc<World>, pid: Pid) {
    let world = Rc::clone(w);
    w.exec.spawn(NATURE, async move {
        let w = world;
        let began_ms = w.exec.now_ms();
        while w.net.is_cut(pid) || w.exec.is_paused(pid) {
            w.exec.sleep(LOOK_MS).await;
            let silent_ms = w.exec.now_ms() - began_ms;
            for conn in of(&w, pid) {
                if silent_ms >= conn.broker_misses_ms {
                    give_up(&w, &conn);
                }
                if silent_ms >= CLIENT_MISSES_MS && w.net.is_cut(pid) && !w.exec.is_paused(pid) {
                    conn.client_open.send_replace(false);
                }
                if !*conn.broker_open.borrow() {
                    close_when_heard(&w, conn);
                }
            }
        }
        // The broker hears that nobody is at the other end any more.
        for conn in of(&w, pid).into_iter().filter(|conn| !conn.is_usable()) {
            give_up(&w, &conn);
        }
    });
}

/// The client learns that the broker has given it up, when it can.
fn close_when_heard(w: &Rc<World>, conn: Rc<Conn>) {
    let (world, mut cut) = (Rc::clone(w), w.net.watch(conn.pid));
    w.exec.spawn(NATURE, async move {
        cut.wait_for(|cut| !cut).await;
        world.exec.sleep(world.latency_ms()).await;
        conn.client_open.send_replace(false);
    });
}

fn of(w: &Rc<World>, pid: Pid) -> Vec<Rc<Conn>> {
    w.broker.conns.borrow().values().filter(|conn| conn.pid == pid).cloned().collect()
}

/// A process has died: its host closes its connections; one that is cut off is missed later.
pub fn process_died(w: &Rc<World>, pid: Pid) {
    for conn in of(w, pid) {
        conn.client_open.send_replace(false);
        let (world, cut) = (Rc::clone(w), w.net.is_cut(pid));
        w.exec.spawn(NATURE, async move {
            let after_ms = if cut { conn.broker_misses_ms } else { world.latency_ms() };
            world.exec.sleep(after_ms).await;
            give_up(&world, &conn);
        });
    }
}
