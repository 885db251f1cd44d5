//! How a request fails, and how that is told: the detail, then each field that is wrong.
//!
//! What must always hold: nothing that a server wrote commands the terminal.

use std::time::Duration;

use berth_common::problem::{FieldError, Problem};

use crate::output::escape;

#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nobody listens there: nothing was sent.
    #[error(
        "cannot reach the scheduler at {url}: {cause}\nIs it running? `make up` starts one; BERTH_URL or --url says where it is."
    )]
    Unreachable { url: String, cause: String },
    /// It was sent, and whether it was done is not known.
    #[error("no answer from {url}: {cause}")]
    Broken { url: String, cause: String },
    #[error("{}", refusal(.problem, .hint.as_deref()))]
    Refused { problem: Box<Problem>, hint: Option<String>, retry_after: Option<Duration> },
    #[error("{url} answered what this client does not understand: {cause}")]
    NotUnderstood { url: String, cause: String },
}

/// The detail, then each field that is wrong.
fn refusal(problem: &Problem, hint: Option<&str>) -> String {
    let what = if problem.detail.is_empty() { &problem.title } else { &problem.detail };
    let field = |error: &FieldError| {
        let field = error.pointer.trim_start_matches('/').replace('/', ".");
        let field = if field.is_empty() { "the request" } else { &field };
        format!("{}: {}", escape(field), escape(&error.message))
    };
    let mut text = match problem.errors.as_slice() {
        // The server's own words for one field are this field again.
        [one] if *what == format!("{}: {}", one.pointer, one.message) => field(one),
        errors => errors.iter().fold(escape(what), |text, error| format!("{text}\n  {}", field(error))),
    };
    if let Some(hint) = hint {
        text.push('\n');
        text.push_str(hint);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_every_field_and_commands_no_terminal() {
        let mut problem = Problem::invalid(vec![
            FieldError::new("/resources/gpus", "at most 1024"),
            FieldError::new("", "is \x1b[2J wrong"),
        ]);
        problem.detail = "invalid".into();
        assert_eq!(
            refusal(&problem, Some("hint")),
            "invalid\n  resources.gpus: at most 1024\n  the request: is \\u{1b}[2J wrong\nhint"
        );
        assert_eq!(
            refusal(&Problem::invalid_field("/env/A", "is set by Berth itself"), None),
            "env.A: is set by Berth itself"
        );
    }
}
