//! Corners in which somebody could wait for ever, or be stopped for nothing.

use std::collections::BTreeMap;

use berth_policy::check::violations;
use berth_policy::demand::{Demand, Need};
use berth_policy::device::Inventory;
use berth_policy::queue::{ANY_TYPE, Rules};
use berth_policy::{Job, Policy, QueueKey, Settings, Time};

const MINUTE: Time = 60_000;
const HOUR: Time = 60 * MINUTE;

fn device(name: &str, kinds: &[(&str, usize)]) -> Inventory {
    Inventory {
        name: name.into(),
        gpus: kinds.iter().flat_map(|(kind, count)| vec![(*kind).to_owned(); *count]).collect(),
        cpu_milli: 640_000,
        memory_mb: 640_000,
        labels: BTreeMap::new(),
    }
}

fn job(queue: QueueKey, gpus: u16, replicas: u32, submitted: Time, limit: Time) -> Job {
    let demand = Demand { parts: vec![(Need::of_gpus(gpus), replicas)], labels: BTreeMap::new() };
    let (estimate, priority) = (limit, 100);
    Job { queue, demand, priority, submitted, estimate, limit, preemptible: false, group: None, avoid: None }
}

fn preemptible(job: Job) -> Job {
    Job { preemptible: true, ..job }
}

fn quota(gpus: u32) -> Rules {
    Rules { quota: [(ANY_TYPE.to_owned(), gpus)].into(), ..Rules::default() }
}

fn with(devices: &[(&str, usize)]) -> Policy<u32> {
    let mut policy = Policy::new(Settings::default());
    for (name, gpus) in devices {
        policy.add_device(device(name, &[("T4", *gpus)]));
    }
    policy
}

/// Plays passes five minutes apart until `is_over`; each started job ends after its time. The time then.
fn play(
    policy: &mut Policy<u32>,
    ends: &mut BTreeMap<u32, Time>,
    until: Time,
    mut come: impl FnMut(&mut Policy<u32>, Time),
    is_over: impl Fn(&Policy<u32>) -> bool,
    runs: Time,
) -> Time {
    let mut now = 0;
    while now < until && !is_over(policy) {
        now += 5 * MINUTE;
        come(policy, now);
        let over: Vec<u32> = ends.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for id in over {
            policy.finish(&id, now);
            ends.remove(&id);
        }
        ends.extend(policy.pass(now).starts.iter().map(|start| (start.id, now + runs)));
    }
    now
}

#[test]
fn no_more_are_stopped_than_a_quota_or_an_array_lets_start() {
    for (rules, group) in [(quota(1), None), (Rules::default(), Some((7, 1)))] {
        let mut policy = with(&[("a", 32)]);
        let (spare, queue) = (policy.set_queue("spare", Rules::default()), policy.set_queue("queue", rules));
        (0..32).for_each(|id| policy.submit(id, preemptible(job(spare, 1, 1, 0, 100 * HOUR))));
        assert_eq!(policy.pass(0).starts.len(), 32);
        (100..132).for_each(|id| policy.submit(id, Job { group, ..job(queue, 1, 1, HOUR, HOUR) }));
        assert_eq!(policy.pass(HOUR).preempted.len(), 1);
        assert_eq!(policy.pass(HOUR + MINUTE).preempted, Vec::<u32>::new(), "one is on its way");
    }
}

#[test]
fn nobody_is_stopped_for_a_job_that_would_delay_a_reservation() {
    let mut policy = with(&[("a", 8)]);
    let queue = policy.set_queue("queue", Rules::default());
    policy.submit(1, job(queue, 4, 1, 0, 10 * HOUR));
    policy.submit(2, preemptible(job(queue, 4, 1, 0, 30 * MINUTE)));
    assert_eq!(policy.pass(0).starts.len(), 2);
    policy.submit(3, Job { priority: 200, ..job(queue, 8, 1, 1, HOUR) });
    policy.submit(4, job(queue, 4, 1, 2, 24 * HOUR));
    for minute in [6, 12, 18] {
        assert_eq!(policy.pass(minute * MINUTE).preempted, Vec::<u32>::new());
    }
}

#[test]
fn nothing_is_kept_free_for_a_job_that_its_quota_does_not_let_start() {
    let mut policy = with(&[("a", 8)]);
    let (queue, other) = (policy.set_queue("queue", quota(8)), policy.set_queue("other", Rules::default()));
    policy.submit(1, job(other, 8, 1, 0, HOUR));
    policy.pass(0);
    policy.submit(2, job(queue, 8, 1, 0, HOUR));
    policy.pass(1);
    assert_eq!(policy.reserved().count(), 1);
    policy.set_queue("queue", quota(4));
    policy.finish(&1, 2);
    policy.submit(3, job(other, 8, 1, 0, 5 * HOUR));
    policy.pass(3);
    assert!(policy.is_running(&3));
    assert_eq!(violations(&policy), Vec::<String>::new());
}

