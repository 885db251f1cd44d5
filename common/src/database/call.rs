//! A limit on the client's side of a call. Dropping a query's future does not end the query: it
//! runs on, and commits. So the server is told to stop, and its answer is awaited a little longer.

use std::convert::Infallible;
use std::time::Duration;

use tokio_postgres::CancelToken;

use super::tls::Tls;

/// How long the server may take to obey a cancel; after it the connection counts as lost.
pub const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// Ends the statement that runs on a connection. It is sent over a connection of its own, and may
/// come too late: then nothing happens.
#[derive(Clone)]
pub struct Cancel {
    token: CancelToken,
    tls: Tls,
}

/// The server answered neither the call nor the cancel. What the call did is unknown, and its
/// connection must be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the database did not answer within {} ms, nor obey a cancel", limit.as_millis())]
pub struct TimedOut {
    pub limit: Duration,
}

impl Cancel {
    pub(super) fn new(token: CancelToken, tls: Tls) -> Self {
        Self { token, tls }
    }

    /// Asks the server to end the running statement. An error means that it could not be asked.
    pub async fn cancel(&self) -> Result<(), tokio_postgres::Error> {
        match &self.tls {
            Tls::Off => self.token.cancel_query(tokio_postgres::NoTls).await,
            Tls::On(make) => self.token.cancel_query(make.clone()).await,
        }
    }
}

/// Waits for `call` at most `limit`, then cancels it and waits [`CANCEL_GRACE`] for its end. A call
/// that was cancelled in time comes back with its own error, SQLSTATE 57014, and the connection
/// stays good; one that was done after all comes back as done.
pub async fn with_timeout<F: Future>(
    cancel: &Cancel,
    limit: Duration,
    call: F,
) -> Result<F::Output, TimedOut> {
    let mut call = std::pin::pin!(call);
    if let Ok(output) = tokio::time::timeout(limit, &mut call).await {
        return Ok(output);
    }
    let stop = async {
        if let Err(error) = cancel.cancel().await {
            tracing::debug!(error = %super::error::describe(&error), "a statement cannot be cancelled");
        }
        // The call's end, or the grace below, decides.
        std::future::pending::<Infallible>().await
    };
    tokio::time::timeout(CANCEL_GRACE, async {
        tokio::select! {
            output = &mut call => output,
            never = stop => match never {},
        }
    })
    .await
    .map_err(|_| TimedOut { limit })
}
