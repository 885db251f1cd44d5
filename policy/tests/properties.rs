//! What the policy promises, in random worlds: nothing overbooked, quotas kept, reasons true, promises kept,
//! nobody starves, and the same answer whatever the order of what happens at one moment.

use std::collections::{BTreeMap, BTreeSet};

use berth_policy::check::violations;
use berth_policy::cluster::DeviceKey;
use berth_policy::demand::{Demand, Need, WHOLE};
use berth_policy::device::{Device, Inventory};
use berth_policy::queue::{ANY_TYPE, Order, Placement, Rules};
use berth_policy::why::Why;
use berth_policy::{Job, Policy, QueueKey, Settings, Time};
use proptest::prelude::*;

const MINUTE: Time = 60_000;

#[derive(Debug, Clone)]
struct Host {
    gpus: usize,
    kind: &'static str,
    cpus: i64,
}

#[derive(Debug, Clone)]
struct Wish {
    at: Time,
    /// Of its limit, in hundredths: limits hold.
    runs_percent: i64,
    job: Job,
}

fn host() -> impl Strategy<Value = Host> {
    (1_usize..=8, prop_oneof![Just("A100"), Just("T4")], 4_i64..=32).prop_map(|(gpus, kind, cpus)| Host {
        gpus,
        kind,
        cpus,
    })
}

fn need() -> impl Strategy<Value = Need> {
    let types = prop_oneof![3 => Just(Vec::new()), 1 => Just(vec!["A100".to_owned()]), 1 => Just(vec!["T4".to_owned()])];
    (prop_oneof![6 => 1_u16..=2, 2 => 3_u16..=8, 1 => Just(0)], types, 0_i64..=6).prop_map(
        |(gpus, types, cpus)| Need { gpus, share: WHOLE, types, cpu_milli: cpus * 1000, memory_mb: 0 },
    )
}

fn wish(queues: u16) -> impl Strategy<Value = Wish> {
    let demand = (need(), prop_oneof![5 => Just(1_u32), 1 => 2_u32..=3])
        .prop_map(|(need, times)| Demand { parts: vec![(need, times)], labels: BTreeMap::new() });
    let limit = prop_oneof![1_i64..60, 60_i64..3000].prop_map(|minutes| minutes * MINUTE);
    let job =
        (0..queues, demand, prop_oneof![8 => Just(100), 1 => Just(150)], limit, prop::bool::weighted(0.15));
    (0_i64..2000, 20_i64..=100, job).prop_map(
        |(at, runs_percent, (queue, demand, priority, limit, preemptible))| {
            let at = at * MINUTE;
            let queue = QueueKey(queue);
            let (estimate, group, avoid) = (limit, None, None);
            let job =
                Job { queue, demand, priority, submitted: at, estimate, limit, preemptible, group, avoid };
            Wish { at, runs_percent, job }
        },
    )
}

fn rules() -> impl Strategy<Value = Rules> {
    let order =
        prop_oneof![3 => Just(Order::Expansion), 1 => Just(Order::Fifo), 1 => Just(Order::FifoBackfill)];
    let placement =
        prop_oneof![3 => Just(Placement::Pack), 1 => Just(Placement::Spread), 1 => Just(Placement::Fgd)];
    let quota = prop_oneof![3 => Just(None), 1 => (2_u32..12).prop_map(Some)];
    (order, placement, 1_u32..4, quota).prop_map(|(order, placement, weight, quota)| Rules {
        order,
        placement,
        weight,
        quota: quota.map(|cap| (ANY_TYPE.to_owned(), cap)).into_iter().collect(),
    })
}

/// A cluster that is played until nothing waits and nothing runs.
struct World {
    policy: Policy<u64>,
    ends: BTreeSet<(Time, u64)>,
    rules: Vec<Rules>,
    /// When each started, and where.
    started: BTreeMap<u64, (Time, Vec<DeviceKey>)>,
    leaving: BTreeSet<u64>,
}

