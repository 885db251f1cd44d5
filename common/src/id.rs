//! Names of things: jobs, attempts, replicas, and the containers that run them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A job's identifier: version 5 of (owner, queue, idempotency key), or version 7 where there is no key.
pub type JobId = Uuid;

/// The only cell for now; every key of a cell's tables begins with it.
pub const CELL: i32 = 0;

/// Under which version-5 job ids are made. Fixed for ever: another value would make repeated
/// submissions new jobs.
const JOB_NAMESPACE: Uuid = Uuid::from_u128(0x6b1f_4f0a_7c58_4a8e_9d3c_be27_1a5e_0d11);

/// The id of the job that `owner` submits to `queue` under the idempotency key `key`.
#[must_use]
pub fn job_id_for_key(owner: &str, queue: &str, key: &str) -> JobId {
    // NUL cannot stand in any of the three, so no two triples are written alike.
    Uuid::new_v5(&JOB_NAMESPACE, format!("{owner}\0{queue}\0{key}").as_bytes())
}

/// The id of the job at place `index` (from 0) of an array.
#[must_use]
pub fn array_element_id(array: Uuid, index: u32) -> JobId {
    Uuid::new_v5(&array, &index.to_be_bytes())
}

/// One container of one placement of a job. Attempts are numbered 1, 2, 3 … and never reused;
/// replicas 0 … n−1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Replica {
    pub job: JobId,
    pub attempt: u32,
    pub replica: u32,
}

impl Replica {
    /// The name of its container, which follows from job, attempt and replica alone: a second
    /// `create` of the same one is refused by Docker, whoever asks.
    #[must_use]
    pub fn container_name(&self) -> String {
        format!("berth-{}-{}-{}", self.job, self.attempt, self.replica)
    }
}

impl std::fmt::Display for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} attempt {} replica {}", self.job, self.attempt, self.replica)
    }
}

/// Whether `name` can name a device: `[a-z0-9][a-z0-9.-]{0,62}`.
#[must_use]
pub fn is_device_name(name: &str) -> bool {
    let lower = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(|&c| lower(c))
        && bytes.iter().all(|&c| lower(c) || c == b'.' || c == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_names_the_same_job_and_its_parts_do_not_run_together() {
        assert_eq!(job_id_for_key("ann", "default", "k"), job_id_for_key("ann", "default", "k"));
        assert_ne!(job_id_for_key("ann", "default", "k"), job_id_for_key("ann", "defaultk", ""));
        assert_ne!(job_id_for_key("ann", "default", "k"), job_id_for_key("bob", "default", "k"));
    }

    #[test]
    fn device_names_follow_the_pattern() {
        for good in ["a", "gpu1.lab", "dev-1", "0", &"a".repeat(63)] {
            assert!(is_device_name(good), "{good}");
        }
        for bad in ["", "-a", ".a", "Gpu", "a_b", "a b", "ä", &"a".repeat(64)] {
            assert!(!is_device_name(bad), "{bad}");
        }
    }
}
