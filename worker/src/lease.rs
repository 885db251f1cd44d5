//! How long ago the broker confirmed something of ours.
//!
//! When that is longer ago than the leader said in its welcome, the leader may give our GPUs to
//! others: the worker has no session any more. The file outlives the process, so that a restart
//! does not win time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

/// Where no welcome ever said: the scheduler's own default.
pub const DEFAULT_FENCE_AFTER: Duration = Duration::from_secs(240);

#[derive(Clone)]
pub struct Lease {
    file: PathBuf,
    confirmed: Arc<watch::Sender<Instant>>,
    fence_after: Arc<watch::Sender<Duration>>,
}

impl Lease {
    /// Goes on where the last process was; one that never had a confirm begins now.
    #[must_use]
    pub fn open(state_dir: &Path, fence_after: Option<Duration>) -> Self {
        let file = state_dir.join("lease");
        let age = std::fs::metadata(&file)
            .and_then(|about| about.modified())
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok())
            .unwrap_or_default();
        let now = Instant::now();
        let confirmed = now.checked_sub(age).unwrap_or(now);
        Self {
            file,
            confirmed: Arc::new(watch::Sender::new(confirmed)),
            fence_after: Arc::new(watch::Sender::new(fence_after.unwrap_or(DEFAULT_FENCE_AFTER))),
        }
    }

    /// The broker has confirmed something that was published at `sent` or later.
    pub fn renew(&self, sent: Instant) {
        let later = self.confirmed.send_if_modified(|known| {
            let later = sent > *known;
            *known = sent.max(*known);
            later
        });
        if later {
            // Its time is what counts. That it cannot be written costs time at a restart, no more.
            let _ = std::fs::write(&self.file, b"");
        }
    }

    pub fn set_fence_after(&self, fence_after: Duration) {
        self.fence_after.send_replace(fence_after);
    }

    /// Returns when it has run out; at once when it has already.
    pub async fn expired(&self) {
        let mut confirmed = self.confirmed.subscribe();
        let mut fence_after = self.fence_after.subscribe();
        loop {
            let deadline = *confirmed.borrow_and_update() + *fence_after.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                _ = confirmed.changed() => {}
                _ = fence_after.changed() => {}
            }
        }
    }

    /// Returns at the next confirm.
    pub async fn renewed(&self) {
        // The sender is ours: it does not go.
        let _ = self.confirmed.subscribe().changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_runs_out_after_the_last_confirm_and_not_before() {
        let dir = crate::scratch::Scratch::new();
        let lease = Lease::open(&dir, Some(Duration::from_secs(10)));
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(7)).await;
        lease.renew(Instant::now());
        lease.expired().await;
        assert_eq!(began.elapsed().as_secs(), 17);
        lease.set_fence_after(Duration::from_secs(12));
        lease.expired().await;
        assert_eq!(began.elapsed().as_secs(), 19);
    }
}
