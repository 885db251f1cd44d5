//! Waiting for a condition, with a limit, and with the last state seen in the failure.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::Instant;

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(50);

/// Polls `look` until it gives `Ok`.
///
/// # Panics
/// After `limit`, with what was seen last.
pub async fn until<T, E: Debug>(
    limit: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let end = Instant::now() + limit;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if Instant::now() > end => panic!("{what}: not within {limit:?}; last seen: {seen:#?}"),
            Err(_) => tokio::time::sleep(EVERY).await,
        }
    }
}
