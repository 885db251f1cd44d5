//! Queues: where jobs wait, and by which rules. The body of `POST /v1/queues` and its answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::{FieldError, Problem};
use crate::validate::{MAX_ENTRIES, MAX_SECONDS};

/// In a quota: GPUs of whatever type, all together.
pub const ANY_TYPE: &str = "*";
/// The queue of jobs that name none. It is always there.
pub const DEFAULT_QUEUE: &str = "default";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// 1–63 of a–z, 0–9, `.`, `_` and `-`, the first a letter or digit.
    pub name: String,
    /// Its share of the cluster in proportion to the other queues.
    #[serde(default = "one")]
    pub weight: u32,
    #[serde(default)]
    pub policy: Option<String>,
    #[serde(default)]
    pub placement: Option<String>,
    /// GPUs by type that its jobs may have at once.
    #[serde(default)]
    pub quota: BTreeMap<String, u32>,
    /// GPUs by type, or of all types (`*`), that one user may have in use and waiting here; what goes
    /// beyond waits as `unapproved`.
    #[serde(default)]
    pub user_quota: BTreeMap<String, u32>,
    /// Seconds that a job may run which names no limit; none: for ever.
    #[serde(default)]
    pub default_timeout_s: Option<u64>,
    #[serde(default)]
    pub max_timeout_s: Option<u64>,
    #[serde(default)]
    pub max_jobs: Option<u64>,
    /// Whether an admin approves every job.
    #[serde(default)]
    pub approval: bool,
    #[serde(default)]
    pub members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Member {
    pub user: String,
    pub role: String,
}

fn one() -> u32 {
    1
}

impl Queue {
    /// A queue without any rule.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            weight: 1,
            policy: None,
            placement: None,
            quota: BTreeMap::new(),
            user_quota: BTreeMap::new(),
            default_timeout_s: None,
            max_timeout_s: None,
            max_jobs: None,
            approval: false,
            members: Vec::new(),
        }
    }

    /// Reads and validates a queue.
    ///
    /// # Errors
    /// 422 with a pointer for every field found wrong.
    pub fn from_value(value: serde_json::Value) -> Result<Self, Problem> {
        let queue: Self = crate::pointer::read(value)?;
        let errors = queue.check();
        if errors.is_empty() { Ok(queue) } else { Err(Problem::invalid(errors)) }
    }

    fn check(&self) -> Vec<FieldError> {
        const NOT_YET: &str = "is not supported by this version of Berth; leave it out";
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
        let seconds = self.default_timeout_s.is_some_and(|s| !(1..=MAX_SECONDS).contains(&s));
        refuse_if(seconds, "/default_timeout_s", "1 second to 366 days; leave it out for no limit");
        refuse_if(self.user_quota.len() > MAX_ENTRIES, "/user_quota", "at most 1000 types");
        refuse_if(
            self.user_quota.keys().any(|kind| kind.is_empty() || kind.chars().any(char::is_control)),
            "/user_quota",
            "its keys are GPU types, or \"*\" for all of them together",
        );
        refuse_if(self.weight != 1, "/weight", NOT_YET);
        refuse_if(self.policy.is_some(), "/policy", NOT_YET);
        refuse_if(self.placement.is_some(), "/placement", NOT_YET);
        refuse_if(!self.quota.is_empty(), "/quota", NOT_YET);
        refuse_if(self.max_timeout_s.is_some(), "/max_timeout_s", NOT_YET);
        refuse_if(self.max_jobs.is_some(), "/max_jobs", NOT_YET);
        refuse_if(!self.members.is_empty(), "/members", NOT_YET);
        errors
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
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_queue_is_read_with_its_defaults_and_what_is_wrong_is_told() {
        let queue = Queue::from_value(json!({"name": "nlp", "approval": true})).expect("valid");
        assert_eq!(queue, Queue { approval: true, ..Queue::new("nlp") });
        for (body, pointer) in [
            (json!({"name": "N"}), "/name"),
            (json!({"name": "a", "default_timeout_s": 0}), "/default_timeout_s"),
            (json!({"name": "a", "user_quota": {"": 1}}), "/user_quota"),
            (json!({"name": "a", "user_quota": {"T4": -1}}), "/user_quota/T4"),
            (json!({"name": "a", "color": 1}), "/color"),
            (json!({"name": "a", "weight": 2}), "/weight"),
        ] {
            let problem = Queue::from_value(body.clone()).expect_err("refused");
            let pointers: Vec<_> = problem.errors.iter().map(|e| e.pointer.as_str()).collect();
            assert_eq!(pointers, [pointer], "{body}");
        }
    }
}