impl World {
    fn new(hosts: &[Host], rules: &[Rules]) -> Self {
        let mut policy = Policy::new(Settings::default());
        for (place, rules) in rules.iter().enumerate() {
            policy.set_queue(&format!("queue-{place}"), rules.clone());
        }
        for (place, host) in hosts.iter().enumerate() {
            policy.add_device(Inventory {
                name: format!("host-{place}"),
                gpus: vec![host.kind.to_owned(); host.gpus],
                cpu_milli: host.cpus * 1000,
                memory_mb: 1000,
                labels: BTreeMap::new(),
            });
        }
        let (ends, started) = (BTreeSet::new(), BTreeMap::new());
        Self { policy, ends, rules: rules.to_vec(), started, leaving: BTreeSet::new() }
    }

    /// Whether it could run by its queue's quota at all.
    fn takes(&self, job: &Job) -> bool {
        let quota = self.rules[usize::from(job.queue.0)].quota.get(ANY_TYPE);
        let gpus = job.demand.gpu_milli() / 1000;
        self.policy.can_ever_run(&job.demand)
            && (job.preemptible || quota.is_none_or(|cap| gpus <= u64::from(*cap)))
    }

    fn play(&mut self, wishes: &[Wish], look: impl Fn(&Self, &BTreeSet<u64>, Time)) {
        let mut coming: Vec<(u64, &Wish)> =
            (0..).zip(wishes).filter(|(_, wish)| self.takes(&wish.job)).collect();
        coming.sort_by_key(|(_, wish)| wish.at);
        let mut coming = coming.into_iter().peekable();
        let mut waiting = BTreeSet::new();
        loop {
            let next_end = self.ends.first().map(|(at, _)| *at);
            let next = next_end.into_iter().chain(coming.peek().map(|(_, wish)| wish.at)).min();
            let Some(now) = next else { break };
            while let Some((at, id)) = self.ends.first().copied().filter(|(at, _)| *at <= now) {
                self.ends.remove(&(at, id));
                self.policy.finish(&id, now);
                // A preempted one waits again, at its old place.
                if self.leaving.remove(&id) {
                    self.policy.submit(id, wishes[usize::try_from(id).expect("an index")].job.clone());
                    waiting.insert(id);
                }
            }
            while let Some((id, wish)) = coming.next_if(|(_, wish)| wish.at == now) {
                self.policy.submit(id, wish.job.clone());
                waiting.insert(id);
            }
            let pass = self.policy.pass(now);
            for start in pass.starts {
                let wish = &wishes[usize::try_from(start.id).expect("an index")];
                assert!(waiting.remove(&start.id), "{} started and did not wait", start.id);
                self.ends.insert((now + (wish.job.limit * wish.runs_percent / 100).max(1), start.id));
                self.started
                    .insert(start.id, (now, start.places.iter().map(|(device, _)| *device).collect()));
            }
            // They do not all go at the same time.
            for (id, grace) in pass.preempted.into_iter().zip([0, 10_000, 1].into_iter().cycle()) {
                self.ends.retain(|(_, of)| *of != id);
                self.ends.insert((now + grace, id));
                self.leaving.insert(id);
            }
            look(self, &waiting, now);
        }
        assert!(waiting.is_empty(), "they wait for ever: {waiting:?}");
    }

    fn fits_somewhere(&self, demand: &Demand) -> bool {
        let (need, times) = &demand.parts[0];
        let mut room: BTreeMap<Vec<&str>, u32> = BTreeMap::new();
        for (_, device) in self.policy.cluster().devices() {
            *room.entry(device.kinds().collect()).or_default() +=
                device.room(need, device.free()).min(*times);
        }
        room.values().any(|room| room >= times)
    }
}

