//! Operators' commands: the body of `POST /v1/jobs/{id}/commands`, and the rows they become.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::id::JobId;
use crate::job::words;
use crate::problem::{FieldError, Problem};

words! {
    /// What a command does to a job, or to a device.
    Verb {
        Kill = "kill",
        Hold = "hold",
        Release = "release",
        Retry = "retry",
        Approve = "approve",
        Priority = "priority",
        Timeout = "timeout",
        Exec = "exec",
        /// Of a device: nothing new starts there.
        Drain = "drain",
        /// Of a device: it takes jobs again.
        Resume = "resume",
    }
}

impl Verb {
    /// Whether it aims at a device; the others aim at a job.
    #[must_use]
    pub const fn is_for_device(self) -> bool {
        matches!(self, Self::Drain | Self::Resume)
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

/// What is kept of an exec's output.
pub const MAX_OUTPUT: usize = 64 << 10;
/// Seconds that an exec may take where nobody says otherwise.
pub const DEFAULT_EXEC_S: u64 = 60;
/// What takes longer is a job.
pub const MAX_EXEC_S: u64 = 3600;
/// Bytes of an exec's arguments together: they travel in messages and stand in rows.
const MAX_ARGV: usize = 64 << 10;
/// Fields of the specification that a retry may change: what is run and with which limits, not where
/// the job belongs.
pub const RETRY_FIELDS: &[&str] = &[
    "image",
    "command",
    "env",
    "workdir",
    "resources",
    "priority",
    "timeout_s",
    "expected_s",
    "retries",
    "backoff_s",
    "not_before",
];

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
    /// `priority`: the new one. `timeout`: the seconds that it may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<i64>,
    /// `retry`: fields of the specification that are to be different.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub set: Option<serde_json::Map<String, serde_json::Value>>,
    /// `exec`: the program and its arguments, run without a shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// `exec`: seconds that it may take; 60 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u64>,
    /// `exec`: in which replica; 0 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<u32>,
    /// `drain`: stop what runs there too, and place it elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<bool>,
    /// `drain`: why; shown with the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl CommandBody {
    /// A command with nothing but its verb.
    #[must_use]
    pub fn new(command: Verb) -> Self {
        Self {
            command,
            reason: None,
            grace_s: None,
            value: None,
            set: None,
            argv: None,
            timeout_s: None,
            replica: None,
            now: None,
            note: None,
        }
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
        let mut errors = self.misplaced();
        let mut refuse_if = |wrong: bool, pointer: &str, message: &str| {
            if wrong {
                errors.push(FieldError::new(pointer, message));
            }
        };
        let long =
            |text: &Option<String>| text.as_deref().is_some_and(|t| t.len() > 1024 || t.contains('\0'));
        refuse_if(self.grace_s.is_some_and(|s| s > MAX_GRACE_S), "/grace_s", "at most 3600 seconds");
        refuse_if(long(&self.reason), "/reason", "at most 1024 bytes, no NUL");
        refuse_if(long(&self.note), "/note", "at most 1024 bytes, no NUL");
        let timeout =
            |v: i64| u64::try_from(v).is_ok_and(|v| (1..=crate::validate::MAX_SECONDS).contains(&v));
        match (self.command, self.value) {
            (Verb::Priority, value) => refuse_if(
                !value.is_some_and(|v| (1..=1000).contains(&v)),
                "/value",
                "priority needs a value: users give 100–200, admins 1–1000",
            ),
            (Verb::Timeout, value) => {
                refuse_if(
                    !value.is_some_and(timeout),
                    "/value",
                    "timeout needs a value: seconds, at least 1",
                );
            }
            (
                Verb::Kill
                | Verb::Hold
                | Verb::Release
                | Verb::Retry
                | Verb::Approve
                | Verb::Exec
                | Verb::Drain
                | Verb::Resume,
                _,
            ) => {}
        }
        for key in self.set.iter().flat_map(serde_json::Map::keys) {
            let pointer = format!("/set/{}", crate::pointer::escape(key));
            refuse_if(
                !RETRY_FIELDS.contains(&key.as_str()),
                &pointer,
                &format!(
                    "a retry can change {}; submit a new job for anything else",
                    RETRY_FIELDS.join(", ")
                ),
            );
        }
        if self.command == Verb::Exec {
            let argv = self.argv.as_deref().unwrap_or_default();
            let empty = argv.first().is_none_or(String::is_empty);
            refuse_if(empty, "/argv", "exec needs a program and its arguments, e.g. [\"nvidia-smi\"]");
            refuse_if(argv.iter().any(|a| a.contains('\0')), "/argv", "must not contain a NUL character");
            let bytes: usize = argv.iter().map(String::len).sum();
            refuse_if(bytes > MAX_ARGV, "/argv", "at most 65536 bytes together");
            let wrong = self.timeout_s.is_some_and(|s| !(1..=MAX_EXEC_S).contains(&s));
            refuse_if(wrong, "/timeout_s", "1 to 3600 seconds");
        }
        errors
    }

    /// Fields that belong to other commands.
    fn misplaced(&self) -> Vec<FieldError> {
        let verb = self.command;
        let fields: [(bool, &str, &[Verb]); 8] = [
            (self.grace_s.is_some(), "/grace_s", &[Verb::Kill, Verb::Hold]),
            (self.value.is_some(), "/value", &[Verb::Priority, Verb::Timeout]),
            (self.set.is_some(), "/set", &[Verb::Retry]),
            (self.argv.is_some(), "/argv", &[Verb::Exec]),
            (self.timeout_s.is_some(), "/timeout_s", &[Verb::Exec]),
            (self.replica.is_some(), "/replica", &[Verb::Exec]),
            (self.now.is_some(), "/now", &[Verb::Drain]),
            (self.note.is_some(), "/note", &[Verb::Drain]),
        ];
        let wrong = fields.iter().filter(|(given, _, verbs)| *given && !verbs.contains(&verb));
        wrong
            .map(|(_, pointer, verbs)| {
                let verbs: Vec<_> = verbs.iter().map(|v| v.as_str()).collect();
                FieldError::new(*pointer, format!("goes with {} only", verbs.join(" and ")))
            })
            .collect()
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
