//! What a recording of Docker says about containers: how often each began, and when it was alive.
//!
//! Pure. Where Docker was seen late, the earliest thing that proves an end counts: an event, the time
//! that Docker itself wrote down, or a list in which the container is missing. A dockerd that was dead
//! when a container ended tells it late; the next attempt began only after somebody had learnt of
//! the end, so such a delay makes no false alarm.

use std::collections::BTreeMap;

use berth_tests::recording::{Replica, Sighting};

/// A container from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    pub replica: Replica,
    pub id: String,
    /// How often its process was started.
    pub starts: usize,
    /// Absent: it was made and never started.
    pub began: Option<i64>,
    /// Absent: nothing says that it ended.
    pub ended: Option<i64>,
}

#[derive(Debug, Default)]
struct Traces {
    replica: Option<Replica>,
    /// By event: each repetition of one event, after a reconnect, has the same time.
    started: Vec<i64>,
    /// As Docker wrote down: one per start, but only the last is kept.
    began: Vec<i64>,
    ends: Vec<i64>,
}

/// All containers that were seen.
pub fn lives(sightings: &[Sighting]) -> Vec<Life> {
    let mut traces: BTreeMap<&str, Traces> = BTreeMap::new();
    for sighting in sightings {
        match sighting {
            Sighting::Event { id, replica, action, at } => {
                let traces = traces.entry(id).or_default();
                traces.replica = Some(replica.clone());
                match action.as_str() {
                    "start" => traces.started.push(*at),
                    "die" | "destroy" => traces.ends.push(*at),
                    // Created, killed (asked to), attached and so on begin and end nothing.
                    _ => {}
                }
            }
            Sighting::Inspected { id, replica, began, ended } => {
                let traces = traces.entry(id).or_default();
                traces.replica = Some(replica.clone());
                traces.began.extend(began);
                traces.ends.extend(ended);
            }
            Sighting::Listed { .. } => {}
        }
    }
    let mut lives: Vec<Life> = traces.into_iter().filter_map(|(id, traces)| traces.life(id)).collect();
    for sighting in sightings {
        if let Sighting::Listed { since, ids } = sighting {
            lives.iter_mut().filter(|life| !ids.contains(&life.id)).for_each(|life| life.missing_at(*since));
        }
    }
    lives
}

impl Traces {
    fn life(mut self, id: &str) -> Option<Life> {
        for times in [&mut self.started, &mut self.began, &mut self.ends] {
            times.sort_unstable();
            times.dedup();
        }
        let began = self.started.first().into_iter().chain(self.began.first()).min().copied();
        Some(Life {
            replica: self.replica?,
            id: id.to_owned(),
            starts: self.started.len().max(self.began.len()),
            began,
            // A second start has an end after the first one's: the last counts then, so that nothing
            // is hidden that was alive.
            ended: if self.started.len() > 1 { self.ends.last() } else { self.ends.first() }.copied(),
        })
    }
}

impl Life {
    /// A list that was begun before the container says nothing about it.
    fn missing_at(&mut self, since: i64) {
        if self.began.is_some_and(|began| began < since) {
            self.ended = Some(self.ended.map_or(since, |ended| ended.min(since)));
        }
    }

    fn alive_with(&self, other: &Self) -> bool {
        let end = |life: &Self| life.ended.unwrap_or(i64::MAX);
        match (self.began, other.began) {
            (Some(mine), Some(theirs)) => mine < end(other) && theirs < end(self),
            (None, _) | (_, None) => false,
        }
    }
}

/// Replicas of attempts that were started more than once, in one container or in several.
pub fn double_starts(lives: &[Life]) -> Vec<&Replica> {
    let mut starts: BTreeMap<&Replica, usize> = BTreeMap::new();
    for life in lives {
        *starts.entry(&life.replica).or_default() += life.starts;
    }
    starts.into_iter().filter(|(_, starts)| *starts > 1).map(|(replica, _)| replica).collect()
}

/// Pairs of containers of one job that were alive at the same time, but for the replicas of one attempt.
pub fn alive_together(lives: &[Life]) -> Vec<(&Life, &Life)> {
    let mut by_job: BTreeMap<&str, Vec<&Life>> = BTreeMap::new();
    for life in lives {
        by_job.entry(&life.replica.job).or_default().push(life);
    }
    let pairs = by_job.values().flat_map(|lives| {
        lives.iter().enumerate().flat_map(|(n, one)| lives[n + 1..].iter().map(move |other| (*one, *other)))
    });
    pairs
        .filter(|(one, other)| one.alive_with(other) && !are_siblings(&one.replica, &other.replica))
        .collect()
}