/// By hand, from what the devices have.
fn reason_is_true(world: &World, id: u64, job: &Job, now: Time) {
    let free = |device: &Device| (device.free().gpus & device.accepted(&job.demand.parts[0].0)).count_ones();
    match world.policy.why(&id, now).expect("it waits") {
        Why::Capacity { need, free, .. } => {
            assert!(free < need, "{id}: {free} of {need}");
            assert!(!world.fits_somewhere(&job.demand), "{id} fits");
        }
        Why::Fragmented { free_total, largest_hole, .. } => {
            let devices = || world.policy.cluster().devices().map(|(_, device)| free(device));
            assert!(!world.fits_somewhere(&job.demand), "{id} fits");
            assert!(free_total <= devices().sum() && largest_hole <= devices().max().unwrap_or(0));
        }
        Why::QueueTurn { .. } => assert!(!world.fits_somewhere(&job.demand), "{id} fits"),
        Why::Reserved { start_by } => {
            assert!(start_by >= now, "{id} should have started by {start_by}, it is {now}");
        }
        Why::WouldDelay { its_start, by, .. } => {
            assert!(world.fits_somewhere(&job.demand), "{id} does not even fit");
            assert!(now + job.limit > its_start && by > 0, "{id} ends before {its_start}");
        }
        Why::Quota { used, cap, need, .. } => assert!(used + need > cap, "{id}: {used} + {need} of {cap}"),
        Why::KeptQuota { job: other, .. } => {
            let why = world.policy.why(&other, now).expect("it waits");
            assert!(!matches!(why, Why::KeptQuota { .. }), "{id} waits for {other}, which waits for another");
        }
        Why::Order { ahead } => {
            let order = world.rules[usize::from(job.queue.0)].order;
            let for_others = job.preemptible && !world.leaving.is_empty();
            let is_true = (order == Order::Fifo || for_others) && ahead > 0;
            assert!(is_true, "{id} fits, and {ahead} are ahead by {order:?}");
        }
        why @ (Why::DeviceDown | Why::Group { .. }) => panic!("{id}: {why:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_overbooked_and_reasons_are_true(
        hosts in prop::collection::vec(host(), 1..6),
        rules in prop::collection::vec(rules(), 1..4),
        wishes in prop::collection::vec(wish(4), 1..80),
    ) {
        let wishes: Vec<Wish> = wishes.into_iter().map(|mut wish| {
            wish.job.queue.0 %= u16::try_from(rules.len()).expect("a few");
            wish
        }).collect();
        let mut world = World::new(&hosts, &rules);
        world.play(&wishes, |world, waiting, now| {
            assert_eq!(violations(&world.policy), Vec::<String>::new());
            for id in waiting {
                reason_is_true(world, *id, &wishes[usize::try_from(*id).expect("an index")].job, now);
            }
        });
    }

    /// Preemption is a person's or another queue's act on what a promise relied on only in the good sense: it frees.
    #[test]
    fn promises_are_kept_where_limits_are(
        hosts in prop::collection::vec(host(), 1..6),
        order in prop_oneof![Just(Order::Expansion), Just(Order::FifoBackfill)],
        wishes in prop::collection::vec(wish(1), 1..120),
    ) {
        let mut world = World::new(&hosts, &[Rules { order, ..Rules::default() }]);
        world.play(&wishes, |world, waiting, now| {
            for id in waiting {
                // Larger priorities make those of others void.
                if let Some(promise) = world.policy.promise(id).filter(|promise| !promise.void) {
                    assert!(promise.first >= now, "{id} was promised for {}, it is {now}", promise.first);
                }
            }
        });
    }

    #[test]
    fn what_happens_at_one_moment_may_be_told_in_any_order(
        hosts in prop::collection::vec(host(), 1..5),
        wishes in prop::collection::vec((wish(1), any::<u64>()), 1..60),
    ) {
        let mut wishes: Vec<(Wish, u64)> = wishes;
        // Few moments, so that many things happen at each.
        for (wish, _) in &mut wishes {
            wish.at -= wish.at % (200 * MINUTE);
            wish.job.submitted = wish.at;
        }
        let play = |order: &[usize]| {
            let mut world = World::new(&hosts, &[Rules::default()]);
            let mut told: Vec<(u64, Job, Time, i64)> = order.iter().map(|place| {
                let (wish, _) = &wishes[*place];
                (*place as u64, wish.job.clone(), wish.at, wish.runs_percent)
            }).collect();
            told.retain(|(_, job, ..)| world.takes(job));
            let mut starts = Vec::new();
            let mut ends: BTreeSet<(Time, u64)> = BTreeSet::new();
            let mut times: BTreeSet<Time> = told.iter().map(|(_, _, at, _)| *at).collect();
            while let Some(now) = times.pop_first() {
                for (_, id) in ends.iter().filter(|(at, _)| *at == now) {
                    world.policy.finish(id, now);
                }
                for (id, job, ..) in told.iter().filter(|(_, _, at, _)| *at == now) {
                    world.policy.submit(*id, job.clone());
                }
                for start in world.policy.pass(now).starts {
                    let (_, job, _, percent) = told.iter().find(|(id, ..)| *id == start.id).expect("it was told");
                    let end = now + (job.limit * percent / 100).max(1);
                    ends.insert((end, start.id));
                    times.insert(end);
                    starts.push((now, start.id, start.places));
                }
            }
            starts
        };
        let straight: Vec<usize> = (0..wishes.len()).collect();
        let mut shuffled = straight.clone();
        shuffled.sort_by_key(|place| wishes[*place].1);
        prop_assert_eq!(play(&straight), play(&shuffled));
    }
}

/// `host()` and `wish()` do not make many small hosts full of preemptible jobs by themselves.
#[test]
fn a_job_within_its_quota_gets_room_from_preemptible_ones() {
    let rules = Rules::default();
    let mut world = World::new(&[Host { gpus: 4, kind: "T4", cpus: 32 }], &[rules]);
    let job = |gpus, preemptible| Job {
        queue: QueueKey(0),
        demand: Demand::one(Need::of_gpus(gpus)),
        priority: 100,
        submitted: 0,
        estimate: MINUTE,
        limit: 100 * MINUTE,
        preemptible,
        group: None,
        avoid: None,
    };
    for id in 0..4 {
        world.policy.submit(id, job(1, true));
    }
    assert_eq!(world.policy.pass(0).starts.len(), 4);
    world.policy.submit(9, job(2, false));
    assert_eq!(world.policy.pass(MINUTE).preempted, [], "they have run for too short a time");
    let preempted = world.policy.pass(6 * MINUTE).preempted;
    assert_eq!(preempted.len(), 2, "as few as suffice");
    assert_eq!(world.policy.pass(6 * MINUTE).preempted, [], "they are going already");
    for id in preempted {
        world.policy.finish(&id, 7 * MINUTE);
    }
    assert_eq!(world.policy.pass(7 * MINUTE).starts.iter().map(|start| start.id).collect::<Vec<_>>(), [9]);
}

#[test]
fn what_ends_on_a_device_that_was_removed_counts_for_its_queue_no_more() {
    let quota = [(ANY_TYPE.to_owned(), 2), ("T4".to_owned(), 2)].into();
    let mut world = World::new(
        &[Host { gpus: 2, kind: "T4", cpus: 32 }, Host { gpus: 2, kind: "T4", cpus: 32 }],
        &[Rules { quota, ..Rules::default() }],
    );
    let job = Job {
        queue: QueueKey(0),
        demand: Demand::one(Need::of_gpus(2)),
        priority: 100,
        submitted: 0,
        estimate: MINUTE,
        limit: 100 * MINUTE,
        preemptible: false,
        group: None,
        avoid: None,
    };
    world.policy.submit(1, job.clone());
    world.policy.submit(2, job);
    let starts = world.policy.pass(0).starts;
    assert_eq!(starts.len(), 1, "its quota is two GPUs");
    world.policy.remove_device(starts[0].places[0].0);
    assert!(world.policy.pass(MINUTE).starts.is_empty(), "it has not ended yet");
    world.policy.finish(&starts[0].id, 2 * MINUTE);
    assert_eq!(world.policy.pass(2 * MINUTE).starts.len(), 1);
    assert_eq!(violations(&world.policy), Vec::<String>::new());
}
