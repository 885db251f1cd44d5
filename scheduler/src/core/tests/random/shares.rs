//! The queues of a random world: rules that change while jobs run, what those have of a quota, and who may
//! wait though all else is over.

use std::collections::BTreeMap;

use berth_common::id::JobId;
use berth_common::job::Status;
use berth_common::message::AdminRequest;
use berth_common::queue::{ANY_TYPE, Placement, Policy, Queue};
use proptest::prelude::*;
use proptest::sample::select;

use super::world::World;
use crate::core::rows::JobRow;

/// In the first of them an admin approves every job, and its rules stay.
pub const QUEUES: [&str; 4] = ["careful", "default", "team", "strict"];

/// GPUs in use by queue and type (`*`: all), without those of preemptible jobs.
pub type Used = BTreeMap<(String, String), u64>;

pub fn first() -> [Queue; 3] {
    let quota = BTreeMap::from([(ANY_TYPE.to_owned(), 3), ("T4".to_owned(), 2)]);
    [
        Queue { approval: true, ..Queue::new("careful") },
        Queue { quota, weight: 3, ..Queue::new("team") },
        Queue { policy: Policy::Fifo, placement: Placement::Spread, ..Queue::new("strict") },
    ]
}

pub fn rules() -> impl Strategy<Value = Queue> {
    let caps = |most: u32, of| {
        let caps = prop_oneof![1 => Just(None), 1 => (0..most).prop_map(Some)];
        caps.prop_map(move |cap| cap.map(|cap| (String::from(of), cap)))
    };
    let orders = select(vec![Policy::ExpansionFactor, Policy::Fifo, Policy::FifoBackfill]);
    let placements = select(vec![Placement::Pack, Placement::Spread, Placement::Fgd]);
    let name = select(QUEUES[1..].to_vec());
    let user_quota = prop_oneof![3 => Just(None), 1 => caps(6, ANY_TYPE)];
    let limits = (select(vec![None, None, Some(900)]), prop_oneof![5 => Just(None), 1 => Just(Some(0))]);
    (name, orders, placements, 1..4u32, (caps(5, ANY_TYPE), caps(4, "T4")), user_quota, limits).prop_map(
        |(name, policy, placement, weight, (all, typed), user_quota, (default_timeout_s, max_jobs))| Queue {
            policy,
            placement,
            weight,
            quota: all.into_iter().chain(typed).collect(),
            user_quota: user_quota.into_iter().collect(),
            default_timeout_s,
            max_jobs,
            ..Queue::new(name)
        },
    )
}

pub fn set(world: &mut World, queue: Queue) {
    let queue = Box::new(queue);
    world.administer(if world.tables.queues.contains_key(&queue.name) {
        AdminRequest::ReplaceQueue { queue }
    } else {
        AdminRequest::CreateQueue { queue }
    });
}

/// Every queue takes and allows everything.
pub fn lift_all(world: &mut World) {
    let queues: Vec<Queue> = world.tables.queues.values().cloned().collect();
    for queue in queues {
        set(world, Queue { approval: queue.approval, ..Queue::new(queue.name) });
    }
}

pub fn used(world: &World) -> Used {
    let mut used = Used::new();
    for reservation in world.tables.reservations.values() {
        let spec = &world.tables.jobs[&reservation.job].spec;
        let kind = &world.tables.gpus[&reservation.gid].gpu.kind;
        for kind in [kind, ANY_TYPE].into_iter().filter(|_| !spec.preemptible) {
            *used.entry((spec.queue.clone(), kind.to_owned())).or_default() += 1;
        }
    }
    used
}

/// No queue has more than its quota, but for what it had when that was lowered.
pub fn audit(world: &World, before: &Used) -> Used {
    let used = used(world);
    for (place, now) in &used {
        let cap = world.tables.queues[&place.0].quota.get(&place.1).copied().map_or(u64::MAX, u64::from);
        let had = before.get(place).copied().unwrap_or_default();
        assert!(*now <= cap.max(had), "{place:?} has {now} GPUs, and may have {cap}");
    }
    used
}

/// While nothing runs: it needs more than its queue may have, or comes after such a one where nobody may pass.
pub fn is_left_out(world: &World, job: &JobRow) -> bool {
    let queue = &job.spec.queue;
    let mut others = world.tables.jobs.values().filter(|other| other.spec.queue == *queue);
    let blocked = world.tables.queues[queue].policy == Policy::Fifo
        && is(world, job.id, "ORDER", |ahead| ahead("ahead") > Some(0));
    is_capped(world, job.id) || (blocked && others.any(|other| is_capped(world, other.id)))
}

fn is_capped(world: &World, id: JobId) -> bool {
    world.status(id) == Status::Pending
        && is(world, id, "QUOTA", |of| of("used") == Some(0) && of("need") > of("cap"))
}

/// Whether that is why it waits, with such numbers.
fn is(world: &World, id: JobId, code: &str, numbers: impl Fn(&dyn Fn(&str) -> Option<u64>) -> bool) -> bool {
    let reasons = world.core.explain(&[id], world.now);
    let of = |name: &str| reasons.get(&id)?.reason.numbers.get(name)?.as_u64();
    reasons.get(&id).is_some_and(|waiting| waiting.reason.code == code) && numbers(&of)
}
