//! What runs and was not started by a pass, what ends bit by bit, and passes that are cut short.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_policy::check::violations;
use berth_policy::cluster::DeviceKey;
use berth_policy::demand::{Demand, Need, WHOLE};
use berth_policy::device::{Held, Inventory};
use berth_policy::links::Links;
use berth_policy::queue::{Order, Rules};
use berth_policy::why::Why;
use berth_policy::{Job, Policy, QueueKey, Settings, Time};

fn device(name: &str, gpus: usize) -> Inventory {
    Inventory {
        name: name.into(),
        gpus: vec!["T4".into(); gpus],
        cpu_milli: 64_000,
        memory_mb: 64_000,
        labels: BTreeMap::new(),
    }
}

fn job(queue: QueueKey, gpus: u16, replicas: u32, submitted: Time, limit: Time) -> Job {
    let demand = Demand { parts: vec![(Need::of_gpus(gpus), replicas)], labels: BTreeMap::new() };
    let (estimate, priority) = (limit, 100);
    Job { queue, demand, priority, submitted, estimate, limit, preemptible: false, group: None, avoid: None }
}

fn held(gpus: u64) -> Held {
    Held { gpus, share: WHOLE, cpu_milli: 0, memory_mb: 0, ends: 0, preemptible: false }
}

fn one_host() -> (Policy<u32>, QueueKey, DeviceKey) {
    let mut policy = Policy::new(Settings::default());
    let queue = policy.set_queue("default", Rules::default());
    let host = policy.add_device(device("host", 4));
    (policy, queue, host)
}

#[test]
fn what_is_adopted_has_its_gpus_until_it_ends_and_its_limit_counts_from_its_start() {
    let (mut policy, queue, host) = one_host();
    policy.adopt(1, job(queue, 2, 1, 0, 1000), 500, [(host, held(0b0110))]);
    policy.submit(2, job(queue, 4, 1, 600, 1000));
    assert!(policy.pass(700).starts.is_empty());
    assert_eq!(policy.promise(&2).map(|promise| promise.first), Some(1500));
    policy.submit(3, job(queue, 2, 1, 700, 100));
    let started = policy.pass(800).starts;
    assert_eq!(started.len(), 1);
    assert_eq!(started[0].places[0].1.gpus, 0b1001);
    policy.finish(&3, 850);
    policy.has_begun(&1, 550);
    policy.finish(&1, 900);
    assert_eq!(policy.pass(900).starts[0].id, 2);
}

#[test]
fn a_gang_gives_back_what_each_of_its_containers_had() {
    let (mut policy, queue, host) = one_host();
    policy.submit(1, job(queue, 2, 2, 0, 1000));
    let started = policy.pass(0).starts;
    policy.submit(2, job(queue, 2, 1, 0, 1000));
    assert!(policy.pass(1).starts.is_empty());
    policy.release(&1, host, started[0].places[1].1.gpus, 1);
    let next = policy.pass(2).starts;
    assert_eq!(next[0].places[0].1.gpus, started[0].places[1].1.gpus);
    assert!(policy.is_running(&1));
    assert_eq!(violations(&policy), Vec::<String>::new());
    policy.finish(&1, 3);
    assert_eq!(policy.cluster().device(host).free().gpus, started[0].places[0].1.gpus);
}

#[test]
fn the_use_of_a_queue_goes_on_where_it_was() {
    let (mut policy, queue, host) = one_host();
    let mut after = policy.clone();
    policy.submit(1, job(queue, 2, 1, 0, 1_000_000));
    policy.pass(0);
    after.set_usage(queue, policy.usage(queue, 500_000), 500_000);
    after.adopt(1, job(queue, 2, 1, 0, 1_000_000), 0, [(host, held(0b11))]);
    let (before, after) = (policy.usage(queue, 900_000), after.usage(queue, 900_000));
    assert!((before - after).abs() < 1.0, "{before} {after}");
}

