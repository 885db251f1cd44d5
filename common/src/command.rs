//! Operators' commands: the body of `POST /v1/jobs/{id}/commands`, and the rows they become.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::id::JobId;
use crate::job::words;
use crate::problem::{FieldError, Problem};

words! {
    /// What a command does to a job.
    Verb {
        Kill = "kill",
        Hold = "hold",
        Release = "release",
        Retry = "retry",
        Priority = "priority",
    }
}

words! {
    CommandStatus {
        /// It was taken and has not come to its end.
        Pending = "pending",
        Done = "done",
        Failed = "failed",
        /// A crash hid how it ended.
        Unknown = "unknown",
    }
}

/// Between SIGTERM and SIGKILL where nobody says otherwise; Docker's own default.
pub const DEFAULT_GRACE_S: u64 = 10;
/// An hour to write a checkpoint is enough for every model.
pub const MAX_GRACE_S: u64 = 3600;

/// What was asked, as it stands in a request's body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandBody {
    pub command: Verb,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `kill` and `hold`: seconds between SIGTERM and SIGKILL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_s: Option<u64>,
    /// `priority`: the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<i64>,
}

impl CommandBody {
    /// A command with nothing but its verb.
    #[must_use]
    pub fn new(command: Verb) -> Self {
        Self { command, reason: None, grace_s: None, value: None }
    }

    /// Reads and validates a command.
    ///
    /// # Errors
    /// 422 with the field that is wrong.
    pub fn from_value(value: serde_json::Value) -> Result<Self, Problem> {
        let body: Self = crate::pointer::read(value)?;
        let errors = body.check();
        if errors.is_empty() { Ok(body) } else { Err(Problem::invalid(errors)) }
    }

    fn check(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut refuse_if = |wrong: bool, pointer: &str, message: &str| {
            if wrong {
                errors.push(FieldError::new(pointer, message));
            }
        };
        refuse_if(self.grace_s.is_some_and(|s| s > MAX_GRACE_S), "/grace_s", "at most 3600 seconds");
        refuse_if(
            self.grace_s.is_some() && !matches!(self.command, Verb::Kill | Verb::Hold),
            "/grace_s",
            "goes with kill and hold only",
        );
        let reason = self.reason.as_deref().unwrap_or_default();
        refuse_if(reason.len() > 1024 || reason.contains('\0'), "/reason", "at most 1024 bytes, no NUL");
        match (self.command, self.value) {
            (Verb::Priority, None) => refuse_if(true, "/value", "priority needs a value"),
            (Verb::Priority, Some(v)) => {
                refuse_if(!(1..=1000).contains(&v), "/value", "users give 100–200, admins 1–1000");
            }
            (Verb::Kill | Verb::Hold | Verb::Release | Verb::Retry, given) => {
                refuse_if(given.is_some(), "/value", "goes with priority only");
            }
        }
        errors
    }
}

/// A command as it is stored and answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CommandView {
    pub id: Uuid,
    #[schema(value_type = Option<Uuid>)]
    pub job: Option<JobId>,
    pub device: Option<String>,
    pub command: Verb,
    /// The body it came with.
    pub argument: serde_json::Value,
    pub actor: String,
    pub reason: Option<String>,
    pub status: CommandStatus,
    pub exit_code: Option<i64>,
    pub output: Option<String>,
    pub truncated: bool,
    #[serde(with = "crate::time")]
    pub asked_at: Timestamp,
    #[serde(with = "crate::time::option")]
    pub done_at: Option<Timestamp>,
}
