//! One piece of a log after the other, by question and answer with a device.

use std::sync::Arc;
use std::time::Duration;

use berth_common::id::{JobId, Replica};
use berth_common::message::{DeviceRpc, LogPiece, LogQuery, LogStream, Reply};
use jiff::Timestamp;

use crate::http::auth::Caller;
use crate::http::devices;
use crate::http::refusal::Refusal;
use crate::http::request::problem_of;
use crate::http::served::Served;
use crate::store::read::attempts::{self, Place};

/// On top of what the device may wait for something new.
const ANSWER_TIME: Duration = Duration::from_secs(4);

/// Reads the log of one replica of a job.
pub struct Reader {
    pub served: Arc<Served>,
    pub caller: Caller,
    pub job: JobId,
    pub replica: u32,
    pub stream: Option<LogStream>,
    pub since: Option<Timestamp>,
    /// Counts until there is a cursor.
    pub tail: Option<u64>,
    /// Where the last piece ended.
    pub cursor: Option<u64>,
}

impl Reader {
    /// Where the given attempt, or the newest one, is or was.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn place(&self, attempt: Option<u32>) -> Result<Option<Place>, Refusal> {
        let db = self.served.reads().session().await?;
        Ok(attempts::place(&db, self.job, attempt, self.replica).await?)
    }

    /// Where the first attempt after the given one is or was.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn place_after(&self, attempt: u32) -> Result<Option<Place>, Refusal> {
        let db = self.served.reads().session().await?;
        Ok(attempts::place_after(&db, self.job, attempt, self.replica).await?)
    }

    /// The next piece from the device, which may wait `wait` for something new. None: the device
    /// has no log of it, or none yet.
    ///
    /// # Errors
    /// 503 when the device does not answer.
    pub async fn next(&mut self, place: &Place, wait: Duration) -> Result<Option<LogPiece>, Refusal> {
        let question = DeviceRpc::Logs(LogQuery {
            replica: Replica { job: self.job, attempt: place.attempt, replica: self.replica },
            stream: self.stream,
            tail: self.tail,
            since: self.since,
            cursor: self.cursor,
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        });
        let wait = wait + ANSWER_TIME;
        match devices::ask(&self.served, &self.caller, &place.device, &question, wait).await? {
            Reply { status: 200, body } => {
                let piece: LogPiece = serde_json::from_value(body).map_err(|error| {
                    tracing::warn!(%error, device = %place.device, "a piece of a log cannot be read");
                    Refusal::new(500, format!("device {} answered what cannot be read", place.device))
                })?;
                self.cursor = Some(piece.cursor);
                Ok(Some(piece))
            }
            Reply { status: 404, .. } => Ok(None),
            reply => Err(problem_of(reply).into()),
        }
    }

    /// To be called when it goes on with another attempt, whose log has another beginning.
    pub fn begin_anew(&mut self) {
        self.cursor = None;
        self.tail = None;
    }
}
