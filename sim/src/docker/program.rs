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
    /// `command`: milliseconds that it runs, the code of the first, second … attempt, what it does
    /// when it is asked to end (`ignore` or `CODE:MILLISECONDS`).
    pub fn of(start: &Start) -> Self {
        let word = |place: usize| start.spec.command.get(place).map_or("", String::as_str);
        let codes: Vec<i64> = word(1).split(',').filter_map(|code| code.parse().ok()).collect();
        let attempt = usize::try_from(start.replica.attempt).unwrap_or(1);
        let code = codes.get(attempt - 1).or(codes.last()).copied().unwrap_or(0);
        let on_term = word(2).split_once(':').and_then(|(code, after_ms)| {
            Some(Term::Ends { code: code.parse().ok()?, after_ms: after_ms.parse().ok()? })
        });
        Self { runs_ms: word(0).parse().unwrap_or(0), code, on_term: on_term.unwrap_or(Term::Ignores) }
    }
}
