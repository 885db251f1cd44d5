//! The job as its users see it: statuses, outcomes, reasons, and the answer of `GET /v1/jobs/{id}`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::id::JobId;
use crate::spec::JobSpec;

/// Declares an enumeration whose words are the same in JSON, in the database and on the screen.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        // By hand: the derive does not see a word that a macro was given.
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .enum_values(Some(Self::ALL.iter().map(|value| value.as_str())))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(word: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|v| v.as_str() == word).ok_or_else(|| {
                    let all: Vec<_> = Self::ALL.iter().map(|v| v.as_str()).collect();
                    format!("{word:?} is none of {}", all.join(", "))
                })
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Where a job is in its life.
    Status {
        /// Waits for an approval.
        Unapproved = "unapproved",
        /// Waits for GPUs, for a time, or because it is held.
        Pending = "pending",
        /// GPUs are reserved and the start message is on its way.
        Scheduled = "scheduled",
        /// Every replica's container runs.
        Running = "running",
        /// Over; the outcome says how.
        Exited = "exited",
    }
}

impl Status {
    /// Whether a job in this status has GPUs reserved.
    #[must_use]
    pub const fn is_placed(self) -> bool {
        matches!(self, Self::Scheduled | Self::Running)
    }
}

words! {
    /// How a job ended.
    Outcome {
        Succeeded = "succeeded",
        Failed = "failed",
        Killed = "killed",
        TimedOut = "timed_out",
        /// Too many faults, or it can never start.
        Error = "error",
    }
}

words! {
    /// Why a placed job is being stopped, weakest first: a stronger wish replaces a weaker one.
    StopReason {
        Sibling = "sibling",
        Preempt = "preempt",
        Drain = "drain",
        Hold = "hold",
        Timeout = "timeout",
        Kill = "kill",
    }
}

words! {
    /// Where one replica of an attempt is.
    AttemptStatus {
        Pending = "pending",
        Running = "running",
        Exited = "exited",
    }
}

/// Why a job does not run yet: a code, a sentence, and the numbers behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    pub code: String,
    pub text: String,
    #[serde(flatten)]
    #[schema(value_type = std::collections::HashMap<String, serde_json::Value>)]
    pub numbers: serde_json::Map<String, serde_json::Value>,
}

/// One change of a waiting job's specification that would let it start sooner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Suggestion {
    /// A JSON pointer into the specification, e.g. `/resources/gpus`.
    pub field: String,
    /// What would stand there; null: its default.
    pub value: serde_json::Value,
    /// What would come of it, e.g. "would start now with 4 GPUs instead of 8".
    pub text: String,
}

/// What `GET /v1/jobs/{id}/why` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WhyView {
    /// Of the job; where an array was asked about, of the first of its jobs that waits.
    #[schema(value_type = Uuid)]
    pub id: JobId,
    pub status: Status,
    /// While the job waits or starts.
    pub reason: Option<Reason>,
    /// Its place in its queue, from 1, while it is pending.
    pub position: Option<u64>,
    /// When it will start at the latest, where that has been promised.
    #[serde(with = "crate::time::option")]
    pub start_by: Option<Timestamp>,
    /// All of it in plain words; also what a job does that does not wait.
    pub text: String,
    /// What would let it start sooner, the most useful one first.
    pub changes: Vec<Suggestion>,
}

/// A GPU that is reserved for a job: its number in the database and its type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GpuView {
    pub id: i64,
    #[serde(rename = "type")]
    pub kind: String,
}

/// What `GET /v1/jobs/{id}` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    #[schema(value_type = Uuid)]
    pub id: JobId,
    pub name: String,
    pub owner: String,
    pub queue: String,
    pub status: Status,
    pub outcome: Option<Outcome>,
    pub held: bool,
    pub stopping: Option<StopReason>,
    /// While the job waits or starts.
    pub reason: Option<Reason>,
    /// Its place in its queue, from 1, while it is pending.
    pub position: Option<u64>,
    /// When it will start at the latest, where that has been promised.
    #[serde(with = "crate::time::option")]
    pub start_by: Option<Timestamp>,
    pub priority: i32,
    /// The array that it belongs to, and its place in it, from 0.
    pub array: Option<Uuid>,
    pub array_index: Option<u32>,
    /// Number of its newest attempt; 0 before the first.
    pub attempt: u32,
    /// Endings by its own doing.
    pub failures: u32,
    /// Endings that were not its own doing.
    pub faults: u32,
    pub spec: JobSpec,
    /// The device of its newest attempt.
    pub device: Option<String>,
    /// The GPUs of its newest attempt.
    pub gpus: Vec<GpuView>,
    pub exit_code: Option<i64>,
    pub error: Option<String>,
    #[serde(with = "crate::time")]
    pub submitted_at: Timestamp,
    #[serde(with = "crate::time::option")]
    pub scheduled_at: Option<Timestamp>,
    #[serde(with = "crate::time::option")]
    pub started_at: Option<Timestamp>,
    #[serde(with = "crate::time::option")]
    pub exited_at: Option<Timestamp>,
    /// Oldest first.
    pub attempts: Vec<AttemptView>,
}

/// One replica of one placement of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    pub attempt: u32,
    pub replica: u32,
    pub device: String,
    pub session: i64,
    pub status: AttemptStatus,
    pub gpus: Vec<GpuView>,
    /// Name of a port to its number on the host.
    pub ports: std::collections::BTreeMap<String, u16>,
    pub exit_code: Option<i64>,
    pub oom: bool,
    pub error: Option<String>,
    #[serde(with = "crate::time")]
    pub scheduled_at: Timestamp,
    #[serde(with = "crate::time::option")]
    pub started_at: Option<Timestamp>,
    #[serde(with = "crate::time::option")]
    pub exited_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_same_in_json_and_text() {
        for &status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
            assert_eq!(serde_json::to_value(status).expect("json"), status.as_str());
        }
        assert!("gone".parse::<Status>().expect_err("refused").contains("pending"));
    }

    #[test]
    fn a_kill_is_the_strongest_reason_to_stop() {
        assert_eq!(StopReason::ALL.iter().max(), Some(&StopReason::Kill));
    }
}
