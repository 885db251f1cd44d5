//! For how long the worker may count on the leader counting on it.
//!
//! What must always hold: once the time has run out, it stays so until the session has been ended; a
//! confirm that comes first (a host that wakes up publishes before it does anything else) prolongs nothing.

use std::time::Duration;

use crate::clock::BootTime;

/// The term of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    confirmed: BootTime,
    fence_after: Duration,
    /// Since when the session is over, while no confirm has come after it.
    ended: Option<BootTime>,
}

impl Term {
    /// From the last confirm on.
    #[must_use]
    pub const fn new(confirmed: BootTime, fence_after: Duration) -> Self {
        Self { confirmed, fence_after, ended: None }
    }

    #[must_use]
    pub const fn confirmed(&self) -> BootTime {
        self.confirmed
    }

    #[must_use]
    pub const fn fence_after(&self) -> Duration {
        self.fence_after
    }

    #[must_use]
    pub const fn runs_out_at(&self) -> BootTime {
        self.confirmed.plus(self.fence_after)
    }

    #[must_use]
    pub fn is_over(&self, now: BootTime) -> bool {
        self.ended.is_some() || now >= self.runs_out_at()
    }

    /// The broker has confirmed what was published at `sent`. Whether that prolongs it.
    pub fn confirm(&mut self, sent: BootTime) -> bool {
        let counts = match self.ended {
            Some(ended) => sent >= ended,
            None => sent > self.confirmed && sent < self.runs_out_at(),
        };
        if counts {
            (self.confirmed, self.ended) = (sent, None);
        }
        counts
    }

    /// Whether a confirm has begun it (anew).
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.ended.is_none()
    }

    /// The session has been ended: what is confirmed from now on begins anew.
    pub const fn end(&mut self, now: BootTime) {
        self.ended = Some(now);
    }

    pub const fn set_fence_after(&mut self, fence_after: Duration) {
        self.fence_after = fence_after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(second: u64) -> BootTime {
        BootTime::from_ms(second * 1000)
    }

    #[test]
    fn it_runs_out_after_the_last_confirm_and_not_before() {
        let mut term = Term::new(at(100), Duration::from_secs(10));
        assert!(!term.is_over(at(109)) && term.is_over(at(110)));
        assert!(term.confirm(at(107)));
        assert!(!term.confirm(at(104)), "an older one confirms nothing new");
        assert!(!term.is_over(at(116)) && term.is_over(at(117)));
        term.set_fence_after(Duration::from_secs(12));
        assert!(!term.is_over(at(118)) && term.is_over(at(119)));
    }

    #[test]
    fn what_has_run_out_begins_anew_only_after_the_session_was_ended() {
        let mut term = Term::new(at(100), Duration::from_secs(10));
        assert!(!term.confirm(at(400)), "it woke up: the session was not ended yet");
        assert!(term.is_over(at(400)));
        term.end(at(401));
        assert!(!term.confirm(at(400)), "published before");
        assert!(term.is_over(at(402)));
        assert!(term.confirm(at(402)));
        assert!(!term.is_over(at(411)) && term.is_over(at(412)));
    }
}
