//! Choosing among too many GPUs to try all sets: each free GPU is the seed of one, which takes the GPU
//! that is linked best to it until it is large enough; the best of them is chosen.

use std::cmp::Reverse;

use super::{Choice, Worth, places};

pub(super) fn best(scores: &[Vec<u8>], free: u64, k: u32) -> u64 {
    let pulls = pulls(scores, free);
    let grown = places(free).map(|seed| grow(scores, free, k, seed, &pulls));
    grown.max().expect("more GPUs are free than are asked for").set.0
}

/// For each GPU, the sum of its links to the free ones.
pub(super) fn pulls(scores: &[Vec<u8>], free: u64) -> Vec<u32> {
    let of = |gpu: usize| places(free & !(1 << gpu)).map(|other| u32::from(scores[gpu][other])).sum();
    (0..scores.len()).map(of).collect()
}

/// The set of `k` that grows from one free GPU.
pub(super) fn grow(scores: &[Vec<u8>], free: u64, k: u32, seed: usize, pulls: &[u32]) -> Choice {
    let mut set: u64 = 1 << seed;
    let mut worth = Worth::NOTHING;
    // The links of each GPU to the set.
    let mut to_set: Vec<Worth> = scores[seed].iter().map(|score| Worth::NOTHING.and(*score)).collect();
    while set.count_ones() < k {
        // At equal links the one goes that would leave the least behind.
        let key = |gpu: &usize| {
            (to_set[*gpu].worst.min(worth.worst), to_set[*gpu].sum, Reverse(pulls[*gpu]), Reverse(*gpu))
        };
        let next = places(free & !set).max_by_key(key).expect("more are free than are asked for");
        worth = Worth { worst: worth.worst.min(to_set[next].worst), sum: worth.sum + to_set[next].sum };
        set |= 1 << next;
        for (of, score) in to_set.iter_mut().zip(&scores[next]) {
            *of = of.and(*score);
        }
    }
    // All pairs, less those with one end in the set; these are in `pulls` once, those inside it twice.
    let all = places(free).map(|gpu| pulls[gpu]).sum::<u32>() / 2;
    let ends: u32 = places(set).map(|gpu| pulls[gpu]).sum();
    Choice { worth, rest: all + worth.sum - ends, set: Reverse(set) }
}
