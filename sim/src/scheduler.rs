//! A scheduler process: the real core in a shell that does what `scheduler/src/leader` does: win the
//! lease, load, and then batch by batch read, decide, commit, answer, publish, acknowledge.
//!
//! Any doubt is answered by dropping the memory. A process that is paused in the middle goes on
//! exactly there, with its old memory and its unpublished outbox.

mod ear;
mod outbox;

use std::rc::Rc;

use berth_common::time::plus_ms;
use berth_scheduler::core::Core;
use berth_scheduler::core::check::violations;
use berth_scheduler::core::input::{Decisions, Input};
use berth_scheduler::core::rows::{Facts, Needs};
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::broker::{Delivery, EVENTS, Link, REQUESTS, Subscription};
use crate::database::{StoreError, call};
use crate::exec::Pid;
use crate::message::Payload;
use crate::world::World;
use ear::Ear;
use outbox::Outbox;

/// `scheduler/src/leader/campaign.rs`.
const LEASE_MS: u64 = 5_000;
const LOOK_EVERY_MS: u64 = 500;
/// `scheduler/src/leader.rs`.
const BACKOFF_MS: (u64, u64) = (500, 10_000);
/// `scheduler/src/leader/reign.rs`.
const TICK_MS: u64 = 1_000;
/// Smaller than the real ones, so that a simulated hour has many batches and full hands.
const BATCH: usize = 8;
const PREFETCH: usize = 20;
/// The consuming connection's heartbeat is 4 s: the broker gives it up after about this.
const SILENCE_MS: u64 = 10_000;

struct Process {
    w: Rc<World>,
    pid: Pid,
    skew_ms: i64,
}

/// Leads whenever it can.
pub async fn run(w: Rc<World>, pid: Pid) {
    let skew_ms = w.skew_ms[(pid.0 as usize - 1) % 2];
    let process = Process { w, pid, skew_ms };
    let mut pause_ms = BACKOFF_MS.0;
    loop {
        let began_ms = process.w.exec.now_ms();
        let Err(error) = process.once().await else { continue };
        process.w.trace(|| format!("{pid:?} does not lead now: {error:?}"));
        if process.w.exec.now_ms() - began_ms > BACKOFF_MS.1 {
            pause_ms = BACKOFF_MS.0;
        }
        process.w.exec.sleep(pause_ms).await;
        pause_ms = (pause_ms * 2).min(BACKOFF_MS.1);
    }
}

impl Process {
    fn now(&self) -> Timestamp {
        self.w.now(self.skew_ms)
    }

    async fn once(&self) -> Result<(), StoreError> {
        let epoch = self.campaign().await?;
        let snapshot = call(&self.w, self.pid, move |t| t.snapshot(epoch)).await?;
        let mut snapshot = snapshot;
        let rows = std::mem::take(&mut snapshot.outbox);
        let core = Core::load(snapshot, self.w.limits, self.now());
        self.w.trace(|| format!("{:?} leads, epoch {epoch}, {} rows to publish", self.pid, rows.len()));
        let consumes = |queue: &str| Subscription { queue: queue.into(), declares: true, prefetch: PREFETCH };
        let subscriptions = vec![consumes(REQUESTS), consumes(EVENTS)];
        let (link, deliveries) = Link::start(&self.w, self.pid, SILENCE_MS, subscriptions);
        let outbox = Outbox::start(&self.w, self.pid, Rc::clone(&link));
        outbox.send(rows);
        let mut reign =
            Reign { process: self, core, epoch, outbox, ear: Ear::default(), link, renewed_ms: 0 };
        let ended = reign.run(deliveries).await;
        reign.link.close(&self.w);
        ended
    }

    /// Waits until nobody leads, then leads.
    async fn campaign(&self) -> Result<i64, StoreError> {
        let mut seen = None;
        loop {
            let lease = call(&self.w, self.pid, |t| Ok(t.lease.clone())).await?;
            let now_ms = self.w.exec.now_ms();
            let since_ms = match &seen {
                Some((before, since_ms)) if *before == lease => *since_ms,
                Some(_) | None => {
                    seen = Some((lease.clone(), now_ms));
                    now_ms
                }
            };
            if lease.holder.is_none_or(|holder| holder == self.pid.0) || now_ms - since_ms >= LEASE_MS {
                let (holder, at) = (self.pid.0, self.now().max(plus_ms(lease.renewed_at, 1)));
                let taken = call(&self.w, self.pid, move |t| Ok(t.take(&lease, holder, at))).await?;
                if let Some(epoch) = taken {
                    return Ok(epoch);
                }
                continue;
            }
            self.w.exec.sleep(LOOK_EVERY_MS).await;
        }
    }
}

struct Reign<'a> {
    process: &'a Process,
    core: Core,
    epoch: i64,
    outbox: Outbox,
    ear: Ear,
    link: Rc<Link>,
    renewed_ms: u64,
}