#[test]
fn a_pass_ends_where_nobody_takes_more_and_the_next_goes_on() {
    let (mut policy, queue, _) = one_host();
    (1..=4).for_each(|id| policy.submit(id, job(queue, 1, 1, 0, 1000)));
    let mut room = 3;
    let first = policy.pass_while(0, |_| {
        room -= 1;
        room > 0
    });
    assert_eq!((first.starts.len(), first.cut_short), (3, true));
    let second = policy.pass(0);
    assert_eq!((second.starts.len(), second.cut_short), (1, false));
}

#[test]
fn gpus_that_are_linked_are_given_together() {
    let (mut policy, queue, host) = one_host();
    // 0 and 2, and 1 and 3, are linked.
    let scores = [[0, 1, 9, 1], [1, 0, 1, 9], [9, 1, 0, 1], [1, 9, 1, 0]];
    policy.set_links(host, Arc::new(Links::new(&scores.map(|row| row.to_vec()))));
    (1..=2).for_each(|id| policy.submit(id, job(queue, 2, 1, 0, 1000)));
    let started = policy.pass(0).starts;
    assert_eq!(started.iter().map(|start| start.places[0].1.gpus).collect::<Vec<_>>(), [0b0101, 0b1010]);
}

#[test]
fn a_device_that_has_more_than_before_keeps_what_runs_there() {
    let (mut policy, queue, mut host) = one_host();
    policy.submit(1, job(queue, 3, 1, 0, 1000));
    policy.submit(2, job(queue, 4, 1, 0, 1000));
    assert_eq!(policy.pass(0).starts[0].places[0].1.gpus, 0b111);
    // One GPU more, which is the first now.
    let before = std::mem::replace(&mut host, policy.add_device(device("host", 5)));
    policy.release(&1, before, 0b111, 1);
    policy.hold(&1, host, held(0b1110), 1);
    policy.remove_device(before);
    assert_eq!(policy.cluster().device(host).free().gpus, 0b1_0001);
    assert!(policy.pass(1).starts.is_empty());
    policy.finish(&1, 2);
    assert_eq!(policy.pass(2).starts[0].places[0], (host, Held { ends: 1002, ..held(0b1111) }));
}

#[test]
fn what_is_kept_free_goes_to_a_larger_priority_of_the_same_queue() {
    let (mut policy, queue, host) = one_host();
    let other = policy.set_queue("other", Rules::default());
    policy.adopt(1, job(queue, 4, 1, 0, 1000), 0, [(host, held(0b1111))]);
    policy.submit(2, job(queue, 4, 1, 10, 1000));
    policy.pass(10);
    assert_eq!(policy.promise(&2).map(|promise| promise.void), Some(false));
    policy.submit(3, Job { priority: 150, ..job(other, 4, 1, 20, 1000) });
    policy.pass(20);
    assert_eq!(policy.promise(&2).map(|promise| promise.void), Some(false), "priority orders inside a queue");
    policy.submit(4, Job { priority: 150, ..job(queue, 4, 1, 30, 1000) });
    policy.pass(30);
    assert_eq!(policy.promise(&2).map(|promise| promise.void), Some(true));
    policy.finish(&1, 500);
    assert_eq!(policy.pass(500).starts[0].id, 4);
}

const MINUTE: Time = 60_000;

fn preemptible(job: Job) -> Job {
    Job { preemptible: true, ..job }
}

fn starts(policy: &mut Policy<u32>, now: Time) -> Vec<u32> {
    policy.pass(now).starts.iter().map(|start| start.id).collect()
}

/// One host full of preemptible jobs of one GPU each, which may be stopped. Of unlike limits: what is reserved begins
/// when the last one ends, and the ends of the others are long before.
fn full_host(rules: Rules) -> (Policy<u32>, QueueKey) {
    let mut policy = Policy::new(Settings::default());
    let queue = policy.set_queue("default", rules);
    policy.add_device(device("host", 4));
    (1..=4).for_each(|id| policy.submit(id, small(queue, id)));
    assert_eq!(starts(&mut policy, 0).len(), 4);
    (policy, queue)
}

