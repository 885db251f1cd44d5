//! When a request is sent again, and after how long.
//!
//! What must always hold: what may already have been done is sent again only where the server knows
//! it by its idempotency key, or where it changes nothing.

use std::time::Duration;

use tokio::time::Instant;

use crate::output;
use crate::request_error::RequestError;

/// A pause grows up to this; a server that comes back is found within it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A server's own wish is followed up to a minute.
const LONGEST_WISH: Duration = Duration::from_secs(60);

/// A person waits so long for a list before the refusal is the better answer.
pub const READ: Duration = Duration::from_secs(15);
/// A submission or a command outlives a restart of the scheduler or the broker.
pub const DELIVER: Duration = Duration::from_secs(60);

/// What a failure says about sending it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It would fail again.
    Final,
    /// The server says: not now, and nothing was done.
    NotNow,
    /// Nobody listens; nothing was done.
    NobodyThere,
    /// It may have been done.
    Unknown,
}

#[must_use]
pub fn kind(error: &RequestError) -> Kind {
    match error {
        RequestError::Unreachable { .. } => Kind::NobodyThere,
        RequestError::Broken { .. } => Kind::Unknown,
        RequestError::Refused { problem, .. } => match problem.status {
            429 | 503 => Kind::NotNow,
            // A proxy's words for a server that is away or slow.
            502 | 504 => Kind::Unknown,
            _ => Kind::Final,
        },
        RequestError::NotUnderstood { .. } => Kind::Final,
    }
}

/// Growing pauses between tries, until a deadline if there is one.
pub struct Patience {
    deadline: Option<Instant>,
    pause: Duration,
    told: bool,
}

impl Patience {
    #[must_use]
    pub fn until(deadline: Option<Instant>) -> Self {
        Self { deadline, pause: FIRST_PAUSE, told: false }
    }

    #[must_use]
    pub fn lasting(time: Duration) -> Self {
        Self::until(Some(Instant::now() + time))
    }

    /// How long to pause after `error`; `None` when the deadline would pass meanwhile.
    fn next_pause(&mut self, error: &RequestError) -> Option<Duration> {
        let wish = match error {
            RequestError::Refused { retry_after, .. } => *retry_after,
            RequestError::Unreachable { .. }
            | RequestError::Broken { .. }
            | RequestError::NotUnderstood { .. } => None,
        };
        let pause = wish.map_or(self.pause, |wish| wish.min(LONGEST_WISH));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        let in_time = self.deadline.is_none_or(|deadline| Instant::now() + pause <= deadline);
        in_time.then_some(pause)
    }

    /// Pauses after `error`, having said once that it does.
    ///
    /// # Errors
    /// `error` itself, when the deadline would pass meanwhile.
    pub async fn pause(&mut self, error: RequestError) -> Result<(), RequestError> {
        let Some(pause) = self.next_pause(&error) else { return Err(error) };
        if !std::mem::replace(&mut self.told, true) {
            let first_line = error.to_string().lines().next().unwrap_or_default().to_owned();
            output::say(&format!("berth: {first_line}; trying again"));
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// It went well: the next failure is a new one.
    pub fn restored(&mut self) {
        self.pause = FIRST_PAUSE;
        self.told = false;
    }
}

/// Asks until there is an answer, as long as the server only says "not now".
///
/// # Errors
/// The first other failure, or the last one when `patience` ends.
pub async fn while_not_now<T>(
    mut patience: Patience,
    mut ask: impl AsyncFnMut() -> Result<T, RequestError>,
) -> Result<T, RequestError> {
    loop {
        match ask().await {
            Err(error) if kind(&error) == Kind::NotNow => patience.pause(error).await?,
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_common::problem::Problem;

    fn refused(status: u16, retry_after: Option<u64>) -> RequestError {
        let retry_after = retry_after.map(Duration::from_secs);
        RequestError::Refused { problem: Box::new(Problem::new(status, "d")), hint: None, retry_after }
    }

    #[test]
    fn only_what_can_pass_is_tried_again() {
        for (status, expected) in [
            (400, Kind::Final),
            (401, Kind::Final),
            (409, Kind::Final),
            (422, Kind::Final),
            (500, Kind::Final),
            (429, Kind::NotNow),
            (503, Kind::NotNow),
            (502, Kind::Unknown),
        ] {
            assert_eq!(kind(&refused(status, None)), expected, "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_the_servers_wish_is_followed() {
        let mut patience = Patience::until(None);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            pauses.push(patience.next_pause(&refused(503, None)).expect("no deadline").as_millis());
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(patience.next_pause(&refused(503, Some(7))), Some(Duration::from_secs(7)));
        assert_eq!(patience.next_pause(&refused(503, Some(86_400))), Some(LONGEST_WISH));
        patience.restored();
        assert_eq!(patience.next_pause(&refused(503, None)), Some(FIRST_PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_ends_it_with_the_last_failure() {
        let asked = std::cell::Cell::new(0);
        let answer = while_not_now(Patience::lasting(Duration::from_secs(3)), async || {
            asked.set(asked.get() + 1);
            Err::<(), _>(refused(503, Some(2)))
        });
        assert_eq!(kind(&answer.await.expect_err("refused")), Kind::NotNow);
        assert_eq!(asked.get(), 2);
    }
}
