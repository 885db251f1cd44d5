//! One line of a kept log: `<time> <o|e> <text>`, the time in UTC with nine digits.
//!
//! The part before the text has a fixed width, so times compare as text and a reader finds
//! everything without parsing numbers. A text holds no line feed.

use berth_common::message::LogStream;
use jiff::Timestamp;

/// `2026-11-21T10:05:33.123456789Z`
pub const STAMP: usize = 30;
/// The stamp, the stream's letter, and the blanks after both.
pub const PREFIX: usize = STAMP + 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    pub stamp: &'a str,
    pub stream: LogStream,
    pub text: &'a str,
}

/// Appends a line, with its line feed.
pub fn write(to: &mut Vec<u8>, line: Line<'_>) {
    to.extend_from_slice(line.stamp.as_bytes());
    to.extend_from_slice(match line.stream {
        LogStream::Stdout => b" o ",
        LogStream::Stderr => b" e ",
    });
    to.extend_from_slice(line.text.as_bytes());
    to.push(b'\n');
}

/// Reads a line without its line feed; none where it is not one of ours (a cursor into its middle).
#[must_use]
pub fn read(bytes: &[u8]) -> Option<Line<'_>> {
    let (prefix, text) = bytes.split_at_checked(PREFIX)?;
    let stream = match &prefix[STAMP..] {
        b" o " => LogStream::Stdout,
        b" e " => LogStream::Stderr,
        _ => return None,
    };
    let stamp = std::str::from_utf8(&prefix[..STAMP]).ok().filter(|stamp| is_stamp(stamp))?;
    Some(Line { stamp, stream, text: std::str::from_utf8(text).ok()? })
}

#[must_use]
pub fn stamp(at: Timestamp) -> String {
    format!("{at:.9}")
}

/// Splits what Docker sent, `<time> <text>`, into a stamp and the bytes after it.
#[must_use]
pub fn split_docker(piece: &[u8]) -> Option<(String, &[u8])> {
    let blank = piece.iter().take(2 * STAMP).position(|&byte| byte == b' ')?;
    let text = std::str::from_utf8(&piece[..blank]).ok()?;
    let stamp = if is_stamp(text) { text.to_owned() } else { stamp(text.parse().ok()?) };
    Some((stamp, &piece[blank + 1..]))
}

fn is_stamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == STAMP && bytes[10] == b'T' && bytes[19] == b'.' && bytes[STAMP - 1] == b'Z'
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: &str = "2026-11-21T10:05:33.123456789Z";

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let line = Line { stamp: AT, stream: LogStream::Stderr, text: "größer\r" };
        let mut bytes = Vec::new();
        write(&mut bytes, line);
        assert_eq!(bytes.pop(), Some(b'\n'));
        assert_eq!(read(&bytes), Some(line));
        for wrong in [&b""[..], b"short", &bytes[5..], b"2026-11-21T10:05:33.123456789Z x text"] {
            assert_eq!(read(wrong), None);
        }
    }

    #[test]
    fn dockers_times_become_stamps_of_one_width() {
        let (stamp, text) = split_docker(b"2026-11-21T10:05:33.123456789Z a b").expect("reads");
        assert_eq!((stamp.as_str(), text), (AT, &b"a b"[..]));
        let (stamp, _) = split_docker(b"2026-11-21T11:05:33.5+01:00 x").expect("reads");
        assert_eq!(stamp, "2026-11-21T10:05:33.500000000Z");
        assert_eq!(split_docker(b"no time"), None);
        assert_eq!(super::stamp(AT.parse().expect("a time")), AT);
    }
}
