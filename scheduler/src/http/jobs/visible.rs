//! Which jobs a caller may see: the own ones, as an admin of their queue those of others in it, and as an
//! administrator all.

use std::collections::HashSet;

use berth_common::id::JobId;

use crate::http::auth::Caller;
use crate::store::read::jobs::{self, Place, Sight};
use crate::store::read::{ReadError, Session, queues};

/// Those of `ids` that the caller may see.
///
/// # Errors
/// See [`ReadError`].
pub async fn visible(db: &Session, caller: &Caller, ids: &[JobId]) -> Result<HashSet<JobId>, ReadError> {
    let mut places = jobs::places(db, ids).await?;
    let of_others = places.values().any(|place| !caller.sees(&place.owner));
    // Most callers ask for what is theirs: then nothing more is looked up.
    if of_others {
        let governed = queues::governed(db, &caller.name).await?;
        places.retain(|_, place| caller.sees(&place.owner) || governed.contains(&place.queue));
    }
    Ok(places.into_keys().collect())
}

/// Whether the caller may see what is at this place.
///
/// # Errors
/// See [`ReadError`].
pub async fn sees(db: &Session, caller: &Caller, place: &Place) -> Result<bool, ReadError> {
    Ok(caller.sees(&place.owner) || queues::governed(db, &caller.name).await?.contains(&place.queue))
}

/// What the caller may see of all jobs; none: everything.
///
/// # Errors
/// See [`ReadError`].
pub async fn sight(db: &Session, caller: &Caller) -> Result<Option<Sight>, ReadError> {
    if caller.is_admin() {
        return Ok(None);
    }
    let queues = queues::governed(db, &caller.name).await?.into_iter().collect();
    Ok(Some(Sight { user: caller.name.clone(), queues }))
}
