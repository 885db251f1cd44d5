//! Where a job's log goes, and the progress bar that it may drive.
//!
//! A line with `progress: 3/10` or `epoch 3/10` moves the bar, which stands on standard error and only
//! where that and standard output are a terminal. What must always hold: the log's bytes come out as they went in, and the bar never
//! stands in the middle of one of its lines.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;

/// A line that has no end is written when it is so long.
const LONGEST_LINE: usize = 64 * 1024;

/// Where a piece of the log belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

pub struct LogSink {
    bar: Option<ProgressBar>,
    /// Whether a bar may appear.
    terminal: bool,
    /// The log's standard output goes here: to standard error where ours is for something else.
    out: Stream,
    /// The present line of each stream.
    lines: [Line; 2],
}

/// What has come of a line, and how much of it has been written.
#[derive(Default)]
struct Line {
    text: String,
    written: usize,
}

impl LogSink {
    #[must_use]
    pub fn new(out: Stream) -> Self {
        Self {
            bar: None,
            terminal: io::stderr().is_terminal() && io::stdout().is_terminal(),
            out,
            lines: Default::default(),
        }
    }

    /// Takes a piece of the log.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn log(&mut self, stream: Stream, text: &str) -> io::Result<()> {
        if !self.terminal {
            return self.write(stream, text);
        }
        // Line by line: what moves the bar may be anywhere in the piece.
        let mut rest = text;
        while let Some(end) = rest.find('\n') {
            let (piece, after) = rest.split_at(end + 1);
            self.piece(stream, piece)?;
            rest = after;
        }
        self.piece(stream, rest)
    }

    fn piece(&mut self, stream: Stream, piece: &str) -> io::Result<()> {
        let line = &mut self.lines[stream as usize];
        line.text.push_str(piece);
        let whole = line.text.ends_with('\n') || line.text.len() > LONGEST_LINE;
        // With a bar a line waits for its end; without one it is written as it comes.
        if self.bar.is_some() && !whole {
            return Ok(());
        }
        let fresh = line.text[line.written..].to_owned();
        line.written = line.text.len();
        let ended = whole.then(|| std::mem::take(line).text);
        self.write(stream, &fresh)?;
        if let Some(line) = ended {
            self.move_bar(&line);
        }
        Ok(())
    }

    /// Writes what waits and takes the bar away.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Some(bar) = self.bar.take() {
            output::set_bar(None);
            bar.finish_and_clear();
        }
        for stream in [Stream::Out, Stream::Err] {
            let line = std::mem::take(&mut self.lines[stream as usize]);
            self.write(stream, &line.text[line.written..])?;
        }
        Ok(())
    }

    fn write(&self, stream: Stream, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let to = if stream == Stream::Out { self.out } else { Stream::Err };
        output::beside_bar(|| match to {
            Stream::Out => write_all(&mut io::stdout().lock(), text),
            Stream::Err => write_all(&mut io::stderr().lock(), text),
        })
    }

    fn move_bar(&mut self, line: &str) {
        // A program that draws its own line rewrites it after carriage returns: the newest part counts.
        let Some(step) = line.split(['\r', '\n']).rev().find_map(step) else { return };
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}, {eta} to go");
            let bar = ProgressBar::with_draw_target(Some(step.of), ProgressDrawTarget::stderr());
            let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            output::set_bar(Some(bar.clone()));
            bar
        });
        bar.set_length(step.of);
        bar.set_position(step.done);
    }
}

fn write_all(to: &mut dyn Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    to.flush()
}

/// `done` of `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub done: u64,
    pub of: u64,
}

/// The step that a line tells: `progress: 3/10`, `Epoch 3/10`, in any case.
#[must_use]
pub fn step(line: &str) -> Option<Step> {
    let lower = line.to_ascii_lowercase();
    ["progress", "epoch"].iter().find_map(|word| {
        lower.match_indices(word).find_map(|(at, word)| {
            let inside = lower[..at].chars().next_back().is_some_and(char::is_alphanumeric);
            if inside { None } else { fraction(&lower[at + word.len()..]) }
        })
    })
}

/// `: 3/10 …` or ` [3/10] …`.
fn fraction(text: &str) -> Option<Step> {
    let text = text.trim_start_matches([':', '=', ' ', '\t', '[', '(']);
    let (done, rest) = number(text)?;
    let (of, _) = number(rest.trim_start().strip_prefix('/')?.trim_start())?;
    (of > 0 && done <= of).then_some(Step { done, of })
}

fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_found_in_the_usual_lines() {
        for (line, done, of) in [
            ("progress: 3/10", 3, 10),
            ("Progress: 3 / 10 done", 3, 10),
            ("epoch 3/45 loss=0.1 accuracy=0.9", 3, 45),
            ("Epoch [7/20], Step [100/600]", 7, 20),
            ("2027-01-01 INFO EPOCH: 1/2", 1, 2),
            ("the epoch ended; epoch 2/4", 2, 4),
            ("ünïcode epoch 2/4", 2, 4),
        ] {
            assert_eq!(step(line), Some(Step { done, of }), "{line}");
        }
    }

    #[test]
    fn other_lines_are_no_steps() {
        for line in [
            "",
            "epoch",
            "epoch 3",
            "epoch 3/",
            "epoch 3/0",
            "epoch 5/4",
            "3/10",
            "megaepoch 1/2",
            "progress: half",
            "epoch 99999999999999999999999/1",
        ] {
            assert_eq!(step(line), None, "{line}");
        }
    }
}
