//! What Docker answers instead of doing it, and what its words about images mean.

use bollard::errors::Error;

/// Of Docker's words; what it says beyond is a repetition of the request.
const MAX_WORDS: usize = 4096;

/// What Docker answered instead of doing it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DockerError {
    /// The daemon did not answer: nothing is known about the call.
    #[error("Docker does not answer: {0}")]
    Away(String),
    #[error("{0}")]
    NotFound(String),
    /// Another container has the name, or this one is not in the state for it.
    #[error("{0}")]
    Conflict(String),
    /// It will be refused each time.
    #[error("{0}")]
    Invalid(String),
    /// Docker failed; another try may do.
    #[error("{0}")]
    Failed(String),
}

impl From<Error> for DockerError {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                let words = cut(&message);
                match status_code {
                    404 => Self::NotFound(words),
                    409 => Self::Conflict(words),
                    400 | 401 | 403 => Self::Invalid(words),
                    _ => Self::Failed(words),
                }
            }
            Error::SocketNotFoundError(path) => Self::Away(format!("there is no socket {path}")),
            Error::DockerStreamError { error } => Self::Failed(cut(&error)),
            other => Self::Away(cut(&other.to_string())),
        }
    }
}

fn cut(words: &str) -> String {
    words
        .chars()
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= MAX_WORDS).then_some(c)
        })
        .collect()
}

/// Docker hides in its words what a registry answered.
pub(super) fn refused_pull(error: DockerError) -> DockerError {
    const REGISTRY_AWAY: [&str; 6] = [
        "no such host",
        "dial tcp",
        "timeout",
        "connection refused",
        "server misbehaving",
        "toomanyrequests",
    ];
    const NO_SUCH_IMAGE: [&str; 7] = [
        "not found",
        "does not exist",
        "denied",
        "unauthorized",
        "manifest unknown",
        "no matching manifest",
        "invalid reference",
    ];
    let DockerError::Failed(words) = &error else { return error };
    let lower = words.to_ascii_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| lower.contains(phrase));
    if !says(&REGISTRY_AWAY) && says(&NO_SUCH_IMAGE) { DockerError::Invalid(words.clone()) } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_that_is_away_is_not_an_image_that_is_not_there() {
        let kind = |words: &str| refused_pull(DockerError::Failed(words.into()));
        let away = "Get \"https://r.example/v2/\": dial tcp: lookup r.example: no such host";
        assert_eq!(kind(away), DockerError::Failed(away.into()));
        let denied = "pull access denied for x, repository does not exist or may require 'docker login'";
        assert_eq!(kind(denied), DockerError::Invalid(denied.into()));
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        assert_eq!(cut(&"ä".repeat(5000)).len(), MAX_WORDS);
    }
}
