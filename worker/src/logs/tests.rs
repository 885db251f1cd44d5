//! A log keeps every line once, is bounded, and is read in pieces.

use super::*;
use crate::scratch::Scratch;
use berth_common::message::LogStream;
use bollard::container::LogOutput;
use uuid::Uuid;

const LARGE: u64 = 64 << 20;

fn replica() -> Replica {
    Replica { job: Uuid::from_u128(3), attempt: 1, replica: 0 }
}

fn logs(dir: &Scratch, limit: u64) -> Logs {
    Logs::new(dir.to_path_buf(), limit)
}

/// A piece as Docker sends it, `nanos` after the full second.
fn piece(stream: LogStream, nanos: u32, text: impl AsRef<[u8]>) -> LogOutput {
    let mut message = format!("2026-11-21T10:05:33.{nanos:09}Z ").into_bytes();
    message.extend_from_slice(text.as_ref());
    match stream {
        LogStream::Stdout => LogOutput::StdOut { message: message.into() },
        LogStream::Stderr => LogOutput::StdErr { message: message.into() },
    }
}

fn out(nanos: u32, text: impl AsRef<[u8]>) -> LogOutput {
    piece(LogStream::Stdout, nanos, text)
}

fn err(nanos: u32, text: impl AsRef<[u8]>) -> LogOutput {
    piece(LogStream::Stderr, nanos, text)
}

fn write(logs: &Logs, pieces: &[LogOutput]) -> Writer {
    let mut writer = logs.open(replica()).expect("opens");
    writer.resume();
    writer.write(pieces).expect("writes");
    writer
}

fn query() -> LogQuery {
    LogQuery { replica: replica(), stream: None, tail: None, since: None, cursor: None, wait_ms: 0 }
}

async fn text(logs: &Logs, query: LogQuery) -> String {
    logs.query(&query).await.expect("answers").text
}

#[tokio::test]
async fn lines_are_read_without_what_keeps_their_time_and_stream() {
    let dir = Scratch::new();
    let logs = logs(&dir, LARGE);
    write(&logs, &[out(1, "one\n"), err(2, "zwei ä\n"), out(3, "\n"), out(4, b"\xff\xfe\n")]).finish();
    logs.finished(replica());
    let piece = logs.query(&query()).await.expect("answers");
    assert_eq!(piece.text, "one\nzwei ä\n\n\u{fffd}\u{fffd}\n");
    assert!(piece.end);
    assert_eq!(text(&logs, LogQuery { stream: Some(LogStream::Stderr), ..query() }).await, "zwei ä\n");
    assert_eq!(text(&logs, LogQuery { tail: Some(2), ..query() }).await, "\n\u{fffd}\u{fffd}\n");
    assert_eq!(text(&logs, LogQuery { tail: Some(0), ..query() }).await, "");
    let since = Some("2026-11-21T10:05:33.000000003Z".parse().expect("a time"));
    assert_eq!(text(&logs, LogQuery { since, ..query() }).await, "\n\u{fffd}\u{fffd}\n");
    let last_out = LogQuery { tail: Some(1), stream: Some(LogStream::Stdout), ..query() };
    assert_eq!(text(&logs, last_out).await, "\u{fffd}\u{fffd}\n");
}

#[tokio::test]
async fn what_comes_again_after_a_restart_is_kept_once() {
    let dir = Scratch::new();
    let first = logs(&dir, LARGE);
    let pieces = [out(1, "a\n"), out(5, "b\n"), out(5, "c\n"), err(4, "d\n"), err(6, "e\n"), out(7, "f\n")];
    for have in 0..=pieces.len() {
        drop(write(&first, &pieces[..have]));
        let mut again = logs(&dir, LARGE).open(replica()).expect("opens");
        assert_eq!(again.resume().is_some(), have > 0);
        again.write(&pieces).expect("writes");
        again.finish();
        assert_eq!(text(&logs(&dir, LARGE), query()).await, "a\nb\nc\nd\ne\nf\n", "after {have}");
        first.forget(replica()).expect("removed");
    }
}

#[tokio::test]
async fn no_line_is_lost_when_the_clock_is_set_back_and_repetitions_are_dropped() {
    let dir = Scratch::new();
    let logs = logs(&dir, LARGE);
    let at = |time: &str, text: &str| LogOutput::StdOut {
        message: format!("2026-11-21T{time}.000000000Z {text}\n").into_bytes().into(),
    };
    let before = [at("10:05:33", "a"), at("10:05:34", "b"), at("10:05:33", "a")];
    let after = [at("09:05:40", "c"), at("09:05:41", "d"), at("09:05:40", "c")];
    write(&logs, &[&before[..], &after].concat()).finish();
    logs.finished(replica());
    assert_eq!(text(&logs, query()).await, "a\nb\nc\nd\n");
    write(&logs, &[&after[..], &[at("09:05:42", "e")]].concat()).finish();
    logs.finished(replica());
    assert_eq!(text(&logs, query()).await, "a\nb\nc\nd\ne\n");
}

#[tokio::test]
async fn a_line_that_a_crash_cut_is_written_anew() {
    let dir = Scratch::new();
    let first = logs(&dir, LARGE);
    write(&first, &[out(1, "one\n"), out(2, "two\n")]).finish();
    let file = Place::new(&dir, replica()).segments().expect("reads").remove(0);
    let bytes = std::fs::read(&file.path).expect("reads");
    std::fs::write(&file.path, &bytes[..bytes.len() - 3]).expect("writes");
    write(&logs(&dir, LARGE), &[out(1, "one\n"), out(2, "two\n")]).finish();
    assert_eq!(text(&logs(&dir, LARGE), query()).await, "one\ntwo\n");
}

