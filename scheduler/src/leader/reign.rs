//! The loop of a leader, from the load to the end.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use berth_common::broker::{Declare, Delivery, Subscription, topology};
use berth_common::database::Session;
use berth_common::id::CELL;
use berth_common::time::{ms_between, now};
use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::batch::Batch;
use super::ear::{self, Ear};
use super::refusals::Refusals;
use super::{Ended, Leader};
use crate::broker::outbox::Outbox;
use crate::core::Core;
use crate::health::Leading;
use crate::store::{Lead, StoreError, renew_lease};

/// Messages decided together. Larger batches gain nothing and make everybody wait longer.
const BATCH: usize = 500;
/// Messages in hand without an acknowledgement, per queue: enough for the batch that is decided and
/// the next one.
const PREFETCH: u16 = 1000;
/// A leader that freezes gives back within ten seconds what it had in hand: its successor waits for it.
const HEARTBEAT_S: u16 = 4;
/// How often the lease is renewed, and the time's own effects are looked for.
const TICK: Duration = Duration::from_secs(1);

/// Bytes of messages that are decided together: each of them is held several times until it is
/// committed.
const BATCH_BYTES: usize = 16 << 20;

/// The leader's memory, and its way to the database and to the devices.
pub(super) struct Reign {
    pub core: Core,
    pub lead: Lead,
    pub outbox: Outbox,
    pub ear: Ear,
    pub refusals: Refusals,
    pub clock: Clock,
    renewed: Instant,
}

/// The time that is told to the core. It never goes back and never jumps: a clock that somebody sets
/// during a reign counts from the next one on.
pub(super) struct Clock {
    began_at: Timestamp,
    began: Instant,
}

impl Clock {
    /// Begins at the time of the lease, which is later than anything that a leader before wrote.
    fn of(lead: &Lead) -> Self {
        Self { began_at: now().max(lead.taken_at()), began: Instant::now() }
    }

    fn present(&self) -> Timestamp {
        let elapsed_us = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.began_at.saturating_add(jiff::SignedDuration::from_micros(elapsed_us)).unwrap_or(Timestamp::MAX)
    }
}

