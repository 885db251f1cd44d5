//! Why there is no connection, by what to do about it; and what SQLSTATEs mean for a retry.

use std::time::Duration;

use tokio_postgres::{Config, Error};

/// Why there is no connection. Each says where it looked and what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// Not to be tried again for [`RETRY_REFUSED`](super::RETRY_REFUSED): ten failures lock an
    /// account of openGauss for a day.
    #[error(
        "{at} refuses the sign-in ({why}): check user and password; on openGauss the password must have been \
         set while password_encryption_type was 0 or 1, and the initial user cannot sign in from remote. \
         The next attempt is in 5 minutes, since ten failures lock an account"
    )]
    WrongPassword { at: String, why: String },
    #[error("{at}: there is no database {name:?} on that server: create it, or correct the URL")]
    NoDatabase { at: String, name: String },
    /// Nobody there, or nobody yet: it may be well in a moment.
    #[error("{at} cannot be reached ({why}): check that the database runs and that host and port are right")]
    Unreachable { at: String, why: String },
    #[error("{at}: {why}")]
    Other { at: String, why: String },
}

impl ConnectError {
    /// How long to wait at least before the next attempt.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::WrongPassword { .. } => super::RETRY_REFUSED,
            Self::NoDatabase { .. } | Self::Other { .. } => Duration::from_secs(5),
            Self::Unreachable { .. } => Duration::from_secs(1),
        }
    }

    pub(super) fn silent(at: &str, limit: Duration) -> Self {
        Self::Unreachable { at: at.into(), why: format!("no answer within {} s", limit.as_secs()) }
    }

    pub(super) fn judge(at: &str, config: &Config, error: &Error) -> Self {
        let (at, why) = (at.to_owned(), describe(error));
        match sqlstate(error) {
            Some("28P01" | "28000") => Self::WrongPassword { at, why },
            Some("3D000") => {
                Self::NoDatabase { at, name: config.get_dbname().unwrap_or_default().to_owned() }
            }
            Some(state) if means_away(state) => Self::Unreachable { at, why },
            Some(_) => Self::Other { at, why },
            // What kind of error it is tokio-postgres tells by its text alone.
            None => match error.to_string().as_str() {
                // openGauss's own way to sign in (password_encryption_type 2) is a message that the
                // client takes for a strange SASL, or cannot read at all.
                "authentication error"
                | "unexpected message from server"
                | "error parsing response from server" => Self::WrongPassword { at, why },
                "invalid configuration" if why.contains("password missing") => {
                    Self::WrongPassword { at, why: "it wants a password, and the URL has none".into() }
                }
                "error performing TLS handshake" => Self::Other { at, why: format!("{why}. {TLS_ADVICE}") },
                _ => Self::Unreachable { at, why },
            },
        }
    }
}

const TLS_ADVICE: &str = "sslmode=require wants a server that encrypts and a certificate for that host name by \
                          a root of the system or of SSL_CERT_FILE; sslmode=prefer takes any certificate, \
                          sslmode=disable does not encrypt";

/// The SQLSTATE of an error that the server sent.
#[must_use]
pub fn sqlstate(error: &Error) -> Option<&str> {
    error.code().map(tokio_postgres::error::SqlState::code)
}

/// Whether the same again may do, on a new connection where this one is gone. What a lost answer to
/// COMMIT did is unknown: read before doing it again.
#[must_use]
pub fn is_transient(error: &Error) -> bool {
    match sqlstate(error) {
        // Serialization, deadlock, lock not available, cancelled by a timeout, read-only after a
        // switch-over of the servers.
        Some("40001" | "40P01" | "55P03" | "57014" | "25006") => true,
        Some(state) => means_away(state),
        None => error.is_closed() || is_io(error),
    }
}

/// Connection lost, shutting down, starting up, too many connections.
fn means_away(sqlstate: &str) -> bool {
    sqlstate.starts_with("08") || matches!(sqlstate, "57P01" | "57P02" | "57P03" | "53300")
}

fn is_io(error: &Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if error.is::<std::io::Error>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// An error and what caused it, in one line.
#[must_use]
pub fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
