//! A schedule made from a seed: which jobs are submitted when, and what breaks when, for how long.
//!
//! Pure. What must always hold: nothing breaks that is broken already, and nothing is asked of Berth
//! that it does not promise (Docker and the way to the broker are never away together: the fence could
//! not kill).

use std::fmt;
use std::time::Duration;

use berth_tests::proxy::Wire;
use berth_tests::services::{LiveRestore, Part};
use serde_json::{Value, json};

use crate::chance::Chance;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// As short as the scheduler allows for a fence that has time to work.
pub const FENCE_AFTER: Duration = s(8);
/// At least ten seconds later; see the scheduler's `--lost-after`.
pub const LOST_AFTER: Duration = s(20);
/// How long a worker may be dead, stopped or cut off: it, or its guard in its place, fences after `FENCE_AFTER`,
/// so longer than `LOST_AFTER` is asked for too. Without a guard a worker that is dead or stopped cannot
/// fence, and this would have to be shorter than `LOST_AFTER` less `FENCE_AFTER`.
const AWAY_MAX: Duration = s(26);
/// Long enough for the leader to give the device up.
const AWAY_LONG: (Duration, Duration) = (s(22), AWAY_MAX);
const AWAY_SHORT: (Duration, Duration) = (ms(100), s(7));
/// Of those that are not one of the above, so many per cent are anything up to the longest.
const AWAY_ANY_PERCENT: u64 = 25;
/// The lease of a leader is over after 5 s: another one takes it.
const LEADER_STOPPED: (Duration, Duration) = (s(6), s(9));
const SERVICE_DEAD: (Duration, Duration) = (ms(100), s(5));
/// Before the same thing breaks again: connected, greeted, compared.
const RECOVERY: Duration = s(6);
/// RabbitMQ needs about as long to boot on a busy machine, and then the leader has to hear itself.
const BROKER_RECOVERY: Duration = s(14);

/// Breaking begins after the first jobs run, and is over when this much time has passed.
const FIRST: Duration = s(2);
pub const LENGTH: Duration = s(70);
/// Tries to find a place for a fault between the others; one without a place is left out.
const TRIES: usize = 300;
/// Besides one of each kind.
const MORE_FAULTS: usize = 5;

pub const WORKERS: usize = 2;
/// Submitted at once; more than the devices can run, so that jobs always wait.
const JOBS_AT_ONCE: usize = 100;
/// Submitted one by one, until the end.
const JOBS_LATER: usize = 100;
const JOB: (Duration, Duration) = (s(0), s(2));
/// Some last longer than `LOST_AFTER`: a fence that fails leaves them alive when their next attempt begins.
/// They go first, so that they run when a device goes away.
const LONG_JOBS: usize = 12;
const LONG_JOB: (Duration, Duration) = (s(25), s(40));
const LONG_JOBS_UNTIL: Duration = s(35);
const LONG_JOB_PRIORITY: u32 = 200;
/// Of the long absences of a device, so many per cent have nothing else break meanwhile: a leader that
/// cannot hear gives nobody up.
const ALONE_PERCENT: u64 = 60;

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    KillLeader,
    KillStandby,
    KillSchedulers,
    StopLeader,
    KillWorker(usize),
    StopWorker(usize),
    BreakWire(usize, Wire),
    KillService(Part),
}

/// What is broken by it, and must not be by anything else at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thing {
    Schedulers,
    Worker(usize),
    RabbitMq,
    Postgres,
}

impl Fault {
    fn breaks(self) -> Vec<Thing> {
        match self {
            Self::KillLeader | Self::KillStandby | Self::KillSchedulers | Self::StopLeader => {
                vec![Thing::Schedulers]
            }
            Self::KillWorker(n) | Self::StopWorker(n) | Self::BreakWire(n, _) => vec![Thing::Worker(n)],
            Self::KillService(Part::RabbitMq) => vec![Thing::RabbitMq],
            Self::KillService(Part::Postgres) => vec![Thing::Postgres],
            Self::KillService(Part::Dockerd(_)) => (0..WORKERS).map(Thing::Worker).collect(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillLeader => f.write_str("kill the leader"),
            Self::KillStandby => f.write_str("kill the standby"),
            Self::KillSchedulers => f.write_str("kill both schedulers"),
            Self::StopLeader => f.write_str("stop the leader"),
            Self::KillWorker(_) => f.write_str("kill a worker"),
            Self::StopWorker(_) => f.write_str("stop a worker"),
            Self::BreakWire(_, wire) => write!(f, "wire {wire:?}"),
            Self::KillService(Part::Dockerd(after)) => {
                write!(f, "kill dockerd (live-restore then {after:?})")
            }
            Self::KillService(part) => write!(f, "kill {part}"),
        }
    }
}

/// A fault with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    pub at: Duration,
    pub fault: Fault,
    pub lasts: Duration,
    company: Company,
}

