//! How bad a world is: what goes wrong by itself, each number "once in so many times", 0 for never.

use crate::chance::Chance;

#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// A process dies at a point between two steps.
    pub crash_point: u64,
    /// A process dies while Docker does what it was asked for, which takes long.
    pub crash_in_call: u64,
    /// A message is in its queue twice, the copy perhaps much later.
    pub duplicate: u64,
    /// A message comes before others that were there.
    pub reorder: u64,
    /// A message that may expire is lost.
    pub lose_transient: u64,
    /// The connection breaks between a message and its confirm.
    pub lose_confirm: u64,
    pub slow_database: u64,
    /// A call of the database does not arrive.
    pub lose_call: u64,
    /// It was carried out, and nobody hears.
    pub lose_answer: u64,
    pub slow_net: u64,
    /// An answer to a client is lost.
    pub lose_reply: u64,
    pub slow_docker: u64,
    /// Docker says that it failed.
    pub docker_fails: u64,
    /// Docker loses a container that runs, and what it was.
    pub lose_container: u64,
}

impl Weather {
    /// In some worlds nothing goes wrong by itself, in others most things do: work gets far only where
    /// there is little trouble, and much of what can be broken is broken only then.
    pub fn of(chance: &Chance) -> Self {
        let parts = *chance.pick(&[0, 1, 1, 3, 6]);
        let rate = |low: u64, high: u64| match chance.between(1, 10) <= parts {
            true => chance.between(low, high),
            false => 0,
        };
        Self {
            crash_point: rate(100, 3_000),
            crash_in_call: rate(4, 60),
            duplicate: rate(3, 60),
            reorder: rate(4, 60),
            lose_transient: rate(4, 40),
            lose_confirm: rate(20, 200),
            slow_database: rate(20, 200),
            lose_call: rate(40, 400),
            lose_answer: rate(40, 400),
            slow_net: rate(10, 200),
            lose_reply: rate(3, 20),
            slow_docker: rate(3, 30),
            docker_fails: rate(20, 200),
            lose_container: rate(5, 60),
        }
    }
}
