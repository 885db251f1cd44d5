//! How a command fails, which exit code that is, and what the person at the terminal reads.

use std::io;
use std::process::ExitCode;

use crate::output;
use crate::request_error::RequestError;

/// Some request failed, or its answer cannot be used.
pub const REQUEST_FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;
/// What a shell reports of a program that SIGPIPE ended, as in `berth ls | head -1`.
const BROKEN_PIPE: u8 = 128 + 13;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The request went well, but it is not what was wanted.
    #[error("{0}")]
    Unmet(String),
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

/// Tells `failure` on standard error and answers the exit code.
pub fn report(failure: &Failure) -> ExitCode {
    let code = match failure {
        Failure::Usage(_) => WRONG_USAGE,
        Failure::Request(_) | Failure::Unmet(_) => REQUEST_FAILED,
        // Whoever read our output has seen enough; there is nobody to tell.
        Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return BROKEN_PIPE.into(),
        Failure::Output(_) => REQUEST_FAILED,
    };
    output::say(&format!("berth: {failure}"));
    code.into()
}
