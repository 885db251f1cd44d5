//! When the devices of a pool will have GPUs free, if what runs ends at its limits.
//!
//! A tournament: for each number of GPUs, the time at which a device has so many, and above the devices the earliest of
//! each two, four, eight … of them. A device that changes costs a few steps, and those that are first are found without a
//! look at all others. What must always hold: a node has the least of the two below it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::{NEVER, Time};

#[derive(Debug, Clone, Default)]
pub struct Soonest {
    /// Numbers of GPUs, from 0 on.
    columns: usize,
    /// A power of two, or 0. Seats are numbered from 0 on.
    seats: usize,
    /// The columns of node 1, the topmost, then those of 2 and 3 below it; the seats are the last nodes.
    times: Vec<Time>,
}

impl Soonest {
    /// From `times[k]` on the device at a seat has `k` GPUs free; those that are not there: never.
    pub fn set(&mut self, seat: usize, times: &[Time]) {
        if seat >= self.seats || times.len() > self.columns {
            self.grow(seat + 1, times.len());
        }
        let mut node = self.seats + seat;
        let own = &mut self.times[node * self.columns..][..self.columns];
        own[..times.len()].copy_from_slice(times);
        own[times.len()..].fill(NEVER);
        while node > 1 {
            node /= 2;
            if !self.measure(node) {
                return;
            }
        }
    }

    /// Whether it is not as it was.
    fn measure(&mut self, node: usize) -> bool {
        let columns = self.columns;
        let (above, below) = self.times.split_at_mut(2 * node * columns);
        let (left, right) = below[..2 * columns].split_at(columns);
        let mut changed = false;
        for ((own, left), right) in above[node * columns..].iter_mut().zip(left).zip(right) {
            let least = *left.min(right);
            changed |= *own != least;
            *own = least;
        }
        changed
    }

    fn grow(&mut self, seats: usize, columns: usize) {
        let columns = columns.max(self.columns);
        let seats = seats.max(self.seats).next_power_of_two();
        let mut times = vec![NEVER; 2 * seats * columns];
        for seat in 0..self.seats {
            let before = &self.times[(self.seats + seat) * self.columns..][..self.columns];
            times[(seats + seat) * columns..][..before.len()].copy_from_slice(before);
        }
        *self = Self { columns, seats, times };
        (1..seats).rev().for_each(|node| _ = self.measure(node));
    }

    /// The seats that will ever have so many GPUs free, with that time, the soonest first.
    pub fn first(&self, gpus: usize) -> impl Iterator<Item = (Time, usize)> {
        let at = move |node: usize| self.times[node * self.columns + gpus];
        let top = (gpus < self.columns).then(|| Reverse((at(1), 1)));
        let mut next: BinaryHeap<Reverse<(Time, usize)>> = top.into_iter().collect();
        std::iter::from_fn(move || {
            loop {
                let Reverse((time, node)) = next.pop().filter(|Reverse((time, _))| *time != NEVER)?;
                if node >= self.seats {
                    return Some((time, node - self.seats));
                }
                next.extend([2 * node, 2 * node + 1].map(|below| Reverse((at(below), below))));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_sorted_list(steps in proptest::collection::vec((0_usize..50, proptest::collection::vec(0_i64..100, 1..9)), 1..200)) {
            let (mut soonest, mut model) = (Soonest::default(), std::collections::BTreeMap::new());
            for (seat, mut times) in steps {
                times.sort_unstable();
                soonest.set(seat, &times);
                model.insert(seat, times);
            }
            for gpus in 0..10 {
                let mut expected: Vec<(Time, usize)> = model.iter()
                    .filter_map(|(seat, times)| Some((*times.get(gpus)?, *seat))).collect();
                expected.sort_unstable();
                prop_assert_eq!(soonest.first(gpus).collect::<Vec<_>>(), expected);
            }
        }
    }
}
