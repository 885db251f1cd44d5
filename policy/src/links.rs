//! Which GPUs inside a device: those that are linked best, so that what remains is linked best too.
//!
//! A job on several GPUs goes at the speed of its slowest link: the worst pair counts first, then the sum of
//! all pairs, then the sum of what remains free, then the lowest places. What must always hold: a choice
//! is found exactly where enough GPUs are free, and the same question has the same answer.
//!
//! Among up to 16 GPUs the best choice is found, and kept in a table; with more, sets are grown greedily
//! from each GPU. Most machines need neither: behind an NVLink switch, all pairs are alike.

mod grow;
mod table;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;

use table::Table;

/// How the GPUs of one device are linked. Devices with the same scores can share it.
#[derive(Debug, Default)]
pub struct Links {
    /// GPUs whose links are known.
    gpus: u32,
    how: How,
}

#[derive(Debug, Default)]
enum How {
    /// Nothing is known, or no link is better than another.
    #[default]
    Alike,
    Few(Table),
    /// The scores of all pairs.
    Many(Box<[Vec<u8>]>),
}

/// What the links among some GPUs are worth; larger is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Worth {
    worst: u8,
    sum: u32,
}

/// A set that could be chosen; the largest is.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Choice {
    worth: Worth,
    /// The sum of all pairs that remain free.
    rest: u32,
    set: Reverse<u64>,
}

impl Links {
    /// Of a matrix with the score of each two GPUs, larger is better. Without scores all GPUs are alike; of
    /// two scores for a pair the smaller counts, and one that is missing is 0.
    #[must_use]
    pub fn new(scores: &[Vec<u8>]) -> Self {
        let at = |a: usize, b: usize| scores[a].get(b).copied().unwrap_or(0);
        let row = |a: usize| (0..scores.len()).map(|b| at(a, b).min(at(b, a))).collect();
        let whole: Box<[Vec<u8>]> = (0..scores.len()).map(row).collect();
        let how = match whole.len() {
            // A set is a number of 64 bits.
            n if n > u64::BITS as usize || are_alike(&whole) => How::Alike,
            n if n > table::MOST => How::Many(whole),
            _ => How::Few(Table::new(&whole)),
        };
        Self { gpus: u32::try_from(scores.len()).unwrap_or(u32::MAX), how }
    }

    /// The best `k` of the GPUs whose bits are set in `free`; none where fewer are free. A GPU beyond those
    /// of the matrix makes all alike: then it is the matrix of another device.
    #[must_use]
    pub fn choose(&self, free: u64, k: u32) -> Option<u64> {
        let count = free.count_ones();
        if k == 0 || k >= count {
            return (k <= count).then(|| lowest(free, k));
        }
        let are_known = u64::BITS - free.leading_zeros() <= self.gpus;
        Some(match &self.how {
            How::Few(table) if are_known => table.best(free, k),
            How::Many(scores) if are_known => grow::best(scores, free, k),
            How::Alike | How::Few(_) | How::Many(_) => lowest(free, k),
        })
    }
}

impl Worth {
    /// Of no pairs: none of them is bad.
    const NOTHING: Self = Self { worst: u8::MAX, sum: 0 };

    fn and(self, score: u8) -> Self {
        Self { worst: self.worst.min(score), sum: self.sum + u32::from(score) }
    }
}

fn are_alike(scores: &[Vec<u8>]) -> bool {
    let mut pairs = (0..scores.len()).flat_map(|a| scores[a][..a].iter());
    let first = pairs.next();
    pairs.all(|score| Some(score) == first)
}

/// The `k` lowest bits of a set.
fn lowest(set: u64, k: u32) -> u64 {
    set & !(0..k).fold(set, |rest, _| rest & rest.wrapping_sub(1))
}

/// The places of a set's bits, lowest first.
fn places(set: u64) -> impl Iterator<Item = usize> {
    let next = |&rest: &u64| Some(rest & rest.wrapping_sub(1));
    std::iter::successors(Some(set), next)
        .take_while(|&rest| rest != 0)
        .map(|rest| rest.trailing_zeros() as usize)
}
