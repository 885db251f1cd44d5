//! Writing a container's log: what Docker sends becomes lines, each exactly once.
//!
//! After a restart the worker asks Docker for a little more than is missing, and a daemon whose own
//! file rotates can send lines twice: what is not later than the last line kept (or of the same time,
//! and among those kept) is dropped. Only a line that is minutes older is new: the clock was set
//! back. Docker sends lines of more than 16 KiB in pieces of that size;
//! each piece becomes a line of its own, so that pieces and lines can be counted alike.

use std::io;

use berth_common::message::LogStream;
use bollard::container::LogOutput;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::line::{self, Line};
use super::read::{Go, each_line};
use super::segment::{Appender, Place};

/// A line that is older than the last one by more than this is no repetition.
const REPEATED: SignedDuration = SignedDuration::from_mins(5);
/// The two streams of a container are written side by side: a piece of one may stand after a
/// slightly younger one of the other.
const OVERLAP: SignedDuration = SignedDuration::from_secs(10);

/// How far a log that is being written has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    pub end: u64,
    pub done: bool,
}

/// What of one stream has been kept, and what of it is to be dropped when it comes again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Kept {
    /// Time of its last line, and how many lines have that time.
    last: Option<(String, u64)>,
    /// Of the present reading from Docker: lines met with that time.
    met: u64,
    /// The last piece was the beginning of a longer line.
    continues: bool,
    /// The beginning of a character whose rest is in the next piece.
    broken: Vec<u8>,
}

/// Writes one log.
#[derive(Debug)]
pub struct Writer {
    appender: Appender,
    out: Kept,
    err: Kept,
    progress: watch::Sender<Progress>,
}

impl Writer {
    /// Opens the log at its end and reads from it what has been kept.
    ///
    /// # Errors
    /// When its files cannot be made or read.
    pub fn open(place: &Place, limit: u64, progress: watch::Sender<Progress>) -> io::Result<Self> {
        let appender = Appender::open(place, limit)?;
        let mut writer = Self { appender, out: Kept::default(), err: Kept::default(), progress };
        for segment in place.segments()? {
            each_line(&segment, 0, |_, bytes| {
                if let Some(line) = line::read(bytes) {
                    writer.kept(line.stream).count(line.stamp);
                }
                Go::On
            })?;
        }
        writer.publish();
        Ok(writer)
    }

    /// From when on Docker must be asked; everything where nothing is kept. A new reading begins.
    pub fn resume(&mut self) -> Option<Timestamp> {
        for kept in [&mut self.out, &mut self.err] {
            kept.met = 0;
            kept.continues = false;
            kept.broken.clear();
        }
        let last =
            [&self.out, &self.err].into_iter().filter_map(|kept| kept.last.as_ref()).map(|(at, _)| at).max();
        let at: Timestamp = last?.parse().ok()?;
        Some(at.saturating_sub(OVERLAP).unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// Writes what Docker sent.
    ///
    /// # Errors
    /// When the disk takes no more; these pieces are lost then.
    pub fn write(&mut self, pieces: &[LogOutput]) -> io::Result<()> {
        let mut lines = Vec::new();
        for piece in pieces {
            let (stream, bytes) = parts(piece);
            let Some((stamp, text)) = line::split_docker(bytes) else { continue };
            let kept = self.kept(stream);
            if kept.is_new(&stamp) {
                kept.count(&stamp);
                kept.push(&mut lines, &stamp, stream, text);
            }
        }
        self.appender.append(&lines)?;
        self.publish();
        Ok(())
    }

    /// Whether this piece, or a later one of its stream, has been written.
    #[must_use]
    pub fn has(&self, piece: &LogOutput) -> bool {
        let (stream, bytes) = parts(piece);
        let kept = match stream {
            LogStream::Stdout => &self.out,
            LogStream::Stderr => &self.err,
        };
        line::split_docker(bytes)
            .is_none_or(|(stamp, _)| kept.last.as_ref().is_some_and(|(last, _)| *last >= stamp))
    }

    /// Nothing will come any more.
    pub fn finish(self) {
        self.progress.send_modify(|progress| progress.done = true);
    }

    fn kept(&mut self, stream: LogStream) -> &mut Kept {
        match stream {
            LogStream::Stdout => &mut self.out,
            LogStream::Stderr => &mut self.err,
        }
    }

    fn publish(&self) {
        let end = self.appender.end();
        self.progress.send_if_modified(|progress| std::mem::replace(&mut progress.end, end) != end);
    }
}

fn parts(piece: &LogOutput) -> (LogStream, &[u8]) {
    match piece {
        LogOutput::StdErr { message } => (LogStream::Stderr, message),
        LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message } => {
            (LogStream::Stdout, message)
        }
    }
}

impl Kept {
    /// Whether this line is not kept yet.
    fn is_new(&mut self, stamp: &str) -> bool {
        let Some((last, count)) = &self.last else { return true };
        match stamp.cmp(last.as_str()) {
            std::cmp::Ordering::Less => is_set_back(stamp, last),
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal => {
                self.met += 1;
                self.met > *count
            }
        }
    }

    fn count(&mut self, stamp: &str) {
        match &mut self.last {
            Some((last, count)) if last == stamp => *count += 1,
            last => {
                // Whatever comes now with this time is new: it was not met in this reading before.
                *last = Some((stamp.to_owned(), 1));
                self.met = 1;
            }
        }
    }

    /// Appends a piece as a line. The line feed alone that ends a line of exactly Docker's limit
    /// makes no further line.
    fn push(&mut self, lines: &mut Vec<u8>, stamp: &str, stream: LogStream, piece: &[u8]) {
        let (text, complete) = match piece.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (piece, false),
        };
        let continued = std::mem::replace(&mut self.continues, !complete);
        let mut bytes = std::mem::take(&mut self.broken);
        bytes.extend_from_slice(text);
        if continued && complete && bytes.is_empty() {
            return;
        }
        if !complete {
            self.broken = bytes.split_off(whole_characters(&bytes));
        }
        let text = String::from_utf8_lossy(&bytes);
        line::write(lines, Line { stamp, stream, text: &text });
    }
}

/// Whether a line is so much older than the one before that the host's clock was set back between them.
fn is_set_back(stamp: &str, last: &str) -> bool {
    match (stamp.parse::<Timestamp>(), last.parse::<Timestamp>()) {
        (Ok(stamp), Ok(last)) => last.duration_since(stamp) > REPEATED,
        (Ok(_) | Err(_), _) => false,
    }
}

/// How many bytes there are before a character that has only begun.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Ok(_) | Err(_) => bytes.len(),
    }
}
