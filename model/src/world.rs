//! What a world consists of, and how much may go wrong in it: with these bounds it is finite.

use berth_common::spec::Disconnect;

/// A world that is explored as a whole.
#[derive(Debug, Clone)]
pub struct World {
    pub name: &'static str,
    pub devices: Vec<DevicePlan>,
    /// Submitted in this order, each at any time.
    pub jobs: Vec<JobPlan>,
    pub bounds: Bounds,
}

#[derive(Debug, Clone, Copy)]
pub struct DevicePlan {
    pub name: &'static str,
    pub gpus: u32,
    /// It is one of those that may lose the broker.
    pub may_be_cut: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct JobPlan {
    /// Of each replica.
    pub gpus: u32,
    pub replicas: u32,
    pub retries: u32,
    pub disconnect: Disconnect,
    /// Its owner may kill it, at any time.
    pub may_be_killed: bool,
}

/// How often something may happen; in a state, how often it still may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// States in which a job has had more attempts than this are not looked at any further.
    pub attempts: u32,
    /// The leader loses its memory and loads the tables.
    pub leader_crashes: u32,
    /// A worker's process dies and comes back; its containers go on.
    pub worker_crashes: u32,
    /// A message never arrives. One that is overtaken by a later one to the same device counts not:
    /// messages arrive in any order.
    pub losses: u32,
    /// A message arrives, and will arrive again.
    pub repeats: u32,
    /// Time passes: longer than every limit but the fence and the loss of a device.
    pub ticks: u32,
    /// So many of them pass while something is on its way to or from a connected worker, or before its
    /// heartbeat.
    pub slow_ticks: u32,
    /// A heartbeat is read later than it is sent, after whatever else happens.
    pub late_beats: u32,
    /// A worker loses the broker, perhaps for so long that it is fenced, and that its device is lost.
    pub cuts: u32,
}

impl Bounds {
    /// Nothing goes wrong, and no time passes.
    pub const NONE: Self = Self {
        attempts: 2,
        leader_crashes: 0,
        worker_crashes: 0,
        losses: 0,
        repeats: 0,
        ticks: 0,
        slow_ticks: 0,
        late_beats: 0,
        cuts: 0,
    };

    /// Whether everything that may happen with `other` left may happen with this left.
    #[must_use]
    pub const fn covers(&self, other: &Self) -> bool {
        self.leader_crashes >= other.leader_crashes
            && self.worker_crashes >= other.worker_crashes
            && self.losses >= other.losses
            && self.repeats >= other.repeats
            && self.ticks >= other.ticks
            && self.slow_ticks >= other.slow_ticks
            && self.late_beats >= other.late_beats
            && self.cuts >= other.cuts
    }
}

impl std::fmt::Display for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            attempts,
            leader_crashes,
            worker_crashes,
            losses,
            repeats,
            ticks,
            slow_ticks,
            late_beats,
            cuts,
        } = self;
        write!(
            f,
            "{attempts} attempts a job, {leader_crashes} crash(es) of the leader, {worker_crashes} of workers, \
             {losses} message(s) lost, {repeats} repeated, any order, {late_beats} late heartbeat(s), {ticks} tick(s), {slow_ticks} of them before everything has arrived, {cuts} cut(s)"
        )
    }
}
