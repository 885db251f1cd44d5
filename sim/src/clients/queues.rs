//! The queues of a world, and what admins make of them meanwhile: quotas, weights, orders.
//!
//! Nobody changes limits to something that a job of the simulator could reach: when one has to end follows
//! from its own specification.

use std::collections::BTreeMap;

use berth_common::queue::{ANY_TYPE, DEFAULT_QUEUE, Placement, Policy, Queue};
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::host::KINDS;

/// The queue whose jobs an admin approves.
pub const CHECKED: &str = "checked";
/// One with a quota, which changes.
pub const CAPPED: &str = "capped";
/// One where first come is first served, at times with a quota.
pub const LINED: &str = "lined";

const DAY_S: u64 = 86_400;

/// Those that are there from the beginning.
pub fn queues(chance: &Chance) -> Vec<Queue> {
    vec![
        Queue { default_timeout_s: Some(7 * DAY_S), ..Queue::new(DEFAULT_QUEUE) },
        Queue { approval: true, ..Queue::new(CHECKED) },
        capped(chance),
        lined(chance),
    ]
}

/// A change of one, as whole as `PUT` wants it.
pub fn change(chance: &Chance) -> Value {
    let queue = if chance.one_in(4) { lined(chance) } else { capped(chance) };
    json!({ "do": "replace_queue", "queue": queue })
}

fn capped(chance: &Chance) -> Queue {
    let quota = match chance.one_in(8) {
        true => BTreeMap::new(),
        false => quota(chance),
    };
    Queue { quota, ..settings(chance, CAPPED) }
}

fn lined(chance: &Chance) -> Queue {
    let quota = match chance.one_in(3) {
        true => quota(chance),
        false => BTreeMap::new(),
    };
    Queue { policy: *chance.pick(&[Policy::Fifo, Policy::FifoBackfill]), quota, ..settings(chance, LINED) }
}

fn settings(chance: &Chance, name: &str) -> Queue {
    Queue {
        weight: u32::try_from(chance.skewed(1, 100)).unwrap_or(1),
        placement: *chance.pick(&[Placement::Pack, Placement::Pack, Placement::Spread, Placement::Fgd]),
        default_timeout_s: *chance.pick(&[None, Some(DAY_S), Some(7 * DAY_S)]),
        ..Queue::new(name)
    }
}

/// Of a type, of all together, or both.
fn quota(chance: &Chance) -> BTreeMap<String, u32> {
    let mut quota = BTreeMap::new();
    let gpus = || u32::try_from(chance.between(0, 4)).unwrap_or(0);
    if chance.one_in(3) {
        quota.insert((*chance.pick(&KINDS)).to_owned(), gpus());
    }
    if quota.is_empty() || chance.one_in(2) {
        quota.insert(ANY_TYPE.to_owned(), gpus().max(1));
    }
    quota
}