fn are_siblings(one: &Replica, other: &Replica) -> bool {
    one.attempt == other.attempt && one.replica != other.replica
}

/// The most containers of one replica of a job that were alive at one moment: a beginning.
pub fn most_alive_at_once(lives: &[Life]) -> usize {
    let alive = |at: i64, of: &Replica| {
        let same = |life: &&Life| (&life.replica.job, life.replica.replica) == (&of.job, of.replica);
        let there = |life: &&Life| life.began.is_some_and(|b| b <= at) && life.ended.is_none_or(|e| at < e);
        lives.iter().filter(same).filter(there).count()
    };
    lives.iter().filter_map(|life| Some(alive(life.began?, &life.replica))).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(attempt: u32) -> Replica {
        Replica { job: "j".into(), attempt, replica: 0 }
    }

    fn event(id: &str, attempt: u32, action: &str, at: i64) -> Sighting {
        Sighting::Event { id: id.into(), replica: replica(attempt), action: action.into(), at }
    }

    fn inspected(id: &str, attempt: u32, began: i64, ended: Option<i64>) -> Sighting {
        Sighting::Inspected { id: id.into(), replica: replica(attempt), began: Some(began), ended }
    }

    #[test]
    fn one_after_the_other_is_well_and_events_may_be_told_twice() {
        let seen = [
            event("a", 1, "start", 10),
            event("a", 1, "start", 10),
            inspected("a", 1, 9, None),
            event("a", 1, "die", 20),
            event("b", 2, "start", 20),
        ];
        let lives = lives(&seen);
        assert_eq!((double_starts(&lives).len(), alive_together(&lives).len()), (0, 0), "{lives:#?}");
        assert_eq!((most_alive_at_once(&lives), lives[0].starts), (1, 1));
    }

    #[test]
    fn a_second_start_is_seen_in_the_same_container_and_in_another() {
        let again =
            lives(&[event("a", 1, "start", 10), event("a", 1, "die", 11), event("a", 1, "start", 12)]);
        assert_eq!(double_starts(&again), [&replica(1)]);
        let unseen = lives(&[inspected("a", 1, 10, Some(11)), inspected("a", 1, 12, None)]);
        assert_eq!(double_starts(&unseen), [&replica(1)]);
        let other =
            lives(&[event("a", 1, "start", 10), event("a", 1, "die", 11), event("b", 1, "start", 12)]);
        assert_eq!(double_starts(&other), [&replica(1)]);
        assert!(alive_together(&other).is_empty());
    }

    #[test]
    fn two_at_once_are_seen_unless_the_first_was_missing_in_a_list() {
        let mut seen = vec![event("a", 1, "start", 10), event("b", 2, "start", 20)];
        assert_eq!(alive_together(&lives(&seen)).len(), 1);
        assert_eq!(most_alive_at_once(&lives(&seen)), 2);
        seen.push(Sighting::Listed { since: 15, ids: vec![] });
        assert!(alive_together(&lives(&seen)).is_empty(), "b began after that list");
    }

    #[test]
    fn a_gangs_replicas_live_together_its_attempts_do_not() {
        let of = |replica, attempt| Replica { replica, ..super::tests::replica(attempt) };
        let start = |id: &str, replica, attempt, at| Sighting::Event {
            id: id.into(),
            replica: of(replica, attempt),
            action: "start".into(),
            at,
        };
        let mut seen = vec![start("a", 0, 1, 10), start("b", 1, 1, 11), event("a", 1, "die", 20)];
        assert!(alive_together(&lives(&seen)).is_empty());
        seen.push(start("c", 0, 2, 21));
        let lives = lives(&seen);
        assert_eq!(alive_together(&lives).len(), 1, "b is alive beside c: {lives:#?}");
        assert_eq!(most_alive_at_once(&lives), 1);
    }

    #[test]
    fn an_end_that_dockerd_slept_through_is_known_from_its_own_notes() {
        let seen = [event("a", 1, "start", 10), inspected("a", 1, 9, Some(12)), event("a", 1, "destroy", 30)];
        assert_eq!(lives(&seen)[0].ended, Some(12));
    }
}
