//! Whether a job fits now, and where.

use std::fmt::Debug;
use std::hash::Hash;

use crate::cluster::PoolKey;
use crate::fgd;
use crate::place::{Bounds, Refusal, Share, find};
use crate::queue::Placement;
use crate::waiting::Entry;
use crate::{ClassKey, Kind, Policy, Shape, Time};

/// What came of looking at a job.
pub(crate) enum Look {
    Placed(Vec<Share>),
    /// One of its class that runs no longer than this may fit.
    Delays {
        limit: Time,
    },
    Room,
    /// It would fit where room is being made for another.
    Cleared,
    Capped,
}

impl<Id: Copy + Ord + Hash + Debug> Policy<Id> {
    /// Whether the job fits now, in the best of its pools; and what was found out about pools where it does not.
    pub(crate) fn look(&self, key: ClassKey, entry: Entry<Id>, now: Time) -> (Look, Vec<(PoolKey, Refusal)>) {
        self.examine(self.shape_of(key), entry, now)
    }

    pub(crate) fn examine(
        &self,
        shape: &Shape<Id>,
        entry: Entry<Id>,
        now: Time,
    ) -> (Look, Vec<(PoolKey, Refusal)>) {
        let Shape { kind, pools, widest, .. } = shape;
        let end = entry.limit.saturating_add(now);
        let placement = self.queues[usize::from(kind.queue.0)].rules.placement;
        let mut best: Option<Vec<Share>> = None;
        let mut refused = Look::Capped;
        let mut refusals = Vec::new();
        let closed = self.closed_to(kind);
        for pool in pools {
            if !self.is_within_caps(kind, *pool) {
                continue;
            }
            if u32::from(*widest) > self.cluster.pool(*pool).largest_hole() {
                refused = refused.or(Look::Room);
                continue;
            }
            let reservation = self.reservations.get(pool).filter(|of| of.id != entry.turn.id);
            let bounds = Bounds { reservation, end, now, avoid: kind.avoid, closed, placement };
            if let [(need, 1)] = kind.demand.parts.as_slice() {
                if self.memo.fits_nowhere(*pool, need) {
                    refused = refused.or(Look::Room);
                    continue;
                }
                if let Some(rival) = bounds.rival().filter(|rival| self.memo.is_hindered(*pool, need, rival))
                {
                    let fits = self.cluster.find(*pool, need, &kind.demand.labels, placement, |_, _| true);
                    let limit = rival.horizon() - now;
                    refused = refused.or(if fits.is_some() { Look::Delays { limit } } else { Look::Room });
                    continue;
                }
            } else if let Some(rival) = bounds.rival() {
                let changes = self.cluster.pool(*pool).changes();
                if self.memo.is_gang_hindered(*pool, kind, changes, rival) {
                    refused = refused.or(Look::Delays { limit: rival.horizon() - now });
                    continue;
                }
            }
            match find(&self.cluster, *pool, &kind.demand, &bounds) {
                Ok(found) => {
                    if best.as_ref().is_none_or(|best| self.is_better(kind, &found, best)) {
                        best = Some(found);
                    }
                }
                Err(refusal) => {
                    let everywhere =
                        closed.map_or(Err(refusal), |_| self.find_everywhere(*pool, kind, &bounds));
                    refused = refused.or(match (everywhere, refusal) {
                        (Err(refusal), _) => {
                            refusals.push((*pool, refusal));
                            Look::refused(refusal)
                        }
                        // What is closed to this one alone is not remembered: others may have it.
                        (Ok(_), Refusal::Room) => Look::Cleared,
                        (Ok(_), delays @ Refusal::Delays { .. }) => Look::refused(delays),
                    });
                }
            }
        }
        (best.map_or(refused, Look::Placed), refusals)
    }

    /// As if no room were being made.
    fn find_everywhere(
        &self,
        pool: PoolKey,
        kind: &Kind,
        bounds: &Bounds<'_, Id>,
    ) -> Result<Vec<Share>, Refusal> {
        find(&self.cluster, pool, &kind.demand, &Bounds { closed: None, ..*bounds })
    }

    /// Whether the first of these devices suits better than the first of those: by how much it spoils where the queue
    /// places by that, else by having less free.
    fn is_better(&self, kind: &Kind, these: &[Share], those: &[Share]) -> bool {
        let placement = self.queues[usize::from(kind.queue.0)].rules.placement;
        let fill = |shares: &[Share]| {
            let first = shares.first()?;
            let device = self.cluster.device(first.device);
            let (need, _) = kind.demand.parts.get(first.part)?;
            let spoiled = match placement {
                Placement::Fgd => fgd::spoiled(device, need, &self.cluster.usual),
                Placement::Pack | Placement::Spread => 0,
            };
            let free = device.free();
            let name = &device.inventory.name;
            Some((spoiled, device.free_gpu_count(), free.cpu_milli, free.memory_mb, name))
        };
        fill(these) < fill(those)
    }

    /// So that nobody looks again before something has become free.
    pub(crate) fn remember(&mut self, key: ClassKey, refusals: &[(PoolKey, Refusal)]) {
        if refusals.is_empty() {
            return;
        }
        let kind = self.shape_of(key).kind.clone();
        let demand = &kind.demand;
        let [(need, 1)] = demand.parts.as_slice() else {
            for (pool, refusal) in refusals {
                if let (Refusal::Delays { .. }, Some(rival)) = (refusal, self.reservations.get(pool)) {
                    self.memo.add_gang(*pool, &kind, self.cluster.pool(*pool).changes(), rival);
                }
            }
            return;
        };
        if !demand.labels.is_empty() {
            return;
        }
        for (pool, refusal) in refusals {
            match (refusal, self.reservations.get(pool)) {
                (Refusal::Room, _) => self.memo.add_nowhere(*pool, need),
                (Refusal::Delays { .. }, Some(rival)) => self.memo.add_hindered(*pool, need, rival),
                (Refusal::Delays { .. }, None) => {}
            }
        }
    }
}

impl Look {
    fn refused(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Room => Self::Room,
            Refusal::Delays { limit } => Self::Delays { limit },
        }
    }

    /// Of two refusals in different pools, the one with more hope.
    fn or(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Delays { limit }, Self::Delays { limit: more }) if more > limit => other,
            (Self::Delays { .. } | Self::Placed(_), _) => self,
            (_, Self::Delays { .. }) => other,
            (Self::Cleared, _) => self,
            (_, Self::Cleared) => other,
            (Self::Room, _) => self,
            (Self::Capped, _) => other,
        }
    }
}
