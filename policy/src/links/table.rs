//! Choosing among few GPUs: every set that could be chosen is looked at, when the question is first asked.
//!
//! What each set is worth is counted beforehand, 2^n sets of 8 bytes. Answers are kept, by free set and k:
//! at most 2 MiB for 16 GPUs, 4 KiB for eight, whose questions have 70 choices at most.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicU16, Ordering};

use super::{Choice, Worth, lowest, places};

/// GPUs up to which all sets are looked at: a question has at most 12,870 choices, and an answer 16 bits.
pub(super) const MOST: usize = 16;

#[derive(Debug)]
pub(super) struct Table {
    gpus: usize,
    /// By the bits of the set.
    worth: Box<[Worth]>,
    /// 0: not asked yet. The answer depends on nothing else, so whoever writes it writes the same.
    answers: Box<[AtomicU16]>,
}

impl Table {
    /// Of at most [`MOST`] GPUs.
    pub fn new(scores: &[Vec<u8>]) -> Self {
        let gpus = scores.len();
        let answers = (0..gpus << gpus).map(|_| AtomicU16::new(0)).collect();
        Self { gpus, worth: worth_of_all(scores), answers }
    }

    /// Of `free` GPUs, which are more than `k`, and some.
    pub fn best(&self, free: u64, k: u32) -> u64 {
        let answer = &self.answers[place(free) * self.gpus + k as usize - 1];
        match answer.load(Ordering::Relaxed) {
            0 => {
                let set = self.search(free, k);
                answer.store(u16::try_from(set).expect("a set of at most 16 GPUs"), Ordering::Relaxed);
                set
            }
            set => u64::from(set),
        }
    }

    fn search(&self, free: u64, k: u32) -> u64 {
        let worth = |set: u64| self.worth[place(set)];
        let choice = |set| Choice { worth: worth(set), rest: worth(free & !set).sum, set: Reverse(set) };
        subsets(free, k).map(choice).max().expect("there is a first subset").set.0
    }
}

fn place(set: u64) -> usize {
    usize::try_from(set).expect("a set of at most 16 GPUs")
}

fn worth_of_all(scores: &[Vec<u8>]) -> Box<[Worth]> {
    let mut all = vec![Worth::NOTHING; 1 << scores.len()];
    for set in 1..all.len() {
        let first = set.trailing_zeros() as usize;
        let others = set & (set - 1);
        all[set] = places(others as u64).fold(all[others], |worth, other| worth.and(scores[first][other]));
    }
    all.into()
}

/// The subsets of `free` with `k` bits, of which it has as many; smaller numbers first. `k` is not 0.
fn subsets(free: u64, k: u32) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(lowest(free, k)), move |&set| {
        // The next number with as many bits (Gosper's hack): the lowest run of bits is carried up by one
        // place, over the places that are not free, and what the carry swallowed begins anew below.
        let carried = (set | !free).checked_add(set & set.wrapping_neg())? & free;
        Some(carried | lowest(free, k - carried.count_ones()))
    })
}
