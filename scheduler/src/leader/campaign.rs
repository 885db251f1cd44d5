//! Waiting for the lease, and taking it.
//!
//! Clocks of different hosts are never compared: a standby takes over when it has seen the very
//! same row for [`LEASE`] by its own monotonic clock.

use std::time::Duration;

use berth_common::database::Session;
use berth_common::id::CELL;
use berth_common::time::{now, plus_ms};
use tokio::time::Instant;

use super::{Ended, Leader};
use crate::health::Leading;
use crate::store::{Lead, LeaseRow, read_lease, take_lease};

/// A leader that has not renewed for so long has lost the cell.
pub const LEASE: Duration = Duration::from_secs(5);
/// How often a standby looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Waits until nobody leads, then leads. `None`: the program stops.
pub(super) async fn win(leader: &Leader) -> Result<Option<Lead>, Ended> {
    let mut connected = leader.database.connect(Session::Leader, &leader.tasks).await?;
    let mut seen: Option<(LeaseRow, Instant)> = None;
    loop {
        let lease = read_lease(&connected, CELL).await?;
        let since = match &seen {
            Some((before, since)) if *before == lease => *since,
            Some(_) | None => {
                let since = Instant::now();
                // A row that changes has a leader that lives; the first look does not tell.
                if seen.is_some() {
                    announce(leader, &lease);
                }
                seen = Some((lease.clone(), since));
                since
            }
        };
        let free = lease.holder.as_deref().is_none_or(|holder| holder == leader.holder);
        if free || since.elapsed() >= LEASE {
            // Later than the row's own time, whatever this host's clock says.
            let at = now().max(plus_ms(lease.renewed_at, 1));
            match take_lease(connected, CELL, &lease, &leader.holder, at).await? {
                Some(lead) => return Ok(Some(lead)),
                None => connected = leader.database.connect(Session::Leader, &leader.tasks).await?,
            }
            continue;
        }
        if leader.stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
            return Ok(None);
        }
    }
}

/// Says once who leads.
fn announce(leader: &Leader, lease: &LeaseRow) {
    let Some(holder) = lease.holder.as_ref().filter(|holder| **holder != leader.holder) else { return };
    let standby = Leading::Standby { holder: holder.clone() };
    if leader.health.leading() != standby {
        leader.health.set_leading(standby);
        tracing::info!(%holder, epoch = lease.epoch, "another scheduler leads; standing by");
    }
}
