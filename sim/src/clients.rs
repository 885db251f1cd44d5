//! The clients: they submit jobs and ask for what comes to their minds, and repeat every request word
//! by word until it is answered. After the trouble they let go what they held back.

mod operators;
mod queues;
mod wishes;

pub use queues::queues;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use berth_common::message::{Reply, Target};
use serde_json::Value;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::broker::{Message, REQUESTS, route};
use crate::exec::NATURE;
use crate::message::{Payload, Request};
use crate::world::World;
use wishes::Crowd;

/// How long an answer is awaited (`POST /v1/jobs`).
const PATIENCE_MS: u64 = 5_000;

/// Who waits for an answer.
#[derive(Default)]
pub struct Clients {
    waiting: RefCell<BTreeMap<u64, oneshot::Sender<Reply>>>,
    next: Cell<u64>,
    /// Jobs and arrays that were submitted: others may come after them.
    known: RefCell<Vec<Uuid>>,
    /// Requests that were not answered yet.
    pub open: Cell<u64>,
}

/// An answer goes to whoever waits for it; it may be lost, and then the client asks again.
pub fn reply(w: &Rc<World>, to: u64, reply: Reply) {
    if w.chance.one_in(w.weather().lose_reply) {
        return;
    }
    let world = Rc::clone(w);
    w.exec.spawn(NATURE, async move {
        world.exec.sleep(world.latency_ms()).await;
        let waiting = world.clients.waiting.borrow_mut().remove(&to);
        waiting.map(|waiting| waiting.send(reply));
    });
}

/// Asks until there is an answer.
pub async fn ask(w: &Rc<World>, request: Request) -> Reply {
    w.clients.open.set(w.clients.open.get() + 1);
    w.auditor.borrow_mut().asked(&request);
    w.trace(|| format!("client asks {request:?}"));
    loop {
        let number = w.clients.next.replace(w.clients.next.get() + 1);
        let (sender, answer) = oneshot::channel();
        w.clients.waiting.borrow_mut().insert(number, sender);
        let message = Message {
            payload: Rc::new(Payload::Request(request.clone())),
            reply_to: Some(number),
            expires_at_ms: None,
        };
        w.exec.sleep(w.latency_ms()).await;
        if w.broker.up.get() {
            route(w, REQUESTS, message);
        }
        let reply = tokio::select! {
            biased;
            reply = answer => reply.ok(),
            () = w.exec.sleep(PATIENCE_MS) => None,
        };
        w.clients.waiting.borrow_mut().remove(&number);
        // Overload, or a fault of the scheduler's: asked again.
        if let Some(reply) = reply.filter(|reply| reply.status < 500) {
            w.trace(|| format!("client hears {} {}", reply.status, reply.body));
            w.auditor.borrow_mut().answered(&request, &reply, w.exec.now_ms());
            w.clients.open.set(w.clients.open.get() - 1);
            return reply;
        }
        w.exec.sleep(w.chance.between(200, 3_000)).await;
    }
}

/// Sends a command, under an id of its own.
pub async fn command(w: &Rc<World>, actor: &'static str, target: Target, body: Value) -> Reply {
    ask(w, Request::Command { id: w.chance.uuid(), actor, target, body }).await
}

/// Starts the clients; all that they begin falls into the first `until_ms`.
pub fn start(w: &Rc<World>, until_ms: u64) {
    let crowd = if w.chance.one_in(3) { Crowd::ForGpus } else { Crowd::No };
    for _ in 0..w.chance.between(6, 26) {
        let world = Rc::clone(w);
        let at_ms = w.chance.between(0, until_ms * 2 / 3);
        w.exec.spawn(NATURE, async move {
            world.exec.sleep(at_ms).await;
            submit(&world, crowd, until_ms).await;
        });
    }
    operators::start(w, until_ms);
}

/// One job: submitted, and then perhaps meddled with.
async fn submit(w: &Rc<World>, crowd: Crowd, until_ms: u64) {
    let (id, owner) = (w.chance.uuid(), "ann");
    let spec = wishes::spec(&w.chance, crowd, &w.clients.known.borrow());
    let jobs = berth_common::spec::from_value(spec.clone()).expect("clients write valid ones").job_ids(id);
    let reply = ask(w, Request::Submit { id, owner, spec }).await;
    if reply.status >= 300 {
        return;
    }
    w.clients.known.borrow_mut().push(id);
    while w.exec.now_ms() < until_ms && !w.chance.one_in(3) {
        w.exec.sleep(w.chance.skewed(100, 200_000)).await;
        let job = *w.chance.pick(&jobs);
        let body = wishes::command(&w.chance);
        let actor = if body["command"] == "approve" { "root" } else { owner };
        command(w, actor, Target::Job(job), body).await;
    }
}
