//! How a job ended, in a word, in a line, and as an exit code.

use berth_common::job::{JobView, Outcome};

use crate::duration;
use crate::failure::REQUEST_FAILED;
use crate::output::escape;

/// 128 + SIGKILL: a job that was killed and has no exit code of its own.
const KILLED: u8 = 128 + 9;
/// What timeout(1) says.
const TIMED_OUT: u8 = 124;

/// The exit code with which `run` and `wait` answer for `job`, which is over. Only success is 0:
/// a killed job that ended with 0 in its grace time did not do its work.
#[must_use]
pub fn exit_code(job: &JobView) -> u8 {
    let own = job.exit_code.and_then(|code| u8::try_from(code).ok()).filter(|&code| code != 0);
    match job.outcome {
        Some(Outcome::Succeeded) => 0,
        Some(Outcome::Failed) => own.unwrap_or(REQUEST_FAILED),
        Some(Outcome::Killed) => own.unwrap_or(KILLED),
        Some(Outcome::TimedOut) => own.unwrap_or(TIMED_OUT),
        Some(Outcome::Error) | None => REQUEST_FAILED,
    }
}

/// `running`, `exited/failed`, `pending (held)`, `running (kill)`.
#[must_use]
pub fn status(job: &JobView) -> String {
    let note = match (job.outcome, job.stopping, job.held) {
        (Some(outcome), _, _) => return format!("{}/{outcome}", job.status),
        (None, Some(stopping), _) => format!(" (stopping: {stopping})"),
        (None, None, true) => " (held)".to_owned(),
        (None, None, false) => String::new(),
    };
    format!("{}{note}", job.status)
}

/// `succeeded after 3m02s`, `failed with exit code 3 after 5s: …`.
#[must_use]
pub fn ending(job: &JobView) -> String {
    let mut text = job.outcome.map_or_else(|| job.status.to_string(), |outcome| outcome.to_string());
    if let Some(code) = job.exit_code.filter(|&code| code != 0) {
        text.push_str(&format!(" with exit code {code}"));
    }
    if let (Some(started), Some(exited)) = (job.started_at, job.exited_at) {
        text.push_str(&format!(" after {}", duration::between(started, exited)));
    }
    // A container's ending is told as "exit code 3", which stands there already.
    let repeated = job.exit_code.map(|code| format!("exit code {code}"));
    if let Some(error) = job.error.as_ref().filter(|&error| Some(error) != repeated.as_ref()) {
        text.push_str(&format!(": {}", escape(error)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(outcome: &str, exit_code: Option<i64>) -> JobView {
        let mut job = crate::tests::job_json("0192abcd-1234-7000-8000-000000000001", "exited", Some(outcome));
        job["exit_code"] = exit_code.into();
        serde_json::from_value(job).expect("a job")
    }

    #[test]
    fn only_success_is_zero() {
        for (outcome, own, code) in [
            ("succeeded", Some(0), 0),
            ("failed", Some(3), 3),
            ("failed", None, 1),
            ("failed", Some(-1), 1),
            ("failed", Some(256), 1),
            ("killed", None, 137),
            ("killed", Some(0), 137),
            ("killed", Some(143), 143),
            ("timed_out", None, 124),
            ("timed_out", Some(137), 137),
            ("error", Some(0), 1),
            ("error", None, 1),
        ] {
            assert_eq!(exit_code(&ended(outcome, own)), code, "{outcome} {own:?}");
        }
    }

    #[test]
    fn an_ending_says_how_and_why() {
        let mut job = ended("error", None);
        job.error = Some("image not found\n".into());
        assert_eq!(ending(&job), "error after 1m30s: image not found\\n");
        assert_eq!(ending(&ended("failed", Some(3))), "failed with exit code 3 after 1m30s");
        assert_eq!(status(&ended("failed", Some(3))), "exited/failed");
    }
}
