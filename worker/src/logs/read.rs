//! Reading a piece of a kept log.
//!
//! A cursor is an offset in everything that was ever written. One that points into what has been
//! dropped continues after it, with a note that says how much is missing.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};

use berth_common::message::LogStream;

use super::line;
use super::segment::Segment;

/// Text in one answer: large enough to be quick, small enough for a message.
pub const MAX_PIECE: usize = 256 * 1024;

/// Which lines are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub stream: Option<LogStream>,
    /// A stamp: lines before it are left out.
    pub since: Option<String>,
}

impl Filter {
    fn wants(&self, line: &line::Line<'_>) -> bool {
        self.stream.is_none_or(|stream| stream == line.stream)
            && self.since.as_deref().is_none_or(|since| line.stamp >= since)
    }
}

/// The texts of wanted lines from `cursor` on, up to [`MAX_PIECE`], and where to go on.
///
/// # Errors
/// When a segment cannot be read; `NotFound` when it was dropped meanwhile: look again.
pub fn piece(segments: &[Segment], cursor: u64, filter: &Filter) -> io::Result<(String, u64)> {
    let mut text = String::new();
    let first = segments.first().map_or(0, |segment| segment.base);
    let mut at = cursor;
    if at < first {
        text = format!("[berth: {} bytes of log cut]\n", first - at);
        at = first;
    }
    for segment in segments {
        if at >= segment.end() {
            continue;
        }
        let full = each_line(segment, at - segment.base, |offset, bytes| {
            if let Some(line) = line::read(bytes).filter(|line| filter.wants(line)) {
                if !text.is_empty() && text.len() + line.text.len() >= MAX_PIECE {
                    return Go::Stop;
                }
                text.push_str(line.text);
                text.push('\n');
            }
            at = segment.base + offset + bytes.len() as u64 + 1;
            Go::On
        })?;
        if full == Go::Stop {
            break;
        }
    }
    Ok((text, at))
}

/// Where the last `count` wanted lines begin.
///
/// # Errors
/// As [`piece`].
pub fn tail(segments: &[Segment], count: u64, filter: &Filter) -> io::Result<u64> {
    let Some(last) = segments.last() else { return Ok(0) };
    // Growing windows from the end: the last lines of a large log are found without reading it all.
    let oldest = segments.first().map_or(0, |segment| segment.base);
    let mut window = MAX_PIECE as u64;
    loop {
        let from = last.end().saturating_sub(window).max(oldest);
        let starts = wanted_from(segments, from, filter)?;
        let missing = count.saturating_sub(starts.len() as u64);
        if missing == 0 {
            let skip = starts.len() - usize::try_from(count).unwrap_or(usize::MAX).min(starts.len());
            return Ok(starts.get(skip).copied().unwrap_or(last.end()));
        }
        if from == oldest {
            return Ok(oldest);
        }
        window = window.saturating_mul(4);
    }
}

/// Offsets of the wanted lines from `from` on; a line that `from` cuts is no line.
fn wanted_from(segments: &[Segment], from: u64, filter: &Filter) -> io::Result<Vec<u64>> {
    let mut starts = Vec::new();
    for segment in segments.iter().filter(|segment| from < segment.end()) {
        each_line(segment, from.saturating_sub(segment.base), |offset, bytes| {
            if line::read(bytes).is_some_and(|line| filter.wants(&line)) {
                starts.push(segment.base + offset);
            }
            Go::On
        })?;
    }
    Ok(starts)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Go {
    On,
    Stop,
}

/// Calls `visit` with each complete line (without its line feed) and its offset in the segment.
pub(super) fn each_line(
    segment: &Segment,
    from: u64,
    mut visit: impl FnMut(u64, &[u8]) -> Go,
) -> io::Result<Go> {
    let mut file = File::open(&segment.path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::with_capacity(64 * 1024, file);
    let mut offset = from;
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = reader.read_until(b'\n', &mut bytes)?;
        if bytes.pop() != Some(b'\n') {
            return Ok(Go::On); // the end, or a line that is being written
        }
        if visit(offset, &bytes) == Go::Stop {
            return Ok(Go::Stop);
        }
        offset += read as u64;
    }
}
