//! Plays a trace on a cluster by Berth's policy, in the trace's time.
//!
//! At equal times: completions, then arrivals, then one pass. Jobs at one time come in the order of their ids, so the
//! order of the file changes nothing, and nothing here is random. Run times are not cut at limits unless asked for;
//! starting and stopping cost nothing: a preempted job goes on later where it stopped.

mod game;

use berth_policy::Time;
use berth_policy::queue::{Order, Placement};

use crate::SECOND;
use crate::cluster::Cluster;
use crate::trace::Trace;
use game::Game;

/// A job without a limit has this one: that of the queue `default`.
pub const DEFAULT_LIMIT: Time = 7 * 24 * 3600 * SECOND;
/// After so many passes the policy's books are checked, and somebody may look at the progress.
const LOOK_EVERY: u64 = 1 << 14;

/// How to play.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    pub order: Order,
    pub placement: Placement,
    pub queues: Queues,
    pub limits: Limits,
    /// Jobs that come later than this after the first are left out.
    pub until: Option<Time>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Queues {
    /// The trace's.
    #[default]
    Own,
    /// All jobs in one.
    One,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Limits {
    /// Jobs run for as long as the trace says.
    #[default]
    Trusted,
    /// Jobs end at their limits.
    Enforced,
}

/// What became of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ran {
    pub start: Time,
    pub end: Time,
    /// How long it ran.
    pub run: Time,
    /// The time that it was first told it would start by.
    pub promise: Option<Time>,
}

impl Ran {
    /// It never started.
    pub const NOT: Self = Self { start: Time::MIN, end: Time::MIN, run: 0, promise: None };

    /// None: it never started, or never ended.
    #[must_use]
    pub fn times(&self) -> Option<&Self> {
        (self.end != Time::MIN).then_some(self)
    }
}

/// What became of all of them.
#[derive(Debug, Clone, Default)]
pub struct Run {
    pub policy: String,
    /// In the order of the trace.
    pub jobs: Vec<Ran>,
    /// GPUs of the cluster.
    pub gpus: u64,
    pub infeasible: usize,
    /// Jobs that came after the time that was asked for.
    pub left_out: usize,
    pub violations: usize,
    /// The first violations in words.
    pub found: Vec<String>,
    pub promises: usize,
    pub promises_broken: usize,
}

/// Plays `trace` on `cluster`; `look` is told now and then how many jobs have ended.
pub fn run(trace: &Trace, cluster: &Cluster, options: Options, look: &mut dyn FnMut(u64)) -> Run {
    let mut game = Game::new(trace, cluster, options);
    let latest = match (options.until, trace.jobs.first()) {
        (Some(until), Some(first)) => first.submit.saturating_add(until),
        (Some(_) | None, _) => Time::MAX,
    };
    let count = trace.jobs.partition_point(|job| job.submit <= latest);
    let mut arrivals = (0..).zip(&trace.jobs[..count]).peekable();
    let (mut passes, mut ended) = (0, 0);
    loop {
        let arrival = arrivals.peek().map(|(_, job)| job.submit);
        let Some(now) = arrival.into_iter().chain(game.next_end().map(|(end, _)| end)).min() else { break };
        while let Some((_, id)) = game.next_end().filter(|(end, _)| *end == now) {
            game.end(id, now);
            ended += 1;
        }
        while let Some((id, job)) = arrivals.next_if(|(_, job)| job.submit == now) {
            game.arrive(id, job);
        }
        game.pass(now);
        passes += 1;
        if passes % LOOK_EVERY == 0 {
            game.check();
            look(ended);
        }
    }
    game.run.left_out = trace.jobs.len() - count;
    game.over()
}

/// What a policy is called: `xf`, `fifo`, `fifo-backfill`; with `/spread` or `/fgd` where it does not pack.
#[must_use]
pub fn name(order: Order, placement: Placement) -> String {
    let order = match order {
        Order::Expansion => "xf",
        Order::Fifo => "fifo",
        Order::FifoBackfill => "fifo-backfill",
    };
    match placement {
        Placement::Pack => order.to_owned(),
        Placement::Spread => format!("{order}/spread"),
        Placement::Fgd => format!("{order}/fgd"),
    }
}
