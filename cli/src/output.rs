//! Standard output and standard error: plain when they are not a terminal, and never a panic when
//! nobody reads any more.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;
use serde::Serialize;

/// The bar on standard error. The process has one standard error, so it has one bar, and whoever
/// writes to the terminal must know of it.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// From now on `bar` gives way to what is written; none: no bar does.
pub fn set_bar(bar: Option<ProgressBar>) {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = bar;
}

/// Writes to the terminal with the bar out of the way.
pub fn beside_bar<T>(write: impl FnOnce() -> T) -> T {
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Writes `text` and a newline to standard output.
///
/// # Errors
/// As the operating system says, a broken pipe among them.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.trim_end_matches('\n').as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Writes bytes to standard output as they are.
///
/// # Errors
/// As [`print`].
pub fn pass(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Writes one JSON document to standard output.
///
/// # Errors
/// As [`print`].
pub fn print_json<T: Serialize>(document: &T) -> io::Result<()> {
    print(&serde_json::to_string_pretty(document)?)
}

/// A line on standard error for the person at the terminal. That nobody reads it changes nothing.
pub fn say(line: &str) {
    let _ = beside_bar(|| writeln!(io::stderr().lock(), "{line}"));
}

/// [`say`] on a terminal only: what a person likes to know and no script reads.
pub fn say_to_person(line: &str) {
    if io::stderr().is_terminal() {
        say(line);
    }
}

/// Whether colour may go to standard output: a terminal, and <https://no-color.org> not asked for.
pub fn colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
        || std::env::var_os("TERM").is_some_and(|v| v == "dumb");
    io::stdout().is_terminal() && !refused
}

/// `text` with everything that could command a terminal made visible: control characters and those
/// that turn the direction of writing.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}') {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_commands_a_terminal_passes() {
        assert_eq!(escape("training ä 训练 🚢"), "training ä 训练 🚢");
        assert_eq!(escape("a\x1b[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(escape("a\nb\tc\r"), "a\\nb\\tc\\r");
        assert_eq!(escape("\u{9b}31m\u{7f}"), "\\u{9b}31m\\u{7f}");
        assert_eq!(escape("\u{202e}gnp.exe"), "\\u{202e}gnp.exe");
    }
}