/// Leads until the program stops (`Ok`) or something is in doubt.
pub(super) async fn reign(leader: &Leader, mut lead: Lead) -> Result<(), Ended> {
    leader.health.set_leading(Leading::Loading);
    let began = Instant::now();
    let clock = Clock::of(&lead);
    let (core, loaded) = load(leader, &mut lead, &clock).await?;
    let outbox = Outbox::start(&leader.broker, leader.publisher.clone());
    tracing::info!(
        epoch = lead.epoch(),
        jobs = core.job_count(),
        outbox = loaded.len(),
        load_ms = began.elapsed().as_millis(),
        "this scheduler leads"
    );
    outbox.send(loaded);
    leader.health.set_leading(Leading::Leader { epoch: lead.epoch() });
    let mut reign = Reign {
        core,
        lead,
        outbox,
        ear: Ear::new(),
        refusals: Refusals::default(),
        clock,
        renewed: Instant::now(),
    };
    let ended = reign.run(leader).await;
    leader.metrics.forget();
    match ended {
        Ok(()) => {
            let at = reign.present();
            Ok(reign.lead.release(at).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// The state, and the messages that may not have gone out.
pub(super) async fn load(
    leader: &Leader,
    lead: &mut Lead,
    clock: &Clock,
) -> Result<(Core, Vec<crate::core::rows::OutboxRow>), StoreError> {
    let epoch = lead.epoch();
    let mut snapshot = tokio::select! {
        snapshot = lead.load() => snapshot?,
        error = stay_leader(leader, epoch, clock) => return Err(error),
    };
    let outbox = std::mem::take(&mut snapshot.outbox);
    Ok((Core::load(snapshot, leader.limits, clock.present()), outbox))
}

/// Renews the lease beside a load, on a connection of its own: one statement of the load may take
/// longer than the lease lasts. Ends with what made it impossible.
async fn stay_leader(leader: &Leader, epoch: i64, clock: &Clock) -> StoreError {
    // Most loads have ended by then.
    tokio::time::sleep(TICK).await;
    let renew = async {
        let connected = leader.database.connect(Session::Ordinary, &leader.tasks).await;
        let connected = connected.map_err(|error| StoreError::Unknown { text: error.to_string() })?;
        loop {
            renew_lease(&connected, CELL, epoch, clock.present()).await?;
            tokio::time::sleep(TICK).await;
        }
    };
    let ended: Result<Infallible, StoreError> = renew.await;
    match ended {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

fn subscriptions() -> Vec<Subscription> {
    let questions = topology::reply_queue("leader", Uuid::new_v4());
    vec![
        Subscription {
            queue: topology::requests_queue(CELL),
            declare: Declare::Topology { cell: CELL },
            prefetch: PREFETCH,
        },
        Subscription { queue: topology::events_queue(CELL), declare: Declare::Existing, prefetch: PREFETCH },
        Subscription {
            queue: questions,
            declare: Declare::Exclusive {
                exchange: topology::RPC,
                routing_key: topology::leader_rpc_key(CELL),
            },
            prefetch: PREFETCH,
        },
    ]
}

impl Reign {
    async fn run(&mut self, leader: &Leader) -> Result<(), StoreError> {
        let mut inbox = leader.broker.with_heartbeat(HEARTBEAT_S).subscribe(subscriptions());
        let mut deliveries: VecDeque<Delivery> = VecDeque::with_capacity(BATCH);
        let mut arrived = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                () = leader.stop.cancelled() => return Ok(()),
                n = inbox.deliveries.recv_many(&mut arrived, BATCH) => if n == 0 { return Ok(()) },
                () = tokio::time::sleep_until((self.renewed + TICK).min(self.next_wakeup())) => {}
            }
            deliveries.extend(arrived.drain(..));
            loop {
                self.renew_when_due().await?;
                let batch = Batch::read(leader, &mut self.ear, next_batch(&mut deliveries));
                self.listen(leader);
                batch.decide(leader, self).await?;
                if deliveries.is_empty() {
                    break;
                }
            }
            leader.metrics.show(&self.core, self.outbox.len());
        }
    }

    /// Shows the standbys that the leader lives; also to be called between the parts of long work.
    pub(super) async fn renew_when_due(&mut self) -> Result<(), StoreError> {
        if self.renewed.elapsed() < TICK {
            return Ok(());
        }
        self.renewed = Instant::now();
        let at = self.present();
        self.lead.renew(at).await
    }

    /// Tells the core whether devices can be heard.
    fn listen(&mut self, leader: &Leader) {
        let at = Instant::now();
        if let Some(number) = self.ear.due(at) {
            leader.tasks.spawn(ear::send(leader.publisher.clone(), number));
        }
        let (hears, now) = (self.ear.hears(at), self.present());
        self.core.set_hearing(hears, now);
    }

    /// The present: it only goes on.
    pub(super) fn present(&self) -> Timestamp {
        self.clock.present()
    }

    fn next_wakeup(&self) -> Instant {
        let far = Instant::now() + TICK;
        let Some(at) = self.core.next_wakeup() else { return far };
        let ms = u64::try_from(ms_between(self.present(), at)).unwrap_or(0);
        far.min(Instant::now() + Duration::from_millis(ms + 1))
    }
}

/// From the front, in their order.
fn next_batch(deliveries: &mut VecDeque<Delivery>) -> Vec<Delivery> {
    let mut bytes = 0;
    let fits = deliveries.iter().take_while(|delivery| {
        bytes += delivery.body.len();
        bytes <= BATCH_BYTES
    });
    // One that is larger than that goes alone.
    let n = fits.count().max(1).min(deliveries.len());
    deliveries.drain(..n).collect()
}
