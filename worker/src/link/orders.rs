//! Taking the leader's orders: each is written down before it is acknowledged, and then done.

use std::sync::Arc;
use std::time::Duration;

use berth_common::broker::Delivery;
use berth_common::id::Replica;
use berth_common::message::{
    Answer, Event, Exec, HeldState, Limit, Order, Start, Stop, ToDevice, Welcome, WhatBecame,
};
use tokio::sync::mpsc;

use crate::agent::{self, AtExec, AtWelcome, Dropped, Recollection, Verdict};
use crate::attempt::look_after;
use crate::attempts::{Permission, Stopping};
use crate::docker::DockerError;
use crate::exec;
use crate::inbox::{Inbox, Phase, StopCause, StopTaken, Taken};
use crate::worker::{Backoff, Worker};

/// For what the leader no longer knows; Docker's own default.
const STRANGER_GRACE: Duration = Duration::from_secs(10);

pub async fn run(worker: Arc<Worker>, mut orders: mpsc::Receiver<Delivery>) {
    while let Some(Some(delivery)) = worker.tasks.stop.run_until_cancelled(orders.recv()).await {
        let taken = match serde_json::from_slice::<ToDevice>(&delivery.body) {
            Ok(message) => take(&worker, message).await,
            Err(error) => {
                // A worker's account may write to its own exchanges only: the log has it. Not its body,
                // which can hold a password; nor the error's words, which can quote it.
                let (bytes, line, column) = (delivery.body.len(), error.line(), error.column());
                tracing::error!(
                    message = delivery.message_id, bytes, kind = ?error.classify(), line, column,
                    "an order cannot be read; dropped"
                );
                Some(())
            }
        };
        // One that was not taken comes again, as does one whose acknowledgement is lost; it does nothing then.
        if taken.is_some() && !delivery.ack().await {
            tracing::debug!(message = delivery.message_id, "an acknowledgement was lost");
        }
    }
}

/// None: the program ends before it was taken.
async fn take(worker: &Arc<Worker>, message: ToDevice) -> Option<()> {
    match agent::judge(&worker.numbers(), &message) {
        Verdict::Take => {}
        Verdict::Drop(Dropped::OtherInstance(instance)) => {
            tracing::warn!(
                %instance,
                "a scheduler of another installation welcomes this worker; not obeyed. If it is meant to \
                 change over, stop it and run: berth-worker adopt"
            );
            return Some(());
        }
        Verdict::Drop(why) => {
            tracing::debug!(session = message.session, id = message.id, %why, "an order is dropped");
            return Some(());
        }
    }
    let ToDevice { session, id, order } = message;
    match order {
        Order::Welcome(welcome) => take_welcome(worker, session, id, welcome).await?,
        Order::Start(start) => take_start(worker, session, id, start).await?,
        Order::Stop(stop) => take_stop(worker, id, &stop).await?,
        Order::Exec(exec) => take_exec(worker, id, exec).await?,
        Order::Limit(limit) => take_limit(worker, id, &limit).await?,
        Order::Ask(replica) => {
            take_number(worker, id).await?;
            answer(worker, replica);
        }
    }
    Some(())
}

async fn take_number(worker: &Worker, id: i64) -> Option<()> {
    worker.persist("take an order", |inbox| async move { inbox.take_number(id).await }).await?;
    worker.change_numbers(|numbers| numbers.last = id);
    Some(())
}

async fn take_welcome(worker: &Arc<Worker>, session: i64, id: i64, welcome: Welcome) -> Option<()> {
    let fence_after = Duration::from_secs(welcome.fence_after_s);
    let instance = welcome.instance;
    let write = |inbox: Inbox| async move { inbox.take_welcome(session, id, instance, fence_after).await };
    worker.persist("take a welcome", write).await?;
    let held = worker.attempts.held_replicas();
    let mut counts = false;
    worker.change_numbers(|numbers| counts = numbers.welcome(session, id, &welcome));
    if !counts {
        tracing::warn!(session, "a welcome was written down only after its session was over; it is dropped");
        return Some(());
    }
    worker.lease.welcomed(instance, fence_after).await;
    worker.instance_known(instance).await;
    tracing::info!(session, expected = welcome.expected.len(), held = held.len(), "welcomed");
    for action in agent::at_welcome(&held, &welcome.expected) {
        match action {
            AtWelcome::GoOn(replica) => {
                worker.attempts.wish(replica, |wishes| wishes.permission = Permission::Granted);
            }
            // Its end is on its way: there is nothing to stop.
            AtWelcome::Stop(replica) if worker.attempts.state(replica) == Some(HeldState::Exited) => {}
            AtWelcome::Stop(replica) => {
                tracing::warn!(%replica, "the leader does not know it: stopping it");
                let at = berth_common::time::now();
                let stop = StopTaken { at, grace: STRANGER_GRACE, cause: StopCause::Asked };
                worker.attempts.wish(replica, |wishes| wishes.stop(Stopping::new(stop)));
            }
            AtWelcome::Answer(replica) => answer(worker, replica),
        }
    }
    fence_if_over(worker, session);
    worker.beat.notify_one();
    Some(())
}

