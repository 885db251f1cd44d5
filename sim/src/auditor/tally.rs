//! What the auditor counts: what was wrong, and what happened, so that one sees that it does: what never happens
//! is not checked.

/// The four counts of the summary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub lost: u64,
    pub doubled: u64,
    pub leaked: u64,
    pub forgotten: u64,
    pub other: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.lost += more.lost;
        self.doubled += more.doubled;
        self.leaked += more.leaked;
        self.forgotten += more.forgotten;
        self.other += more.other;
    }
}

/// What happened, so that one sees that it does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts that had to go for others …
    pub preempted: u64,
    /// … and those of them whose job waited again.
    pub went_back: u64,
    /// Of those, the ones after which a later attempt ran.
    pub ran_again: u64,
    /// Quotas that were looked at because something that counts was placed …
    pub within_quota: u64,
    /// … and those of them that were used up.
    pub quota_full: u64,
    /// Preemptible containers beyond their queue's quota.
    pub beyond_quota: u64,
    /// Settings that queues got.
    pub settings: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.preempted += more.preempted;
        self.went_back += more.went_back;
        self.ran_again += more.ran_again;
        self.within_quota += more.within_quota;
        self.quota_full += more.quota_full;
        self.beyond_quota += more.beyond_quota;
        self.settings += more.settings;
    }
}

/// Which of the counts a finding belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A job that was answered and is not there, or never ends.
    Lost,
    /// Something that may be once was twice.
    Doubled,
    /// A GPU, a container, a message that stays.
    Leaked,
    /// A command that was accepted and not carried out.
    Forgotten,
    Other,
}