fn small(queue: QueueKey, id: u32) -> Job {
    preemptible(job(queue, 1, 1, 0, Time::from(id) * 100 * MINUTE))
}

fn large(queue: QueueKey, replicas: u32) -> Job {
    job(queue, 4, replicas, 5 * MINUTE, 600 * MINUTE)
}

#[test]
fn what_the_first_of_several_has_left_is_not_given_to_those_that_could_be_stopped_for_it_again() {
    for replicas in [1, 2] {
        let (mut policy, queue) = full_host(Rules::default());
        policy.add_device(device("other", 4));
        (5..=8).for_each(|id| policy.submit(id, small(queue, id)));
        assert_eq!(starts(&mut policy, 0).len(), 4);
        policy.submit(100, large(queue, replicas));
        let going = policy.pass(6 * MINUTE).preempted;
        assert_eq!(going.len(), 4 * replicas as usize);
        for (second, id) in (1..).zip(&going) {
            let now = 6 * MINUTE + second * 1000;
            policy.finish(id, now);
            policy.submit(*id, small(queue, *id));
            // And one that comes only now.
            policy.submit(200 + id, preemptible(job(queue, 1, 1, now, MINUTE)));
            let is_last = Some(id) == going.last();
            let started = starts(&mut policy, now);
            assert_eq!(started, if is_last { vec![100] } else { Vec::new() }, "{replicas} after {id}");
            let why = policy.why(&(200 + id), now);
            assert!(is_last || matches!(why, Some(Why::Order { ahead: 1.. })), "{why:?}");
        }
        assert_eq!(violations(&policy), Vec::<String>::new());
    }
}

#[test]
fn room_that_is_being_made_closes_no_other_device_and_nobody_is_told_so() {
    let (mut policy, queue) = full_host(Rules::default());
    policy.submit(100, large(queue, 1));
    let going = policy.pass(6 * MINUTE).preempted;
    policy.finish(&going[0], 6 * MINUTE);
    policy.submit(10, preemptible(job(queue, 2, 1, 0, MINUTE)));
    assert!(starts(&mut policy, 6 * MINUTE).is_empty());
    let why = policy.why(&10, 6 * MINUTE);
    assert!(matches!(why, Some(Why::Capacity { .. })), "it would not fit there either: {why:?}");
    policy.add_device(device("other", 2));
    assert_eq!(starts(&mut policy, 6 * MINUTE), [10]);
}

#[test]
fn room_that_nobody_needs_any_more_is_for_all() {
    let (mut policy, queue) = full_host(Rules::default());
    policy.submit(100, large(queue, 1));
    let going = policy.pass(6 * MINUTE).preempted;
    assert_eq!(going.len(), 4);
    policy.finish(&going[0], 6 * MINUTE);
    policy.submit(going[0], small(queue, going[0]));
    assert!(starts(&mut policy, 6 * MINUTE).is_empty());
    policy.withdraw(&100);
    assert_eq!(starts(&mut policy, 7 * MINUTE), [going[0]]);
}

#[test]
fn whoever_leaves_for_another_reason_is_waited_for_too() {
    let (mut policy, queue) = full_host(Rules::default());
    policy.leaves(&4);
    policy.submit(100, large(queue, 1));
    assert_eq!(policy.pass(6 * MINUTE).preempted, [1, 2, 3]);
    for id in 1..=3 {
        policy.finish(&id, 6 * MINUTE);
        policy.submit(id, small(queue, id));
        assert!(starts(&mut policy, 6 * MINUTE).is_empty());
    }
    policy.finish(&4, 7 * MINUTE);
    assert_eq!(starts(&mut policy, 7 * MINUTE), [100]);
}

#[test]
fn room_is_made_for_the_first_of_a_queue_that_nobody_may_pass() {
    let (mut policy, queue) = full_host(Rules { order: Order::Fifo, ..Rules::default() });
    policy.submit(100, large(queue, 1));
    policy.submit(101, job(queue, 1, 1, 6 * MINUTE, MINUTE));
    assert_eq!(policy.pass(6 * MINUTE).preempted.len(), 4);
}
