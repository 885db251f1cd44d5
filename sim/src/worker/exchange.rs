//! What a worker does by the clock: heartbeats, the fence, the lease file, the guard's start, and the
//! look at Docker as a whole.

use std::rc::Rc;

use berth_common::message::{Event, Heartbeat, PROTOCOL};
use berth_worker::agent::{Permission, Unattended, unattended};
use berth_worker::docker::DockerError;

use super::Worker;
use crate::world::{guard_pid, start};

/// `worker/src/link/heartbeat.rs`.
const BEAT_MS: u64 = 5_000;
const BEAT_AT_MOST_EVERY_MS: u64 = 200;
const HEARTBEAT_EXPIRES_MS: u64 = 15_000;
/// `worker/src/lease.rs`.
const LEASE_LOOK_MS: u64 = 1_000;
const WRITE_AT_MOST_EVERY_MS: u64 = 200;
/// `worker/src/guard/keeper.rs`.
const GUARD_LOOK_MS: u64 = 2_000;
/// `worker/src/listing.rs`.
const LIST_MS: u64 = 5_000;

pub async fn heartbeats(worker: Rc<Worker>) {
    let mut link = worker.link.state();
    let mut beats: u64 = 0;
    loop {
        tokio::select! {
            biased;
            () = worker.w.exec.sleep(if beats == 0 { 0 } else { BEAT_MS }) => {}
            () = worker.beat.notified() => {}
            () = link.changed() => if link.borrow_and_update().is_none() { continue },
        }
        let session = worker.session();
        let tell = session.is_none() || beats.is_multiple_of(12);
        beats += 1;
        let beat = {
            let numbers = worker.numbers.borrow();
            Event::Heartbeat(Box::new(Heartbeat {
                protocol: PROTOCOL,
                session,
                last: session.map(|_| numbers.last),
                instance: numbers.instance,
                inventory: tell.then(|| worker.of().inventory.clone()),
                health: None,
                attempts: worker.engine.get().map(|_| worker.held()),
            }))
        };
        let payload = worker.message(beat);
        worker.w.point(worker.pid, "before a heartbeat").await;
        let sent = worker.publish(&payload, Some(HEARTBEAT_EXPIRES_MS)).await;
        worker.w.trace(|| format!("{} beats in session {session:?}: {sent:?}", worker.of().name));
        worker.w.exec.sleep(BEAT_AT_MOST_EVERY_MS).await;
    }
}

/// `worker/src/link/fence.rs`.
pub async fn fence(worker: Rc<Worker>) {
    loop {
        while !worker.term.borrow().is_over(worker.of().boot_time(&worker.w)) {
            worker.w.exec.sleep(LEASE_LOOK_MS).await;
        }
        worker.w.trace(|| format!("{} fences itself", worker.of().name));
        {
            let mut numbers = worker.numbers.borrow_mut();
            numbers.session = None;
            numbers.boot = worker.w.chance.uuid();
        }
        worker.permit_all(Permission::Fenced);
        let now = worker.of().boot_time(&worker.w);
        worker.term.borrow_mut().end(now);
        worker.beat.notify_one();
        loop {
            let changed = worker.term_changed.notified();
            if worker.term.borrow().has_begun() {
                break;
            }
            changed.await;
        }
        worker.beat.notify_one();
    }
}

pub async fn keep_lease_file(worker: Rc<Worker>) {
    loop {
        worker.write_lease();
        worker.w.exec.sleep(WRITE_AT_MOST_EVERY_MS).await;
        worker.lease_news.notified().await;
    }
}

pub async fn keep_guard(worker: Rc<Worker>) {
    let guard = guard_pid(worker.host);
    loop {
        if worker.w.guard_is_free(worker.host) {
            start(&worker.w, guard);
        }
        worker.w.exec.sleep(GUARD_LOOK_MS).await;
    }
}

/// Looks at Docker as a whole: whether it answers, and what nobody looks after.
pub async fn list(worker: Rc<Worker>) {
    loop {
        let before = worker.engine.get();
        match look(&worker).await {
            Ok(keeps) => worker.engine.set(Some(keeps)),
            Err(_) => worker.engine.set(None),
        }
        if worker.engine.get() != before {
            worker.beat.notify_one();
        }
        worker.w.exec.sleep(LIST_MS).await;
    }
}

async fn look(worker: &Worker) -> Result<bool, DockerError> {
    let keeps = worker.docker.engine().await?;
    let (instance, session) = (worker.numbers.borrow().instance, worker.session());
    if instance.is_some() {
        for replica in worker.docker.list().await? {
            if worker.attempts.borrow().contains_key(&replica) {
                continue;
            }
            let row = worker.of().inbox.borrow().find(replica);
            match unattended(row.as_ref(), session) {
                Unattended::Leave => {}
                Unattended::Remove | Unattended::StopAndRemove => {
                    worker.docker.remove(&replica.container_name()).await?;
                }
            }
        }
    }
    Ok(keeps)
}