/// Whether other things may be broken at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Company {
    Others,
    Alone,
}

/// What is wished for a job after its submission was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Nothing,
    Kill { after: Duration },
    Hold { after: Duration, lasts: Duration },
}

#[derive(Debug, Clone, PartialEq)]
pub struct PlannedJob {
    pub at: Duration,
    pub key: String,
    /// All but the image.
    pub spec: Value,
    pub exit_code: i64,
    pub wish: Wish,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub seed: u64,
    pub dockerd: LiveRestore,
    /// In the order of their times.
    pub faults: Vec<Planned>,
    pub jobs: Vec<PlannedJob>,
}

impl Plan {
    pub fn from_seed(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        Self {
            seed,
            dockerd: live_restore(&mut chance),
            faults: faults(&mut chance),
            jobs: jobs(&mut chance),
        }
    }
}

fn live_restore(chance: &mut Chance) -> LiveRestore {
    chance.one_of(&[LiveRestore::On, LiveRestore::Off])
}

/// One of each kind, the longest first, since it finds a place hardest, then some more.
fn faults(chance: &mut Chance) -> Vec<Planned> {
    let mut placed: Vec<Planned> = Vec::new();
    let mut kinds: Vec<fn(&mut Chance) -> (Fault, Duration)> = vec![
        |c| (Fault::KillLeader, lasts(c, SERVICE_DEAD)),
        |c| (Fault::KillStandby, lasts(c, SERVICE_DEAD)),
        |c| (Fault::KillSchedulers, lasts(c, SERVICE_DEAD)),
        |c| (Fault::StopLeader, lasts(c, LEADER_STOPPED)),
        |c| (Fault::KillWorker(worker(c)), away(c)),
        |c| (Fault::StopWorker(worker(c)), away(c)),
        |c| (Fault::BreakWire(worker(c), Wire::Cut), away(c)),
        |c| (Fault::BreakWire(worker(c), Wire::Silent), away(c)),
        |c| (Fault::KillService(Part::RabbitMq), lasts(c, SERVICE_DEAD)),
        |c| (Fault::KillService(Part::Postgres), lasts(c, SERVICE_DEAD)),
    ];
    chance.shuffle(&mut kinds);
    let more: Vec<_> = (0..MORE_FAULTS).map(|_| chance.one_of(&kinds)).collect();
    kinds.extend(more);
    kinds.insert(0, |c| (any_absence(c), lasts(c, AWAY_LONG)));
    kinds.insert(1, |c| (Fault::KillService(Part::Dockerd(live_restore(c))), lasts(c, SERVICE_DEAD)));
    for kind in kinds {
        let (fault, lasts) = kind(chance);
        let company = company(chance, lasts);
        let place = (0..TRIES).find_map(|_| {
            let at = chance.between(FIRST, LENGTH.saturating_sub(lasts));
            let planned = Planned { at, fault, lasts, company };
            placed.iter().all(|other| !planned.meets(other)).then_some(planned)
        });
        placed.extend(place);
    }
    placed.sort_by_key(|planned| planned.at);
    placed
}

impl Planned {
    fn recovered(&self) -> Duration {
        let rabbitmq = self.fault == Fault::KillService(Part::RabbitMq);
        self.at + self.lasts + if rabbitmq { BROKER_RECOVERY } else { RECOVERY }
    }

    fn meets(&self, other: &Self) -> bool {
        let breaks = other.fault.breaks();
        let alone = [self.company, other.company].contains(&Company::Alone);
        let same = self.fault.breaks().iter().any(|thing| breaks.contains(thing));
        (same || alone) && self.at < other.recovered() && other.at < self.recovered()
    }
}

fn company(chance: &mut Chance, lasts: Duration) -> Company {
    if lasts >= LOST_AFTER && chance.percent(ALONE_PERCENT) { Company::Alone } else { Company::Others }
}

fn lasts(chance: &mut Chance, (least, most): (Duration, Duration)) -> Duration {
    chance.between(least, most)
}

