//! Queues: where jobs wait, and by which rules. The body of `POST /v1/queues` and its answer.
//!
//! What can be said of a queue without knowing the cluster is checked here; whether its members exist is
//! for the scheduler's core.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::job::words;
use crate::problem::{FieldError, Problem};
use crate::validate::{MAX_ENTRIES, MAX_SECONDS};

/// In a quota: GPUs of whatever type, all together.
pub const ANY_TYPE: &str = "*";
/// The queue of jobs that name none. It is always there.
pub const DEFAULT_QUEUE: &str = "default";
/// A queue counts at most as much as a thousand others: finer shares nobody could tell apart, and sums of
/// weights stay small.
pub const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=1000;
/// More jobs than this no scheduler has; a larger number is a typing mistake. Without a cap a queue has none.
pub const MAX_JOBS: u64 = 1_000_000_000;

words! {
    /// The order inside a queue, and what happens behind the first job that does not fit.
    #[derive(Default)]
    Policy {
        /// A job rises as its wait grows relative to the time it asked for (expansion factor); what does not
        /// delay a promised start may pass.
        #[default]
        ExpansionFactor = "xf",
        /// First come, first served: the first job that does not fit blocks its queue.
        Fifo = "fifo",
        /// First come, first served; what does not delay the first job that does not fit may pass.
        FifoBackfill = "fifo-backfill",
    }
}

words! {
    /// How a device is chosen among those that suffice.
    #[derive(Default)]
    Placement {
        /// The fullest, so that whole devices stay free.
        #[default]
        Pack = "pack",
        /// The emptiest.
        Spread = "spread",
        /// The one where it spoils least for the jobs that usually come (fragmentation gradient descent).
        Fgd = "fgd",
    }
}

words! {
    /// What a member may do in a queue.
    MemberRole {
        /// Approves its jobs, kills, holds and releases them, and sets their priority, as the cluster's admins do.
        Admin = "admin",
        /// Submits to it.
        Member = "member",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// 1–63 of a–z, 0–9, `.`, `_` and `-`, the first a letter or digit.
    pub name: String,
    /// Its share of the cluster in proportion to the other queues, 1–1000.
    #[serde(default = "one", deserialize_with = "or_one")]
    pub weight: u32,
    /// The order of its jobs; null is `xf`.
    #[serde(default, deserialize_with = "or_default")]
    pub policy: Policy,
    /// How devices are chosen for its jobs; null is `pack`.
    #[serde(default, deserialize_with = "or_default")]
    pub placement: Placement,
    /// GPUs by type, or of all types (`*`), that its jobs may have at once. Preemptible jobs may use what is
    /// idle beyond it.
    #[serde(default)]
    pub quota: BTreeMap<String, u32>,
    /// GPUs by type, or of all types (`*`), that one user may have in use and waiting here; what goes
    /// beyond waits as `unapproved`.
    #[serde(default)]
    pub user_quota: BTreeMap<String, u32>,
    /// Seconds that a job may run which names no limit; none: `max_timeout_s`.
    #[serde(default)]
    pub default_timeout_s: Option<u64>,
    /// The longest limit in seconds that a job may name; none: any, or no limit at all.
    #[serde(default)]
    pub max_timeout_s: Option<u64>,
    /// Jobs that have not exited that it may have; 0: it takes none.
    #[serde(default)]
    pub max_jobs: Option<u64>,
    /// Whether an admin approves every job.
    #[serde(default)]
    pub approval: bool,
    /// Who may submit; none: everybody. Admins of the cluster always may.
    #[serde(default)]
    pub members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Member {
    pub user: String,
    pub role: MemberRole,
}

fn one() -> u32 {
    1
}

fn or_one<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_else(one))
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Queue {
    /// A queue without any rule.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            weight: one(),
            policy: Policy::default(),
            placement: Placement::default(),
            quota: BTreeMap::new(),
            user_quota: BTreeMap::new(),
            default_timeout_s: None,
            max_timeout_s: None,
            max_jobs: None,
            approval: false,
            members: Vec::new(),
        }
    }

    /// Reads and validates a queue. Its members are in order of their names then.
    ///
    /// # Errors
    /// 422 with a pointer for every field found wrong.
    pub fn from_value(value: serde_json::Value) -> Result<Self, Problem> {
        let mut queue: Self = crate::pointer::read(value)?;
        let errors = queue.check();
        if !errors.is_empty() {
            return Err(Problem::invalid(errors));
        }
        queue.members.sort();
        Ok(queue)
    }

    /// Seconds that a job may run which names no limit of its own.
    #[must_use]
    pub fn limit_of_others_s(&self) -> Option<u64> {
        self.default_timeout_s.or(self.max_timeout_s)
    }

    /// What `user` is here; none: no member.
    #[must_use]
    pub fn role_of(&self, user: &str) -> Option<MemberRole> {
        self.members.iter().find(|member| member.user == user).map(|member| member.role)
    }

    fn check(&self) -> Vec<FieldError> {
        const SECONDS: &str = "1 second to 366 days; leave it out for no limit";
        let mut errors = Vec::new();
        let mut refuse_if = |wrong: bool, pointer: &str, message: &str| {
            if wrong {
                errors.push(FieldError::new(pointer, message));
            }
        };
        refuse_if(
            !is_queue_name(&self.name),
            "/name",
            "1–63 characters out of a–z, 0–9, '.', '_' and '-', the first a letter or digit",
        );
        refuse_if(!WEIGHTS.contains(&self.weight), "/weight", "1 to 1000");
        for (quota, pointer) in [(&self.quota, "/quota"), (&self.user_quota, "/user_quota")] {
            refuse_if(quota.len() > MAX_ENTRIES, pointer, "at most 1000 types");
            refuse_if(
                quota.keys().any(|kind| kind.is_empty() || kind.chars().any(char::is_control)),
                pointer,
                "its keys are GPU types, or \"*\" for all of them together",
            );
        }
        let wrong = |limit: Option<u64>| limit.is_some_and(|s| !(1..=MAX_SECONDS).contains(&s));
        refuse_if(wrong(self.default_timeout_s), "/default_timeout_s", SECONDS);
        refuse_if(wrong(self.max_timeout_s), "/max_timeout_s", SECONDS);
        let below = self.default_timeout_s.zip(self.max_timeout_s).is_some_and(|(usual, max)| max < usual);
        refuse_if(below, "/max_timeout_s", "must not be less than default_timeout_s");
        refuse_if(
            self.max_jobs.is_some_and(|jobs| jobs > MAX_JOBS),
            "/max_jobs",
            "at most 1000000000; leave it out for no cap",
        );
        errors.extend(self.check_members());
        errors
    }

    fn check_members(&self) -> Vec<FieldError> {
        if self.members.len() > MAX_ENTRIES {
            return vec![FieldError::new("/members", format!("at most {MAX_ENTRIES}"))];
        }
        let mut seen = BTreeSet::new();
        let twice = self.members.iter().enumerate().filter(|(_, member)| !seen.insert(member.user.as_str()));
        twice
            .map(|(i, member)| {
                let message = format!("{:?} is named twice: a user has one role in a queue", member.user);
                FieldError::new(format!("/members/{i}/user"), message)
            })
            .collect()
    }
}

/// Whether `name` can name a queue: it stands in routing keys and paths.
#[must_use]
pub fn is_queue_name(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(|&c| plain(c))
        && bytes.iter().all(|&c| plain(c) || matches!(c, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests;