#[test]
fn small_jobs_of_a_queue_do_not_keep_a_large_one_from_its_quota_for_ever() {
    let mut policy = with(&[("a", 8), ("b", 8), ("c", 8)]);
    let queue = policy.set_queue("queue", quota(8));
    policy.submit(1, job(queue, 1, 1, 0, HOUR));
    policy.submit(2, Job { priority: 200, ..job(queue, 8, 1, 1, HOUR) });
    let mut next = 10;
    let come = |policy: &mut Policy<u32>, now| {
        next += 1;
        policy.submit(next, job(queue, 1, 1, now, HOUR));
    };
    let mut ends = BTreeMap::new();
    let at = play(&mut policy, &mut ends, 100 * HOUR, come, |policy| policy.is_running(&2), 20 * MINUTE);
    assert!(at < 25 * HOUR, "{} h", at / HOUR);
}

#[test]
fn a_priority_for_which_nothing_can_be_kept_free_takes_no_promise() {
    let mut policy = with(&[("a", 8)]);
    let closed = policy.add_device(device("closed", &[("T4", 16)]));
    let queue = policy.set_queue("queue", Rules::default());
    policy.set_open(closed, false);
    policy.submit(1, job(queue, 8, 1, 0, 2 * HOUR));
    policy.pass(0);
    policy.submit(3, Job { priority: 200, ..job(queue, 16, 1, 1, HOUR) });
    policy.submit(4, job(queue, 8, 1, 1, 50 * HOUR));
    policy.pass(2);
    policy.pass(MINUTE);
    let promise = policy.promise(&4).expect("it is the first that can be served");
    assert_eq!((promise.last, promise.void), (2 * HOUR, false));
}

#[test]
fn a_quota_counts_only_the_types_that_a_job_can_get() {
    let mut policy = Policy::<u32>::new(Settings::default());
    let quota = [("A100".to_owned(), 0)].into();
    let queue = policy.set_queue("queue", Rules { quota, ..Rules::default() });
    policy.add_device(device("mixed", &[("A100", 4), ("H100", 4)]));
    let mut wish = job(queue, 1, 1, 0, HOUR);
    wish.demand.parts[0].0.types = vec!["H100".into()];
    policy.submit(1, wish);
    assert_eq!(policy.pass(0).starts.len(), 1);
}

#[test]
fn a_gang_leaves_out_the_device_that_it_is_to_avoid() {
    let mut policy = with(&[("b", 8), ("c", 8)]);
    let avoided = policy.add_device(device("a", &[("T4", 8)]));
    let queue = policy.set_queue("queue", Rules::default());
    policy.submit(1, Job { avoid: Some(avoided), ..job(queue, 8, 2, 0, HOUR) });
    assert!(policy.pass(0).starts[0].places.iter().all(|(device, _)| *device != avoided));
    policy.submit(2, Job { avoid: Some(avoided), ..job(queue, 8, 1, 0, HOUR) });
    assert_eq!(policy.pass(1).starts.len(), 1, "where nothing else will do, it will");
}

#[test]
fn a_promise_that_a_slow_start_breaks_is_made_anew() {
    let mut policy = with(&[("a", 8)]);
    let queue = policy.set_queue("queue", Rules::default());
    policy.submit(1, job(queue, 8, 1, 0, HOUR));
    policy.pass(0);
    policy.submit(2, job(queue, 8, 1, 0, HOUR));
    policy.pass(1);
    policy.has_begun(&1, 30 * MINUTE);
    policy.pass(31 * MINUTE);
    let promise = policy.promise(&2).expect("it is kept free for it");
    assert_eq!((promise.last, promise.void), (90 * MINUTE, true));
}

#[test]
fn it_is_told_when_somebody_may_be_stopped() {
    let mut policy = with(&[("a", 8)]);
    let queue = policy.set_queue("queue", Rules::default());
    policy.submit(1, preemptible(job(queue, 8, 1, 0, 10 * HOUR)));
    policy.pass(0);
    policy.submit(2, job(queue, 8, 1, 1, HOUR));
    let pass = policy.pass(MINUTE);
    assert_eq!((pass.preempted, pass.again_at), (Vec::new(), Some(5 * MINUTE)));
    assert_eq!(policy.pass(5 * MINUTE).preempted, [1]);
}
