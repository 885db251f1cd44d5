//! What breaks when, and for how long: one of each kind, some more, all by chance.

use std::fmt;
use std::time::Duration;

use berth_tests::proxy::Wire;
use berth_tests::services::{LiveRestore, Part};

use super::{LENGTH, LOST_AFTER, Span, WORKERS, ms, s, within};
use crate::chance::Chance;

/// How long a worker may be dead, stopped or cut off: it, or its guard in its place, fences after `FENCE_AFTER`,
/// so longer than `LOST_AFTER` is asked for too. Without a guard a worker that is dead or stopped cannot
/// fence, and this would have to be shorter than `LOST_AFTER` less `FENCE_AFTER`.
const AWAY_MAX: Duration = s(26);
/// Long enough for the leader to give the device up.
const AWAY_LONG: Span = (s(22), AWAY_MAX);
const AWAY_SHORT: Span = (ms(100), s(7));
/// Of those that are not one of the above, so many per cent are anything up to the longest.
const AWAY_ANY_PERCENT: u64 = 25;
/// The lease of a leader is over after 5 s: another one takes it.
const LEADER_STOPPED: Span = (s(6), s(9));
const SERVICE_DEAD: Span = (ms(100), s(5));
/// Before the same thing breaks again: connected, greeted, compared.
const RECOVERY: Duration = s(6);
/// RabbitMQ needs about as long to boot on a busy machine, and then the leader has to hear itself.
const BROKER_RECOVERY: Duration = s(14);

/// Breaking begins after the first jobs run, and is over when the schedule is.
const FIRST: Duration = s(2);
/// Tries to find a place for a fault between the others; one without a place is left out.
const TRIES: usize = 300;
/// Besides one of each kind.
const MORE_FAULTS: usize = 5;

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

/// A fault of some kind, and how long it lasts.
type Kind = fn(&mut Chance) -> (Fault, Duration);

/// One of each kind, the longest first, since it finds a place hardest, then some more.
pub fn draw(chance: &mut Chance) -> Vec<Planned> {
    let mut placed: Vec<Planned> = Vec::new();
    let mut kinds: Vec<Kind> = vec![
        |c| (Fault::KillLeader, within(c, SERVICE_DEAD)),
        |c| (Fault::KillStandby, within(c, SERVICE_DEAD)),
        |c| (Fault::KillSchedulers, within(c, SERVICE_DEAD)),
        |c| (Fault::StopLeader, within(c, LEADER_STOPPED)),
        |c| (Fault::KillWorker(worker(c)), away(c)),
        |c| (Fault::StopWorker(worker(c)), away(c)),
        |c| (Fault::BreakWire(worker(c), Wire::Cut), away(c)),
        |c| (Fault::BreakWire(worker(c), Wire::Silent), away(c)),
        |c| (Fault::KillService(Part::RabbitMq), within(c, SERVICE_DEAD)),
        |c| (Fault::KillService(Part::Postgres), within(c, SERVICE_DEAD)),
    ];
    chance.shuffle(&mut kinds);
    let more: Vec<_> = (0..MORE_FAULTS).map(|_| chance.one_of(&kinds)).collect();
    kinds.extend(more);
    kinds.insert(0, |c| (any_absence(c), within(c, AWAY_LONG)));
    kinds.insert(1, |c| (Fault::KillService(Part::Dockerd(live_restore(c))), within(c, SERVICE_DEAD)));
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
    within(chance, (AWAY_SHORT.0, most))
}

fn worker(chance: &mut Chance) -> usize {
    usize::try_from(chance.below(WORKERS as u64)).expect("a small number")
}

pub fn live_restore(chance: &mut Chance) -> LiveRestore {
    chance.one_of(&[LiveRestore::On, LiveRestore::Off])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{FENCE_AFTER, Plan};

    #[test]
    fn no_schedule_asks_for_what_berth_does_not_promise() {
        assert!(FENCE_AFTER + s(10) <= LOST_AFTER, "the fence has time to work");
        for seed in 0..300 {
            let plan = Plan::from_seed(seed);
            assert!(plan.faults.len() >= 4, "seed {seed}: {:#?}", plan.faults);
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
