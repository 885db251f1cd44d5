//! The loop of a leader, from the load to the end.

use std::time::Duration;

use berth_common::broker::{Declare, Delivery, Subscription, topology};
use berth_common::id::CELL;
use berth_common::time::{ms_between, now, plus_ms};
use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::batch::Batch;
use super::{Ended, Leader};
use crate::broker::outbox::Outbox;
use crate::core::Core;
use crate::health::Leading;
use crate::store::{Lead, StoreError};

/// Messages decided together. Larger batches gain nothing and make everybody wait longer.
const BATCH: usize = 500;
/// Messages in hand without an acknowledgement, per queue: enough for the batch that is decided and
/// the next one.
const PREFETCH: u16 = 1000;
/// How often the lease is renewed, and the time's own effects are looked for.
const TICK: Duration = Duration::from_secs(1);

/// The leader's memory, and its way to the database and to the devices.
pub(super) struct Reign {
    pub core: Core,
    pub lead: Lead,
    pub outbox: Outbox,
    /// The last time that was told to the core: it never goes back.
    now: Timestamp,
}

/// Leads until the program stops (`Ok`) or something is in doubt.
pub(super) async fn reign(leader: &Leader, mut lead: Lead) -> Result<(), Ended> {
    leader.health.set_leading(Leading::Loading);
    let began = Instant::now();
    let (core, loaded) = load(leader, &mut lead).await?;
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
    let mut reign = Reign { core, lead, outbox, now: now() };
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
) -> Result<(Core, Vec<crate::core::rows::OutboxRow>), StoreError> {
    let mut snapshot = lead.load().await?;
    let outbox = std::mem::take(&mut snapshot.outbox);
    Ok((Core::load(snapshot, leader.limits, now()), outbox))
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
        let mut inbox = leader.broker.subscribe(subscriptions());
        let mut renewed = Instant::now();
        let mut deliveries: Vec<Delivery> = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                () = leader.stop.cancelled() => return Ok(()),
                n = inbox.deliveries.recv_many(&mut deliveries, BATCH) => if n == 0 { return Ok(()) },
                () = tokio::time::sleep_until((renewed + TICK).min(self.next_wakeup())) => {}
            }
            if renewed.elapsed() >= TICK {
                renewed = Instant::now();
                let at = self.present();
                self.lead.renew(at).await?;
            }
            Batch::read(leader, std::mem::take(&mut deliveries)).decide(leader, self).await?;
            leader.metrics.show(&self.core, self.outbox.len());
        }
    }

    /// The present, later than whatever was said before.
    pub(super) fn present(&mut self) -> Timestamp {
        self.now = now().max(plus_ms(self.now, 0));
        self.now
    }

    fn next_wakeup(&self) -> Instant {
        let far = Instant::now() + TICK;
        let Some(at) = self.core.next_wakeup() else { return far };
        let ms = u64::try_from(ms_between(now(), at)).unwrap_or(0);
        far.min(Instant::now() + Duration::from_millis(ms + 1))
    }
}
