//! Where samples are kept and asked for: a file of SQLite, or a server by URL.
//!
//! What must always hold: a store that is away is never fatal and never blocks sampling. What cannot
//! be stored waits in memory, up to a limit, then the oldest is given up; the log says once that it
//! is so, and once when it is over.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use berth_common::problem::Problem;
use berth_common::telemetry::Query;
use berth_common::time;
use jiff::{SignedDuration, Timestamp};
use tokio_util::task::TaskTracker;

use super::postgres::Postgres;
use super::query::{Answer, Point, Range, away};
use super::sample::Sample;
use super::sqlite::Sqlite;
use super::tables::{self, Series};

/// A day of samples every 10 s; some 10 MB on a device with eight GPUs.
pub(super) const MAX_BUFFERED: usize = 8640;
/// Samples in one transaction.
const BATCH: usize = 50;
/// Rows read or deleted at once: small enough not to be in anybody's way.
const PAGE: i64 = 2000;
/// Pages deleted from each table in one go; a device that was off for weeks needs several.
const PRUNE_PAGES: usize = 20;

/// The samples of this device.
pub struct Store {
    backend: Backend,
    buffer: Mutex<Buffer>,
    max_buffered: usize,
    keep: SignedDuration,
}

enum Backend {
    Sqlite(Sqlite),
    Postgres(Box<Postgres>),
}

/// Samples that are not stored yet, oldest first, numbered through.
#[derive(Default)]
struct Buffer {
    samples: VecDeque<(u64, Arc<Sample>)>,
    next: u64,
    /// Given up since the trouble began.
    lost: u64,
    trouble: Option<String>,
}

/// The store did not do it, with where it is and why; it may later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct StoreError(pub String);

/// Whether there may be more to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PruneStep {
    More,
    Done,
}

impl PruneStep {
    pub(super) fn of(deleted: usize, limit: i64) -> Self {
        if i64::try_from(deleted).is_ok_and(|deleted| deleted < limit) { Self::Done } else { Self::More }
    }
}

impl Store {
    /// `url`: none or `sqlite:` for `telemetry.db` in `state_dir`, `sqlite:PATH`, or `postgres://…`.
    /// Nothing is opened or connected yet. An error says what to write.
    pub(super) fn new(
        url: Option<&str>,
        state_dir: &Path,
        device: &str,
        keep_days: u32,
        tasks: &TaskTracker,
    ) -> Result<Self, String> {
        let backend = match url.map(|url| (url, url.strip_prefix("sqlite:"))) {
            None | Some((_, Some(""))) => {
                Backend::Sqlite(Sqlite::new(&state_dir.join("telemetry.db"), device))
            }
            Some((_, Some(path))) => {
                Backend::Sqlite(Sqlite::new(&PathBuf::from(path.trim_start_matches("//")), device))
            }
            Some((url, None)) if url.contains("://") => {
                Backend::Postgres(Box::new(Postgres::new(url, device, tasks)?))
            }
            Some((_, None)) => return Err("write sqlite:, sqlite:PATH or postgres://…".into()),
        };
        let keep = SignedDuration::from_hours(24 * i64::from(keep_days));
        Ok(Self { backend, buffer: Mutex::default(), max_buffered: MAX_BUFFERED, keep })
    }

    /// What was measured in the range of `query`: `{"items": [{"t", …columns}]}`, oldest first, or
    /// means per `step` (each at the step's beginning). 422 for more than 10,000 items, 503 while the
    /// store is away.
    pub async fn query(&self, query: &Query) -> Result<serde_json::Value, Problem> {
        let series = tables::of(query.table);
        let mut answer = Answer::new(query, series.columns)?;
        let mut rest = Some(Range::of(query, time::now())?);
        while let Some(range) = rest {
            let points = self.page(series, range, PAGE).await.map_err(|error| away(&error))?;
            for point in &points {
                answer.add(point)?;
            }
            let full = PruneStep::of(points.len(), PAGE) == PruneStep::More;
            rest = points.last().filter(|_| full).and_then(|(t, _)| range.after(*t));
        }
        answer.finish()
    }

    /// Why samples cannot be stored at the moment.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.buffer().trouble.clone()
    }

    /// Takes a sample to be stored by the next [`flush`](Self::flush).
    pub(super) fn push(&self, sample: Arc<Sample>) {
        let mut buffer = self.buffer();
        let number = buffer.next;
        buffer.next += 1;
        buffer.samples.push_back((number, sample));
        if buffer.samples.len() > self.max_buffered {
            buffer.samples.pop_front();
            buffer.lost += 1;
        }
    }

    /// Stores what waits. It stays where it is until it is known to be stored. False: the store is
    /// away.
    pub(super) async fn flush(&self) -> bool {
        loop {
            let batch: Vec<(u64, Arc<Sample>)> = self.buffer().samples.iter().take(BATCH).cloned().collect();
            let Some((last, _)) = batch.last() else {
                self.told_well();
                return true;
            };
            let last = *last;
            let samples: Vec<Arc<Sample>> = batch.into_iter().map(|(_, sample)| sample).collect();
            let stored = match &self.backend {
                Backend::Sqlite(sqlite) => sqlite.insert(samples).await,
                Backend::Postgres(postgres) => postgres.insert(&samples).await,
            };
            if let Err(error) = stored {
                self.told_away(&error);
                return false;
            }
            let mut buffer = self.buffer();
            while buffer.samples.front().is_some_and(|(number, _)| *number <= last) {
                buffer.samples.pop_front();
            }
        }
    }

    /// Deletes what is older than it is kept, a bounded piece of it.
    pub(super) async fn prune(&self, now: Timestamp) -> Result<(), StoreError> {
        let before = now.saturating_sub(self.keep).unwrap_or(Timestamp::MIN);
        for series in tables::ALL {
            for _ in 0..PRUNE_PAGES {
                let step = match &self.backend {
                    Backend::Sqlite(sqlite) => sqlite.prune(series, before, PAGE).await?,
                    Backend::Postgres(postgres) => postgres.prune(series, before, PAGE).await?,
                };
                if step == PruneStep::Done {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Ends the connections to a server, whose tasks would outlive everything else.
    pub(super) fn close(&self) {
        match &self.backend {
            Backend::Sqlite(_) => {}
            Backend::Postgres(postgres) => postgres.close(),
        }
    }

    async fn page(
        &self,
        series: &'static Series,
        range: Range,
        limit: i64,
    ) -> Result<Vec<Point>, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.page(series, range, limit).await,
            Backend::Postgres(postgres) => postgres.page(series, range, limit).await,
        }
    }

    fn told_away(&self, error: &StoreError) {
        let mut buffer = self.buffer();
        if buffer.trouble.replace(error.0.clone()).is_none() {
            tracing::warn!(%error, limit = self.max_buffered, "telemetry cannot be stored; samples wait in memory");
        }
    }

    fn told_well(&self) {
        let mut buffer = self.buffer();
        if buffer.trouble.take().is_some() {
            tracing::info!(lost_samples = std::mem::take(&mut buffer.lost), "telemetry is stored again");
        }
    }

    fn buffer(&self) -> std::sync::MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
