//! What runs in a simulated container: how long, with which code it ends, what it does when asked to.

use berth_common::message::Start;

/// An image that every host has.
pub const HERE: &str = "here:1";
/// Some that are pulled first.
pub const PULLED: [&str; 4] = ["pulled:1", "pulled:2", "pulled:3", "pulled:4"];
/// One whose registry often does not answer.
pub const SHAKY: &str = "shaky:1";
/// One that is nowhere.
pub const MISSING: &str = "missing:1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    Ends { code: i64, after_ms: u64 },
    Ignores,
}

#[derive(Debug, Clone)]
pub struct Program {
    pub runs_ms: u64,
    pub code: i64,
    pub on_term: Term,
}

impl Program {
    /// `command`: milliseconds that the first, second … attempt runs, the code of each, what it does
    /// when it is asked to end (`ignore` or `CODE:MILLISECONDS`). The last one named counts for all after it.
    pub fn of(start: &Start) -> Self {
        let word = |place: usize| start.spec.command.get(place).map_or("", String::as_str);
        let of_attempt = |place| of_attempt(word(place), start.replica.attempt);
        let on_term = word(2).split_once(':').and_then(|(code, after_ms)| {
            Some(Term::Ends { code: code.parse().ok()?, after_ms: after_ms.parse().ok()? })
        });
        Self {
            runs_ms: u64::try_from(of_attempt(0)).unwrap_or(0),
            code: of_attempt(1),
            on_term: on_term.unwrap_or(Term::Ignores),
        }
    }
}

/// The number for an attempt in a list of them.
pub fn of_attempt(list: &str, attempt: u32) -> i64 {
    let number = |of: &str| of.parse().unwrap_or(0);
    let place = usize::try_from(attempt.saturating_sub(1)).unwrap_or(0);
    list.split(',').nth(place).or(list.split(',').next_back()).map_or(0, number)
}