impl Reign<'_> {
    async fn run(&mut self, mut inbox: mpsc::UnboundedReceiver<Delivery>) -> Result<(), StoreError> {
        let (w, pid) = (Rc::clone(&self.process.w), self.process.pid);
        let mut arrived = Vec::new();
        loop {
            let wake_ms = self.wake_ms();
            tokio::select! {
                biased;
                _ = inbox.recv_many(&mut arrived, BATCH) => {}
                () = w.exec.sleep_until(wake_ms) => {}
            }
            if w.exec.now_ms() >= self.renewed_ms + TICK_MS {
                self.renewed_ms = w.exec.now_ms();
                let (epoch, at) = (self.epoch, self.process.now());
                call(&w, pid, move |t| t.renew(epoch, at)).await?;
            }
            let batch = self.read(std::mem::take(&mut arrived));
            self.listen();
            self.decide(batch).await?;
        }
    }

    fn wake_ms(&self) -> u64 {
        let tick_ms = self.renewed_ms + TICK_MS;
        let Some(at) = self.core.next_wakeup() else { return tick_ms };
        let in_ms = u64::try_from(berth_common::time::ms_between(self.process.now(), at)).unwrap_or(0);
        tick_ms.min(self.process.w.exec.now_ms() + in_ms + 1)
    }

    fn read(&mut self, deliveries: Vec<Delivery>) -> Vec<(Delivery, Input)> {
        let mut inputs = Vec::new();
        for delivery in deliveries {
            match &*delivery.message.payload {
                Payload::Marker(number) => {
                    self.ear.came(*number);
                    delivery.ack(&self.process.w);
                }
                Payload::Request(request) => {
                    let input = request.read();
                    inputs.push((delivery, input));
                }
                Payload::Report(text) => {
                    let told = serde_json::from_str(text).expect("workers write what can be read");
                    inputs.push((delivery, Input::Device(told)));
                }
                Payload::Order(_) => delivery.ack(&self.process.w), // none comes this way
            }
        }
        inputs
    }

    fn listen(&mut self) {
        let (w, pid) = (&self.process.w, self.process.pid);
        let now_ms = w.exec.now_ms();
        if let Some(number) = self.ear.due(now_ms, w.chance.next()) {
            ear::send(w, pid, Rc::clone(&self.link), number);
        }
        self.core.set_hearing(self.ear.hears(now_ms), self.process.now());
    }

    /// One batch, whole: nobody hears of it before it is committed.
    async fn decide(&mut self, batch: Vec<(Delivery, Input)>) -> Result<(), StoreError> {
        let (w, pid, epoch) = (Rc::clone(&self.process.w), self.process.pid, self.epoch);
        let (deliveries, inputs): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let needs = self.core.needs(&inputs);
        let facts = match needs == Needs::default() {
            true => Facts::default(),
            false => call(&w, pid, move |t| Ok(t.facts(&needs))).await?,
        };
        let mut decisions = self.core.step(self.process.now(), inputs, facts);
        // Debug builds look in the step itself.
        if !cfg!(debug_assertions)
            && let Some(broken) = violations(&self.core).first()
        {
            w.auditor.borrow_mut().wrong(format!("the core's own check: {broken}"));
        }
        let published = self.outbox.take_published();
        if !decisions.rows.is_empty() || !published.is_empty() {
            let rows = decisions.rows.clone();
            for of in rows.new_commands.iter().chain(&rows.commands) {
                w.trace(|| format!("{pid:?} is about to commit {} {}: {}", of.command, of.id, of.status));
            }
            let world = Rc::clone(&w);
            call(&w, pid, move |t| {
                t.commit(epoch, rows.clone(), &published)?;
                world.auditor.borrow_mut().committed(&rows, world.exec.now_ms());
                Ok(())
            })
            .await?;
        }
        self.outbox.send(std::mem::take(&mut decisions.rows.outbox));
        w.point(pid, "after a commit, before the answers").await;
        answer(&w, pid, deliveries, decisions);
        Ok(())
    }
}

/// Tells whoever asked, then acknowledges.
fn answer(w: &Rc<World>, pid: Pid, deliveries: Vec<Delivery>, decisions: Decisions) {
    let mut replies = decisions.replies.into_iter().peekable();
    for (place, delivery) in deliveries.into_iter().enumerate() {
        let reply = replies.next_if(|(of, _)| *of == place).map(|(_, reply)| reply);
        let world = Rc::clone(w);
        w.exec.spawn(pid, async move {
            if let (Some(reply), Some(to)) = (reply, delivery.message.reply_to) {
                crate::clients::reply(&world, to, reply);
            }
            world.point(pid, "after an answer, before the acknowledgement").await;
            delivery.ack(&world);
        });
    }
}