fn any_absence(chance: &mut Chance) -> Fault {
    let n = worker(chance);
    let ways = [
        Fault::KillWorker(n),
        Fault::StopWorker(n),
        Fault::BreakWire(n, Wire::Cut),
        Fault::BreakWire(n, Wire::Silent),
    ];
    chance.one_of(&ways)
}

fn away(chance: &mut Chance) -> Duration {
    let most = if chance.percent(AWAY_ANY_PERCENT) { AWAY_MAX } else { AWAY_SHORT.1 };
    lasts(chance, (AWAY_SHORT.0, most))
}

fn worker(chance: &mut Chance) -> usize {
    usize::try_from(chance.below(WORKERS as u64)).expect("a small number")
}

fn jobs(chance: &mut Chance) -> Vec<PlannedJob> {
    let long: Vec<_> = (0..LONG_JOBS).map(|_| chance.between(s(0), LONG_JOBS_UNTIL)).collect();
    let at_once = (0..JOBS_AT_ONCE).map(|_| s(0));
    let later: Vec<_> = (0..JOBS_LATER).map(|_| chance.between(s(2), LENGTH)).collect();
    let mut jobs: Vec<_> = long.into_iter().enumerate().map(|(n, at)| long_job(chance, n, at)).collect();
    jobs.extend(at_once.chain(later).enumerate().map(|(n, at)| short_job(chance, n, at)));
    jobs
}

fn short_job(chance: &mut Chance, n: usize, at: Duration) -> PlannedJob {
    let exit_code = i64::from(chance.percent(25));
    let retries = if chance.percent(50) { chance.below(3) } else { 0 };
    let spec = json!({"command": script(chance, JOB, exit_code), "retries": retries, "backoff_s": 1});
    PlannedJob { wish: wish(chance), ..job(chance, format!("short-{n}"), at, exit_code, spec) }
}

/// One that failed again and again would only make the schedule longer.
fn long_job(chance: &mut Chance, n: usize, at: Duration) -> PlannedJob {
    let spec = json!({"command": script(chance, LONG_JOB, 0), "priority": LONG_JOB_PRIORITY});
    job(chance, format!("long-{n}"), at, 0, spec)
}

/// Some do not hear SIGTERM, and are killed after their grace.
fn script(chance: &mut Chance, range: (Duration, Duration), exit_code: i64) -> Value {
    let deaf = if chance.percent(10) { "trap '' TERM; " } else { "" };
    let seconds = lasts(chance, range).as_secs_f64();
    json!(["sh", "-c", format!("{deaf}sleep {seconds:.3}; exit {exit_code}")])
}

fn job(chance: &mut Chance, key: String, at: Duration, exit_code: i64, mut spec: Value) -> PlannedJob {
    spec["name"] = json!(key);
    spec["resources"] = json!({"gpus": chance.one_of(&[0, 0, 1, 1, 2]), "cpus": 0.25, "memory_mb": 64});
    PlannedJob { at, key, spec, exit_code, wish: Wish::Nothing }
}

fn wish(chance: &mut Chance) -> Wish {
    let after = chance.between(ms(100), s(15));
    match chance.below(100) {
        0..20 => Wish::Kill { after },
        20..30 => Wish::Hold { after, lasts: chance.between(ms(100), s(4)) },
        _ => Wish::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_schedule() {
        assert_eq!(Plan::from_seed(7), Plan::from_seed(7));
        assert_ne!(Plan::from_seed(7), Plan::from_seed(8));
    }

    #[test]
    fn no_schedule_asks_for_what_berth_does_not_promise() {
        assert!(FENCE_AFTER + s(10) <= LOST_AFTER, "the fence has time to work");
        for seed in 0..300 {
            let plan = Plan::from_seed(seed);
            assert!(plan.faults.len() >= 5, "seed {seed}: {:#?}", plan.faults);
            for (n, one) in plan.faults.iter().enumerate() {
                assert!(one.at + one.lasts <= LENGTH, "seed {seed}: {one:?}");
                assert!(plan.faults[n + 1..].iter().all(|other| !one.meets(other)), "seed {seed}: {one:?}");
            }
        }
    }

    #[test]
    fn a_long_cut_and_a_dead_dockerd_are_in_nearly_every_schedule() {
        let both = (0..300).filter(|seed| {
            let faults = Plan::from_seed(*seed).faults;
            faults.iter().any(|f| f.lasts > LOST_AFTER)
                && faults.iter().any(|f| matches!(f.fault, Fault::KillService(Part::Dockerd(_))))
        });
        assert!(both.count() > 290);
    }
}