#[tokio::test]
async fn long_lines_come_in_pieces_and_characters_stay_whole() {
    let dir = Scratch::new();
    let logs = logs(&dir, LARGE);
    let long = "x".repeat(16 * 1024);
    let (begin, end) = "ä".as_bytes().split_at(1);
    write(&logs, &[out(1, &long), out(1, "\n"), out(2, begin), out(2, [end, b"!\n"].concat())]).finish();
    logs.finished(replica());
    assert_eq!(text(&logs, query()).await, format!("{long}\n\nä!\n"));
}

#[tokio::test]
async fn beyond_the_limit_the_oldest_half_goes_and_its_reader_is_told() {
    let dir = Scratch::new();
    let limit = 100_000;
    let logs = logs(&dir, limit);
    let mut writer = logs.open(replica()).expect("opens");
    writer.resume();
    for n in 0..10_000_u32 {
        writer.write(&[out(n, format!("line {n:05}\n"))]).expect("writes");
    }
    let segments = Place::new(&dir, replica()).segments().expect("reads");
    let kept: u64 = segments.iter().map(|s| s.len).sum();
    assert!(kept <= limit && kept > limit / 2, "{kept} in {segments:?}");
    let piece = logs.query(&query()).await.expect("answers");
    let cut = segments[0].base;
    assert!(piece.text.starts_with(&format!("[berth: {cut} bytes of log cut]\nline ")), "{:.60}", piece.text);
    assert!(piece.text.ends_with("line 09999\n"));
    assert_eq!(text(&logs, LogQuery { tail: Some(1), ..query() }).await, "line 09999\n");
}

#[tokio::test]
async fn a_cursor_goes_through_a_large_log_in_pieces_without_loss() {
    let dir = Scratch::new();
    let logs = logs(&dir, LARGE);
    let lines: Vec<String> = (0..50_000).map(|n| format!("line {n}\n")).collect();
    let pieces: Vec<_> = (0..).zip(&lines).map(|(n, line)| out(n, line)).collect();
    write(&logs, &pieces).finish();
    logs.finished(replica());
    let (mut all, mut cursor, mut rounds) = (String::new(), None, 0);
    loop {
        let piece = logs.query(&LogQuery { cursor, tail: Some(3), ..query() }).await.expect("answers");
        // The tail counts where there is no cursor only.
        if cursor.is_none() {
            assert_eq!(piece.text, lines[49_997..].concat());
            cursor = Some(0);
            continue;
        }
        assert!(piece.text.len() <= read::MAX_PIECE);
        all.push_str(&piece.text);
        cursor = Some(piece.cursor);
        rounds += 1;
        if piece.end {
            break;
        }
    }
    assert_eq!(all, lines.concat());
    assert!(rounds > 1, "{rounds}");
    let beyond = logs.query(&LogQuery { cursor: Some(u64::MAX), ..query() }).await.expect("answers");
    assert_eq!((beyond.text.as_str(), beyond.end), ("", true));
}

#[tokio::test]
async fn a_reader_waits_for_the_next_line_and_for_the_end() {
    let dir = Scratch::new();
    let logs = logs(&dir, LARGE);
    let mut writer = write(&logs, &[out(1, "one\n")]);
    let first = logs.query(&query()).await.expect("answers");
    assert!(!first.end);
    let waiting = LogQuery { cursor: Some(first.cursor), wait_ms: 8000, ..query() };
    let (second, ()) = tokio::join!(logs.query(&waiting), async {
        writer.write(&[out(2, "two\n")]).expect("writes");
    });
    let second = second.expect("answers");
    assert_eq!(second.text, "two\n");
    let waiting = LogQuery { cursor: Some(second.cursor), wait_ms: 8000, ..query() };
    let (third, ()) = tokio::join!(logs.query(&waiting), async { logs.finished(replica()) });
    let third = third.expect("answers");
    assert_eq!((third.text.as_str(), third.end), ("", true));
    let nothing_new = LogQuery { cursor: Some(third.cursor), wait_ms: 8000, ..query() };
    assert!(logs.query(&nothing_new).await.expect("answers").end);
}

#[tokio::test]
async fn a_log_that_is_expected_is_waited_for() {
    let dir = Scratch::new();
    let logs = logs(&dir, LARGE);
    logs.expect(replica());
    assert!(!logs.query(&query()).await.expect("answers").end);
    let waiting = LogQuery { wait_ms: 8000, ..query() };
    let (first, writer) = tokio::join!(logs.query(&waiting), async { write(&logs, &[out(1, "one\n")]) });
    assert_eq!(first.expect("answers").text, "one\n");
    writer.finish();
}

#[test]
fn what_is_kept_is_known_by_attempt_and_size() {
    let dir = Scratch::new();
    let logs = logs(&dir, LARGE);
    assert!(logs.kept().expect("reads").is_empty());
    let second = Replica { attempt: 2, ..replica() };
    write(&logs, &[out(1, "one\n")]).finish();
    logs.open(second).expect("opens");
    std::fs::write(dir.join("stray"), "x").expect("written");
    std::fs::write(dir.join(replica().job.to_string()).join("stray"), "x").expect("written");
    let line = line::PREFIX as u64 + 4;
    assert_eq!(logs.kept().expect("reads"), BTreeMap::from([(replica(), line), (second, 0)]));
    logs.forget(second).expect("removed");
    assert_eq!(logs.kept().expect("reads").len(), 1);
}

#[tokio::test]
async fn there_is_no_log_of_what_never_was_here() {
    let dir = Scratch::new();
    let problem = logs(&dir, LARGE).query(&query()).await.expect_err("none");
    assert_eq!(problem.status, 404);
}
