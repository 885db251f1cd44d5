//! Taking the leader's orders (`worker/src/link/orders.rs`): each is written down before it is
//! acknowledged, and then done.

use std::rc::Rc;
use std::time::Duration;

use berth_common::id::Replica;
use berth_common::message::{
    Answer, Event, HeldState, Limit, Order, Start, Stop, ToDevice, Welcome, WhatBecame,
};
use berth_worker::agent::{self, AtWelcome, Permission, Recollection, Verdict};
use berth_worker::docker::DockerError;
use berth_worker::inbox::{Phase, StopCause, StopTaken, Taken};
use tokio::sync::mpsc;

use super::attempt::look_after;
use super::{Backoff, DISK_MS, Worker};
use crate::broker::Delivery;
use crate::message::Payload;

const STRANGER_GRACE: Duration = Duration::from_secs(10);

pub async fn run(worker: Rc<Worker>, mut orders: mpsc::UnboundedReceiver<Delivery>) {
    while let Some(delivery) = orders.recv().await {
        if let Payload::Order(text) = &*delivery.message.payload {
            let message: ToDevice = serde_json::from_str(text).expect("leaders write what can be read");
            take(&worker, message).await;
        }
        worker.w.point(worker.pid, "before an order is acknowledged").await;
        delivery.ack(&worker.w);
    }
}

async fn take(worker: &Rc<Worker>, message: ToDevice) {
    let verdict = agent::judge(&worker.numbers.borrow(), &message);
    let (session, id) = (message.session, message.id);
    if let Verdict::Drop(why) = verdict {
        worker.w.trace(|| format!("{} drops {session}/{id}: {why}", worker.of().name));
        return;
    }
    worker.w.trace(|| format!("{} takes {session}/{id}", worker.of().name));
    match message.order {
        Order::Welcome(welcome) => take_welcome(worker, session, id, welcome).await,
        Order::Start(start) => take_start(worker, session, id, start).await,
        Order::Stop(stop) => take_stop(worker, id, &stop).await,
        Order::Exec(exec) => super::exec::take(worker, id, exec).await,
        Order::Limit(limit) => take_limit(worker, id, &limit).await,
        Order::Ask(replica) => {
            take_number(worker, id).await;
            answer(worker, replica);
        }
    }
}

async fn take_number(worker: &Worker, id: i64) {
    worker.persist(|inbox| inbox.take_number(id)).await;
    worker.numbers.borrow_mut().last = id;
}

async fn take_welcome(worker: &Rc<Worker>, session: i64, id: i64, welcome: Welcome) {
    let fence_after = Duration::from_secs(welcome.fence_after_s);
    let instance = welcome.instance;
    worker
        .persist(|inbox| {
            let station = &mut inbox.station;
            (station.session, station.last) = (session, id);
            (station.instance, station.fence_after) = (Some(instance), Some(fence_after));
        })
        .await;
    let held = worker.held_replicas();
    if !worker.numbers.borrow_mut().welcome(session, id, &welcome) {
        return;
    }
    worker.w.auditor.borrow_mut().welcomed(worker.host, worker.w.exec.now_ms());
    worker.term.borrow_mut().welcome(fence_after);
    worker.term_changed.notify_waiters();
    worker.w.exec.sleep(worker.w.chance.between(DISK_MS.0, DISK_MS.1)).await;
    worker.write_lease();
    for action in agent::at_welcome(&held, &welcome.expected) {
        match action {
            AtWelcome::GoOn(replica) => {
                worker.wish(replica, |wishes| wishes.permission = Permission::Granted);
            }
            AtWelcome::Stop(replica) if worker.state(replica) == Some(HeldState::Exited) => {}
            AtWelcome::Stop(replica) => {
                let (at, cause) = (worker.now(), StopCause::Asked);
                let stop = worker.stopping(StopTaken { at, grace: STRANGER_GRACE, cause });
                worker.wish(replica, |wishes| wishes.stop(stop));
            }
            AtWelcome::Answer(replica) => answer(worker, replica),
        }
    }
    fence_if_over(worker, session);
    worker.beat.notify_one();
}

/// The session may have ended while its order was written down; then nothing was granted.
fn fence_if_over(worker: &Worker, session: i64) {
    if worker.session() != Some(session) {
        worker.permit_all(Permission::Fenced);
    }
}

async fn take_start(worker: &Rc<Worker>, session: i64, id: i64, start: Box<Start>) {
    let replica = start.replica;
    let new = worker.persist(|inbox| inbox.take_start(session, id, &start)).await;
    if new {
        let phase = Phase::Live { start, launched: false, fenced: false, stop: None };
        look_after(worker, Taken { replica, session, phase }, Permission::Granted);
        fence_if_over(worker, session);
        worker.numbers.borrow_mut().last = id;
    } else {
        worker.numbers.borrow_mut().last = id;
        answer(worker, replica);
    }
}

async fn take_stop(worker: &Rc<Worker>, id: i64, stop: &Stop) {
    let (replica, grace) = (stop.replica, Duration::from_millis(stop.grace_ms));
    let taken = StopTaken { at: worker.now(), grace, cause: StopCause::Asked };
    worker.persist(|inbox| inbox.take_stop(id, replica, taken)).await;
    worker.numbers.borrow_mut().last = id;
    let stopping = worker.stopping(taken);
    if !worker.wish(replica, |wishes| wishes.stop(stopping)) {
        answer(worker, replica);
    }
}

async fn take_limit(worker: &Worker, id: i64, limit: &Limit) {
    let &Limit { replica, timeout_s } = limit;
    worker.persist(|inbox| inbox.take_limit(id, replica, timeout_s)).await;
    worker.numbers.borrow_mut().last = id;
    worker.wish(replica, |wishes| wishes.limit = timeout_s.map(Duration::from_secs));
}

/// Tells what became of an attempt, as soon as it is known.
fn answer(worker: &Rc<Worker>, replica: Replica) {
    let this = Rc::clone(worker);
    worker.w.exec.spawn(worker.pid, async move {
        let answer = what_became(&this, replica).await;
        let session = this.session().unwrap_or_default();
        this.until_confirmed(Event::Answer(Answer { replica, session, answer })).await;
    });
}

async fn what_became(worker: &Worker, replica: Replica) -> WhatBecame {
    let held = worker.state(replica);
    let row = worker.persist(|inbox| inbox.find(replica)).await;
    match agent::recollect(held, row.as_ref()) {
        Recollection::Answer(answer) => answer,
        Recollection::LookFor => look_for(worker, replica).await,
    }
}

/// Only when Docker has nothing of that name it was never taken.
async fn look_for(worker: &Worker, replica: Replica) -> WhatBecame {
    let name = replica.container_name();
    let mut pause = Backoff::default();
    let mut found = false;
    loop {
        let gone = async {
            if worker.docker.inspect(&name).await?.is_none() {
                return Ok::<_, DockerError>(true);
            }
            found = true;
            worker.docker.remove(&name).await
        };
        match gone.await {
            Ok(true) if found => return WhatBecame::Unknown,
            Ok(true) => return WhatBecame::NeverTaken,
            Ok(false) | Err(_) => pause.wait(&worker.w).await,
        }
    }
}
