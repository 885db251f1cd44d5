//! Explores a world as a whole, and says what it found.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::action::{self, Action};
use crate::after::after;
use crate::laws;
use crate::leader::Broken;
use crate::rest::{self, Rested};
use crate::state::State;
use crate::words::in_words;
use crate::world::{Bounds, World};

/// Of the two that the least machine of ours has.
const THREADS: usize = 2;
const SHARDS: usize = 32;

struct Explored {
    world: World,
    rested: Rested,
    seen: Seen,
}

/// What was left in the states that were met, by their fingerprints.
///
/// A state needs no look when the same one was met with more left: whatever may happen in it may happen
/// there, and no law asks what is left. Which of the two is met first is the threads' affair: so the
/// number of states differs a little from one exploration to the next.
#[derive(Default)]
struct Seen {
    shards: [Mutex<HashMap<u64, Vec<Bounds>>>; SHARDS],
    /// Ways are told again: nothing is left out then.
    telling: AtomicBool,
}

impl Seen {
    /// Whether it was met before with more left.
    fn is_covered(&self, state: &State) -> bool {
        if self.telling.load(Ordering::Relaxed) {
            return false;
        }
        let shard = &self.shards[usize::try_from(state.print).unwrap_or_default() % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let met = shard.entry(state.print).or_default();
        if met.iter().any(|left| left.covers(&state.left)) {
            return !met.contains(&state.left);
        }
        met.retain(|left| !state.left.covers(left));
        met.push(state.left);
        false
    }
}

impl Model for Explored {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::begin(&self.world)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        action::possible(&self.world, state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        Some(after(&self.world, state, action)).filter(|next| !self.seen.is_covered(next))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the core's invariants hold", |_, state| {
                laws::holds(state, |broken| matches!(broken, Broken::Invariant(_)))
            }),
            Property::always("the tables take what is written", |_, state| {
                laws::holds(state, |broken| matches!(broken, Broken::Constraint(_)))
            }),
            Property::always("a leader that loads the tables knows the same", |_, state| {
                laws::holds(state, |broken| matches!(broken, Broken::Memory(_)))
            }),
            Property::always("no attempt starts twice", |_, state| {
                laws::holds(state, |broken| matches!(broken, Broken::StartedTwice(_)))
            }),
            Property::always("requests are answered rightly", |_, state| {
                laws::holds(state, |broken| matches!(broken, Broken::Answer(_)))
            }),
            Property::always("no GPU is in two live containers", |_, state| laws::gpus_are_used_once(state)),
            Property::always("one attempt of a job is alive", |_, state| laws::one_attempt_is_alive(state)),
            Property::always("a kill that was accepted is final", |_, state| laws::kills_are_final(state)),
            Property::always("gangs are placed whole", |_, state| laws::gangs_are_whole(state)),
            Property::always("accepted jobs are kept", |_, state| laws::jobs_are_kept(state)),
            Property::always("everything comes to rest", |model: &Self, state| {
                model.rested.comes_to_rest(&model.world, state)
            }),
        ]
    }

    fn within_boundary(&self, state: &State) -> bool {
        let attempts = self.world.bounds.attempts;
        state.leader.tables.jobs.values().all(|row| row.life.attempt <= attempts)
    }
}

/// Explores a world, for `longest` at most; what it says is printed by the test.
///
/// # Errors
/// The law that does not hold with the way there, or that the world is too large.
pub fn explore(world: World, longest: Duration) -> Result<String, String> {
    let (name, bounds, began) = (world.name, world.bounds, Instant::now());
    let model = Explored { world: world.clone(), rested: Rested::default(), seen: Seen::default() };
    let checker = model.checker().threads(THREADS).timeout(longest).finish_when(HasDiscoveries::Any);
    let checker = checker.spawn_bfs().join();
    let took = began.elapsed();
    checker.model().seen.telling.store(true, Ordering::Relaxed);
    let mut said = format!(
        "{name}: {bounds}\n{} states ({} with repetitions), depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        took.as_secs_f64()
    );
    if let Some((law, path)) = checker.discoveries().into_iter().next() {
        let _ = write!(said, "\nbroken: {law}");
        for (n, (state, action)) in path.into_vec().into_iter().enumerate() {
            if let Some(action) = action {
                let _ = write!(said, "\n{:3}. {}", n + 1, in_words(&world, &state, action));
            } else {
                said.push_str(&the_rest(&world, &state));
            }
        }
        return Err(said);
    }
    if took >= longest {
        return Err(format!("{said}\nnot explored as a whole: it takes longer than {} s", longest.as_secs()));
    }
    Ok(said)
}

/// The end of a path: what is there, and how it would go on.
fn the_rest(world: &World, last: &State) -> String {
    let mut said = format!("\nthen: {:?}", last.broken);
    for row in last.leader.tables.jobs.values() {
        let _ = write!(said, "\n  {:?}", row.life);
    }
    let mut steps = Vec::new();
    let rests = rest::follow(world, last, |state| {
        steps.push(in_words(world, state, rest::next(state)));
        false
    });
    if let Err(why) = rests {
        let _ = write!(said, "\nit does not come to rest: {why}");
        for (n, step) in steps.iter().take(80).enumerate() {
            let _ = write!(said, "\n  {:3}. {step}", n + 1);
        }
    }
    said
}
