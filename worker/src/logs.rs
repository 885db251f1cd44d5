//! What containers write, kept on the device: while they run, and for days after they are gone.
//!
//! A log is bounded: beyond the limit its oldest half is dropped, and its readers are told. Nothing
//! here ever slows a container down: Docker keeps its own copy, which is followed.

mod follow;
mod line;
mod read;
mod segment;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_common::id::Replica;
use berth_common::message::{LogPiece, LogQuery};
use berth_common::problem::Problem;
use tokio::sync::watch;

pub use follow::follow;
use read::Filter;
use segment::Place;
pub use writer::{Progress, Writer};

/// A question waits for something new no longer than this: who asks gives up after 10 s.
const MAX_WAIT: Duration = Duration::from_secs(8);
/// A segment can be dropped while it is read; then the reading begins again.
const READ_TRIES: usize = 3;

/// The kept logs of a device.
#[derive(Clone)]
pub struct Logs {
    root: PathBuf,
    limit: u64,
    live: Arc<Mutex<BTreeMap<Replica, watch::Sender<Progress>>>>,
}

impl Logs {
    /// `limit`: bytes kept of one log.
    #[must_use]
    pub fn new(root: PathBuf, limit: u64) -> Self {
        Self { root, limit, live: Arc::default() }
    }

    /// An attempt's log is about to be written: whoever asks waits for it.
    pub fn expect(&self, replica: Replica) {
        self.live().entry(replica).or_default();
    }

    /// Opens an attempt's log for writing, at its end. Blocks on the disk.
    ///
    /// # Errors
    /// When its files cannot be made or read.
    pub fn open(&self, replica: Replica) -> io::Result<Writer> {
        let progress = self.live().entry(replica).or_default().clone();
        Writer::open(&Place::new(&self.root, replica), self.limit, progress)
    }

    /// Nothing will be written any more; whoever waits for more is told.
    pub fn finished(&self, replica: Replica) {
        if let Some(progress) = self.live().remove(&replica) {
            progress.send_modify(|progress| progress.done = true);
        }
    }

    /// Removes an attempt's log. Blocks on the disk.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn forget(&self, replica: Replica) -> io::Result<()> {
        Place::new(&self.root, replica).remove()
    }

    /// The logs that are kept, each with its bytes. Blocks on the disk.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn kept(&self) -> io::Result<BTreeMap<Replica, u64>> {
        segment::all(&self.root)
    }

    /// Answers a question. Where there is nothing new yet, it waits a while.
    ///
    /// # Errors
    /// 404 when this device has no such log, 500 when it cannot be read.
    pub async fn query(&self, query: &LogQuery) -> Result<LogPiece, Problem> {
        let wait = Duration::from_millis(query.wait_ms).min(MAX_WAIT);
        let deadline = tokio::time::Instant::now() + wait;
        let subscribe = || self.live().get(&query.replica).map(watch::Sender::subscribe);
        let mut progress = subscribe();
        loop {
            // Seen before reading: what is written meanwhile wakes the wait below at once.
            let done = progress.as_mut().is_none_or(|progress| progress.borrow_and_update().done);
            let piece = self.read(query, done).await?;
            // One that began to be written while it was read is not at its end.
            if progress.is_none() {
                progress = subscribe();
                if progress.is_some() {
                    continue;
                }
            }
            let Some(progress) = progress.as_mut().filter(|_| piece.text.is_empty() && !piece.end) else {
                return Ok(piece);
            };
            // The sender goes when the log is finished: then this is the last round.
            match tokio::time::timeout_at(deadline, progress.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return self.read(query, true).await,
                Err(_) => return Ok(piece),
            }
        }
    }

    async fn read(&self, query: &LogQuery, done: bool) -> Result<LogPiece, Problem> {
        let place = Place::new(&self.root, query.replica);
        let query = query.clone();
        let read = tokio::task::spawn_blocking(move || read_blocking(&place, &query, done)).await;
        match read.expect("reading does not panic, and a runtime that ends runs no more tasks") {
            Ok(Some(piece)) => Ok(piece),
            Ok(None) => {
                Err(Problem::new(404, "this device has no log of that attempt; logs are kept 7 days at most"))
            }
            Err(error) => Err(Problem::new(500, format!("the log cannot be read: {error}"))),
        }
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<Replica, watch::Sender<Progress>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// None where there is no log and none is expected.
fn read_blocking(place: &Place, query: &LogQuery, done: bool) -> io::Result<Option<LogPiece>> {
    let filter = Filter { stream: query.stream, since: query.since.map(line::stamp) };
    for _ in 1..READ_TRIES {
        match read_once(place, query, &filter, done) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => return read,
        }
    }
    read_once(place, query, &filter, done)
}

fn read_once(place: &Place, query: &LogQuery, filter: &Filter, done: bool) -> io::Result<Option<LogPiece>> {
    let segments = place.segments()?;
    let Some(last) = segments.last() else {
        let nothing_yet = LogPiece { text: String::new(), cursor: 0, end: false };
        return Ok((!done).then_some(nothing_yet));
    };
    let from = match (query.cursor, query.tail) {
        (Some(cursor), _) => cursor.min(last.end()),
        (None, Some(count)) => read::tail(&segments, count, filter)?,
        (None, None) => 0,
    };
    let (text, cursor) = read::piece(&segments, from, filter)?;
    Ok(Some(LogPiece { text, cursor, end: done && cursor >= last.end() }))
}

#[cfg(test)]
mod tests;
