//! What the policy is given to do: a backlog that never gets shorter, on a cluster that is always full.
//!
//! Sizes are those of Microsoft's Philly cluster; limits are spread evenly over twelve doublings, and jobs run for a
//! fifth of theirs or more. What must always hold: the same seed is the same work, whatever the policy does with it.

use berth_policy::demand::Demand;
use berth_policy::device::Inventory;
use berth_policy::queue::Rules;
use berth_policy::{Job, Policy, QueueKey, Settings, Time};
use berth_simulate::chance::Chance;
use uuid::Uuid;

pub const GPUS_PER_DEVICE: u16 = 8;
/// GPUs of a job, and how many of a thousand jobs have so many.
const SIZES: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];
const WEIGHTS: [f64; 7] = [700.0, 70.0, 80.0, 120.0, 20.0, 7.0, 3.0];
const SHORTEST_LIMIT: Time = 60_000;
const DOUBLINGS: f64 = 12.0;
/// Of its limit, the least that a job runs.
const LEAST_PART: f64 = 0.2;
const DAY: Time = 86_400_000;

/// How much there is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub devices: u32,
    /// Jobs that wait, always.
    pub waiting: usize,
}

pub struct Made {
    pub id: Uuid,
    pub job: Job,
    /// How long it will run.
    pub run: Time,
}

/// Where jobs come from.
pub struct Source {
    chance: Chance,
    queue: QueueKey,
    /// Jobs so far.
    made: u64,
}

impl Source {
    /// A cluster without jobs, and where jobs for it come from.
    pub fn new(size: Size, seed: u64) -> (Policy<Uuid>, Self) {
        let mut policy = Policy::new(Settings::default());
        let queue = policy.set_queue("default", Rules::default());
        for place in 0..size.devices {
            policy.add_device(Inventory {
                name: format!("device-{place:05}"),
                gpus: vec!["A100".to_owned(); usize::from(GPUS_PER_DEVICE)],
                cpu_milli: 128_000,
                memory_mb: 1 << 20,
                labels: [].into(),
            });
        }
        (policy, Self { chance: Chance::new(seed), queue, made: 0 })
    }

    /// A new job for a place in the backlog, which its id tells: see [`place_of`].
    pub fn job(&mut self, place: usize, submitted: Time) -> Made {
        let gpus = SIZES[self.chance.weighted(&WEIGHTS)];
        let limit = (SHORTEST_LIMIT as f64 * (DOUBLINGS * self.chance.part()).exp2()) as Time;
        let part = LEAST_PART + (1.0 - LEAST_PART) * self.chance.part();
        self.made += 1;
        let job = Job {
            queue: self.queue,
            demand: Demand::spanning(gpus, GPUS_PER_DEVICE),
            priority: 100,
            submitted,
            estimate: limit,
            limit,
            preemptible: false,
            group: None,
            avoid: None,
        };
        let id = Uuid::from_u64_pair(self.made, place as u64);
        Made { id, job, run: ((limit as f64 * part) as Time).max(1) }
    }

    /// Some time in the day before `now`.
    pub fn of_last_day(&mut self, now: Time) -> Time {
        now - (self.chance.part() * DAY as f64) as Time
    }
}

/// The place in the backlog of the job with that id.
pub fn place_of(id: Uuid) -> usize {
    id.as_u64_pair().1 as usize
}
