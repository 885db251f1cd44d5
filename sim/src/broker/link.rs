//! A process's way to the broker: a connection that comes back by itself, by which it publishes with
//! confirms and consumes.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::{mpsc, oneshot};

use crate::watch;

use super::{Conn, Delivery, Message, consume, give_up, route};
use crate::exec::{NATURE, Pid};
use crate::world::World;

/// A confirm that takes longer is as good as lost (`common/src/broker/publisher.rs`).
const CONFIRM_TIMEOUT_MS: u64 = 15_000;
/// First and last pause between two tries to connect.
const BACKOFF_MS: (u64, u64) = (500, 5_000);

/// What a process consumes.
#[derive(Debug, Clone)]
pub struct Subscription {
    pub queue: String,
    /// Whether it makes the queue where there is none.
    pub declares: bool,
    pub prefetch: usize,
}

/// Why nobody knows that a message arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishError {
    /// Nothing was sent.
    Unavailable,
    /// No queue takes it.
    Unroutable,
    /// It may have arrived.
    Unknown,
}

/// See the module.
pub struct Link {
    pid: Pid,
    conn: watch::Sender<Option<Rc<Conn>>>,
    closed: Cell<bool>,
}

impl Link {
    /// Connects, and again whenever the connection is lost. `silence_ms`: after which the broker gives
    /// this client up.
    pub fn start(
        w: &Rc<World>,
        pid: Pid,
        silence_ms: u64,
        subscriptions: Vec<Subscription>,
    ) -> (Rc<Self>, mpsc::UnboundedReceiver<Delivery>) {
        let link = Rc::new(Self { pid, conn: watch::Sender::new(None), closed: Cell::new(false) });
        let (to, deliveries) = mpsc::unbounded_channel();
        let (world, this) = (Rc::clone(w), Rc::clone(&link));
        w.exec.spawn(pid, async move {
            let mut pause_ms = BACKOFF_MS.0;
            while !this.closed.get() {
                if this.once(&world, silence_ms, &subscriptions, &to).await {
                    pause_ms = BACKOFF_MS.0;
                }
                world.exec.sleep(pause_ms).await;
                pause_ms = (pause_ms * 2).min(BACKOFF_MS.1);
            }
        });
        (link, deliveries)
    }

    /// One connection, from its beginning to its end. Whether it began.
    async fn once(
        &self,
        w: &Rc<World>,
        silence_ms: u64,
        subscriptions: &[Subscription],
        to: &mpsc::UnboundedSender<Delivery>,
    ) -> bool {
        let Some(conn) = Conn::open(w, self.pid, silence_ms).await else { return false };
        if self.closed.get() {
            give_up(w, &conn);
            return false;
        }
        for of in subscriptions {
            if of.declares {
                w.broker.declare(&of.queue);
            }
            if !consume(w, &of.queue, &conn, of.prefetch, to.clone()) {
                give_up(w, &conn);
                return false;
            }
        }
        self.conn.send_replace(Some(Rc::clone(&conn)));
        conn.client_open.subscribe().wait_for(|open| !open).await;
        self.conn.send_replace(None);
        if !w.net.is_cut(self.pid) {
            give_up(w, &conn);
        }
        true
    }

    /// Ends it: nothing is consumed or published any more.
    pub fn close(&self, w: &Rc<World>) {
        self.closed.set(true);
        if let Some(conn) = self.conn.send_replace(None) {
            conn.client_open.send_replace(false);
            give_up(w, &conn);
        }
    }

    /// Returns when there is a connection.
    pub async fn up(&self) {
        self.conn.subscribe().wait_for(Option::is_some).await;
    }

    pub fn state(&self) -> watch::Receiver<Option<Rc<Conn>>> {
        self.conn.subscribe()
    }

    /// Publishes a message, once.
    pub async fn publish(&self, w: &Rc<World>, queue: &str, message: Message) -> Result<(), PublishError> {
        let conn = self.conn.borrow().clone().filter(|conn| conn.is_usable());
        let Some(conn) = conn else { return Err(PublishError::Unavailable) };
        let (done, confirm) = oneshot::channel();
        let crossing = conn.cross_up(w);
        let (world, queue, this) = (Rc::clone(w), queue.to_owned(), Rc::clone(&conn));
        w.exec.spawn(NATURE, async move {
            if !crossing.await || !world.broker.up.get() {
                return;
            }
            let routed = route(&world, &queue, message);
            if world.chance.one_in(world.weather().lose_confirm) {
                give_up(&world, &this);
                this.client_open.send_replace(false);
            }
            if this.cross_down(&world).await {
                let _ = done.send(if routed { Ok(()) } else { Err(PublishError::Unroutable) });
            }
        });
        let mut open = conn.client_open.subscribe();
        tokio::select! {
            biased;
            confirmed = confirm => confirmed.unwrap_or(Err(PublishError::Unknown)),
            () = open.wait_for(|open| !open) => Err(PublishError::Unknown),
            () = w.exec.sleep(CONFIRM_TIMEOUT_MS) => Err(PublishError::Unknown),
        }
    }
}
