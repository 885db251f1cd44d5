//! Workers that are refused: the log says it once, however often they come again.

use std::collections::HashSet;

use berth_common::broker::{Delivery, topology};
use berth_common::id::CELL;

/// Refusals that are remembered as told; beyond it they are told anew.
const MAX_TOLD: usize = 1000;

/// What was told, by routing key and reason.
#[derive(Debug, Default)]
pub(super) struct Refusals(HashSet<(String, String)>);

impl Refusals {
    pub fn tell(&mut self, delivery: &Delivery, reason: String) {
        if self.0.len() >= MAX_TOLD {
            self.0.clear();
        }
        let told = (delivery.routing_key.clone(), reason);
        if !self.0.contains(&told) {
            tracing::warn!(routing_key = told.0, reason = told.1, "a worker is refused");
            self.0.insert(told);
        }
    }
}

/// Whether a delivery is a worker's report.
pub(super) fn is_report(delivery: &Delivery) -> bool {
    delivery.queue == topology::events_queue(CELL)
}

/// Where its answer goes: exchange and routing key. A worker is reached by its own queue's name, since
/// its account may bind nothing; what names another's queue goes nowhere.
pub(super) fn address(delivery: &Delivery) -> Option<(&'static str, &str)> {
    let to = delivery.reply_to.as_deref()?;
    if !is_report(delivery) {
        return Some((topology::REPLIES, to));
    }
    let (device, _) = delivery.routing_key.rsplit_once('.')?;
    topology::is_reply_queue_of(device, to).then_some((topology::BY_QUEUE, to))
}