/// The session may have ended while its order was written down; then nothing was granted.
fn fence_if_over(worker: &Worker, session: i64) {
    if worker.numbers().session != Some(session) {
        worker.attempts.permit_all(Permission::Fenced);
    }
}

async fn take_start(worker: &Arc<Worker>, session: i64, id: i64, start: Box<Start>) -> Option<()> {
    let replica = start.replica;
    let order = &start;
    let write = |inbox: Inbox| async move { inbox.take_start(session, id, order).await };
    let new = worker.persist("take a start", write).await?;
    if new {
        tracing::info!(job.id = %replica.job, job.attempt = replica.attempt, image = start.spec.image, "taken");
        let phase = Phase::Live { start, launched: false, fenced: false, stop: None };
        look_after(worker, Taken { replica, session, phase }, Permission::Granted);
        fence_if_over(worker, session);
        // Only now: a heartbeat that shows this number lists the attempt too.
        worker.change_numbers(|numbers| numbers.last = id);
    } else {
        worker.change_numbers(|numbers| numbers.last = id);
        // No attempt starts twice: whoever asks for it again hears what became of it.
        answer(worker, replica);
    }
    Some(())
}

async fn take_stop(worker: &Arc<Worker>, id: i64, stop: &Stop) -> Option<()> {
    let (replica, grace) = (stop.replica, Duration::from_millis(stop.grace_ms));
    let taken = StopTaken { at: berth_common::time::now(), grace, cause: StopCause::Asked };
    worker.persist("take a stop", |inbox| async move { inbox.take_stop(id, replica, taken).await }).await?;
    worker.change_numbers(|numbers| numbers.last = id);
    tracing::info!(job.id = %replica.job, job.attempt = replica.attempt, reason = %stop.reason, "to be stopped");
    if !worker.attempts.wish(replica, |wishes| wishes.stop(Stopping::new(taken))) {
        answer(worker, replica);
    }
    Some(())
}

async fn take_exec(worker: &Arc<Worker>, id: i64, exec: Exec) -> Option<()> {
    let command = exec.command;
    let write = |inbox: Inbox| async move { inbox.take_exec(id, command).await };
    let taken = worker.persist("take a command", write).await?;
    worker.change_numbers(|numbers| numbers.last = id);
    match agent::at_exec(taken) {
        AtExec::Run => exec::run(worker, exec),
        AtExec::Tell(result) => exec::tell(worker, result),
        AtExec::Wait => {}
    }
    Some(())
}

async fn take_limit(worker: &Worker, id: i64, limit: &Limit) -> Option<()> {
    let &Limit { replica, timeout_s } = limit;
    let write = |inbox: Inbox| async move { inbox.take_limit(id, replica, timeout_s).await };
    worker.persist("take a time limit", write).await?;
    worker.change_numbers(|numbers| numbers.last = id);
    tracing::info!(job.id = %replica.job, job.attempt = replica.attempt, timeout_s, "may run for another time");
    worker.attempts.wish(replica, |wishes| wishes.limit = timeout_s.map(Duration::from_secs));
    Some(())
}

/// Tells what became of an attempt, as soon as it is known.
fn answer(worker: &Arc<Worker>, replica: Replica) {
    let this = Arc::clone(worker);
    worker.tasks.tracker.spawn(async move {
        let Some(answer) = this.tasks.stop.run_until_cancelled(what_became(&this, replica)).await.flatten()
        else {
            return;
        };
        let session = this.numbers().session.unwrap_or_default();
        tracing::debug!(%replica, ?answer, "answering");
        this.reporter
            .until_confirmed(Event::Answer(Answer { replica, session, answer }), &this.tasks.leave)
            .await;
    });
}

async fn what_became(worker: &Worker, replica: Replica) -> Option<WhatBecame> {
    let held = worker.attempts.state(replica);
    let row = worker.persist("find an attempt", |inbox| async move { inbox.find(replica).await }).await?;
    match agent::recollect(held, row.as_ref()) {
        Recollection::Answer(answer) => Some(answer),
        Recollection::LookFor => Some(look_for(worker, replica).await),
    }
}

/// The inbox does not know it. Only when Docker has nothing of that name it was never taken; a
/// container whose memory was lost must be gone before anything is said.
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
            Ok(true) if found => {
                worker.forget_fenced(replica);
                return WhatBecame::Unknown;
            }
            Ok(true) => return WhatBecame::NeverTaken,
            Ok(false) | Err(_) => pause.wait().await,
        }
    }
}
