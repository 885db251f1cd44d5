//! For how long the worker may count on the leader counting on it.
//!
//! What must always hold: once the time has run out, it stays so until the session has been ended; a
//! confirm that comes first (a host that wakes up publishes before it does anything else) prolongs nothing.
//! And a worker that the leader does not hear has no lease, however well the broker hears it.

use std::time::Duration;

use berth_common::message::OTHER_INSTALLATION;

use crate::clock::BootTime;

/// A worker is refused until so long after the last refusal: two heartbeats of it have been heard by then.
pub const REFUSED_FOR: Duration = Duration::from_secs(12);

/// What a reply to a heartbeat means for the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The worker obeys another installation: its containers are none of this leader's business.
    OtherInstallation,
    /// The leader does not hear it, and loses its device in time: its name is in use, or its protocol is
    /// not understood.
    NotHeard,
}

/// None: it is no refusal.
#[must_use]
pub const fn refusal(status: u16) -> Option<Refusal> {
    match status {
        OTHER_INSTALLATION => Some(Refusal::OtherInstallation),
        400.. => Some(Refusal::NotHeard),
        0..400 => None,
    }
}

/// The term of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    confirmed: BootTime,
    fence_after: Duration,
    /// Since when the session is over, while no confirm has come after it, and no welcome.
    ended: Option<BootTime>,
    /// When the leader last said that it does not hear us.
    refused: Option<BootTime>,
}

impl Term {
    /// From the last confirm on.
    #[must_use]
    pub const fn new(confirmed: BootTime, fence_after: Duration) -> Self {
        Self { confirmed, fence_after, ended: None, refused: None }
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
        let refused = self.refused.is_some_and(|at| sent < at.plus(REFUSED_FOR));
        let counts = !refused
            && match self.ended {
                Some(ended) => sent >= ended,
                None => sent > self.confirmed && sent < self.runs_out_at(),
            };
        if counts {
            (self.confirmed, self.ended) = (sent, None);
        }
        counts
    }

    /// Whether a confirm, or a welcome, has begun it (anew).
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.ended.is_none()
    }

    /// The session has been ended: what is confirmed from now on begins anew.
    pub const fn end(&mut self, now: BootTime) {
        self.ended = Some(now);
    }

    /// The leader does not hear us.
    pub const fn refuse(&mut self, now: BootTime) {
        self.refused = Some(now);
    }

    /// The leader has welcomed us. Where the confirm of our hello has not come, or was lost, it begins here:
    /// the leader heard what was published after the end, and nothing older counts.
    pub const fn welcome(&mut self, fence_after: Duration) {
        self.refused = None;
        if let Some(ended) = self.ended.take() {
            self.confirmed = ended;
        }
        self.set_fence_after(fence_after);
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

    #[test]
    fn a_silence_after_a_welcome_ends_that_session_too_when_the_hello_was_never_confirmed() {
        let mut term = Term::new(at(100), Duration::from_secs(10));
        term.end(at(110));
        term.welcome(Duration::from_secs(10));
        assert!(term.has_begun() && !term.is_over(at(119)) && term.is_over(at(120)));
        assert!(!term.confirm(at(500)), "what was taken in that session is not begun now");
        assert!(term.is_over(at(500)));
        let mut term = Term::new(at(100), Duration::from_secs(10));
        term.end(at(110));
        term.welcome(Duration::from_secs(10));
        assert!(term.confirm(at(115)) && !term.is_over(at(124)));
    }

    #[test]
    fn what_the_broker_confirms_to_a_worker_that_is_refused_prolongs_nothing() {
        let mut term = Term::new(at(100), Duration::from_secs(30));
        for second in [105, 110, 115, 120, 125] {
            term.refuse(at(second));
            assert!(!term.confirm(at(second - 1)) && !term.confirm(at(second + 5)));
        }
        assert!(!term.is_over(at(129)) && term.is_over(at(130)));
        term.end(at(131));
        term.refuse(at(132));
        assert!(!term.confirm(at(143)) && term.is_over(at(143)));
        assert!(term.confirm(at(144)), "nobody refuses it any more");
        term.refuse(at(145));
        assert!(!term.confirm(at(146)));
        term.welcome(Duration::from_secs(30));
        assert!(term.confirm(at(147)));
    }

    #[test]
    fn only_a_leader_of_another_installation_leaves_the_lease_alone() {
        assert_eq!(refusal(200), None);
        assert_eq!(refusal(421), Some(Refusal::OtherInstallation));
        for status in [400, 409, 503] {
            assert_eq!(refusal(status), Some(Refusal::NotHeard));
        }
    }
}
