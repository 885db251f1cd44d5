//! Those who wait, in classes: jobs that differ in nothing but their turn and their limit.
//!
//! Inside a class the order never changes, so only its first job has to be looked at; and where only
//! jobs that end early enough may pass, the first of those is found without looking at the others.

use std::collections::VecDeque;

use crate::Time;

/// Entries of one block: half as many are moved at most by one that goes or comes, and none at its ends, where most do.
const BLOCK: usize = 256;

/// A job's place in its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn<Id> {
    pub submitted: Time,
    pub id: Id,
}

#[derive(Debug, Clone, Copy)]
pub struct Entry<Id> {
    pub turn: Turn<Id>,
    /// How long it may run, in milliseconds; [`crate::NEVER`]: for ever.
    pub limit: Time,
}

/// The jobs of a class, first come first.
#[derive(Debug, Clone)]
pub struct Line<Id> {
    blocks: Vec<Block<Id>>,
    /// The shortest limit in it.
    shortest: Time,
}

#[derive(Debug, Clone)]
struct Block<Id> {
    /// The shortest limit in it.
    shortest: Time,
    /// Of its last entry: whoever searches blocks need not look into them.
    last: Turn<Id>,
    entries: VecDeque<Entry<Id>>,
}

impl<Id> Default for Line<Id> {
    fn default() -> Self {
        Self { blocks: Vec::new(), shortest: crate::NEVER }
    }
}

impl<Id: Copy + Ord> Line<Id> {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The shortest limit of all.
    #[must_use]
    pub fn shortest(&self) -> Time {
        self.shortest
    }

    #[must_use]
    pub fn first(&self) -> Option<&Entry<Id>> {
        self.blocks.first()?.entries.front()
    }

    #[must_use]
    pub fn get(&self, turn: &Turn<Id>) -> Option<Entry<Id>> {
        let block = self.blocks.get(self.block_of(turn))?;
        let at = block.entries.binary_search_by(|of| of.turn.cmp(turn)).ok()?;
        block.entries.get(at).copied()
    }

    /// The first block that does not end before it: most often the very first one.
    fn block_of(&self, turn: &Turn<Id>) -> usize {
        if self.blocks.first().is_some_and(|block| block.last >= *turn) {
            return 0;
        }
        self.blocks.partition_point(|block| block.last < *turn)
    }

    /// The first of those that come after it, whether or not it is there itself.
    #[must_use]
    pub fn after(&self, turn: &Turn<Id>) -> Option<&Entry<Id>> {
        if let Some(first) = self.first().filter(|first| first.turn > *turn) {
            return Some(first);
        }
        let block = self.blocks.get(self.blocks.partition_point(|block| block.last <= *turn))?;
        block.entries.get(block.entries.partition_point(|entry| entry.turn <= *turn))
    }

    /// The first that may run no longer than `limit`.
    #[must_use]
    pub fn first_within(&self, limit: Time) -> Option<&Entry<Id>> {
        let block = self.blocks.iter().find(|block| block.shortest <= limit)?;
        block.entries.iter().find(|entry| entry.limit <= limit)
    }

    pub fn insert(&mut self, entry: Entry<Id>) {
        self.shortest = self.shortest.min(entry.limit);
        let is_last = self.blocks.last().is_some_and(|block| block.last < entry.turn);
        let mut place = if is_last { self.blocks.len() - 1 } else { self.block_of(&entry.turn) };
        if self.blocks.is_empty() {
            self.blocks.push(Block { shortest: entry.limit, last: entry.turn, entries: VecDeque::new() });
        }
        if self.blocks[place].entries.len() == BLOCK {
            // Most jobs come last: what is before them stays full.
            self.split(place, if is_last { BLOCK } else { BLOCK / 2 });
            place += usize::from(is_last || self.blocks[place].last < entry.turn);
        }
        let block = &mut self.blocks[place];
        // A look only at its end, which is at hand, where the rest is not.
        let at = if is_last {
            block.entries.len()
        } else {
            block.entries.partition_point(|of| of.turn < entry.turn)
        };
        block.entries.insert(at, entry);
        block.shortest = block.shortest.min(entry.limit);
        block.last = block.last.max(entry.turn);
    }

    fn split(&mut self, place: usize, at: usize) {
        let block = &mut self.blocks[place];
        let mut after = Block { entries: block.entries.split_off(at), ..*block };
        block.measure();
        after.measure();
        self.blocks.insert(place + 1, after);
    }

    /// Whether it was there.
    pub fn remove(&mut self, turn: &Turn<Id>) -> bool {
        let place = self.block_of(turn);
        let Some(block) = self.blocks.get_mut(place) else { return false };
        let Ok(at) = block.entries.binary_search_by(|of| of.turn.cmp(turn)) else { return false };
        let Some(entry) = block.entries.remove(at) else { return false };
        if entry.limit == block.shortest || entry.turn == block.last {
            block.measure();
        }
        if block.entries.is_empty() {
            self.blocks.remove(place);
        }
        if entry.limit == self.shortest {
            self.shortest = self.blocks.iter().map(|block| block.shortest).min().unwrap_or(crate::NEVER);
        }
        true
    }

    /// How many at its beginning `are_before` something; those that follow are not.
    #[must_use]
    pub fn count_while(&self, mut are_before: impl FnMut(&Entry<Id>) -> bool) -> usize {
        let is_before = |block: &Block<Id>| block.entries.back().is_some_and(&mut are_before);
        let place = self.blocks.partition_point(is_before);
        let full: usize = self.blocks[..place].iter().map(|block| block.entries.len()).sum();
        full + self.blocks.get(place).map_or(0, |block| block.entries.partition_point(are_before))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry<Id>> {
        self.blocks.iter().flat_map(|block| &block.entries)
    }
}

impl<Id: Copy + Ord> Block<Id> {
    fn measure(&mut self) {
        self.shortest = self.entries.iter().map(|entry| entry.limit).min().unwrap_or(crate::NEVER);
        self.last = self.entries.back().map_or(self.last, |entry| entry.turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_sorted_list(steps in proptest::collection::vec((any::<bool>(), 0_i64..2000, 1_i64..50), 1..3000)) {
            let (mut line, mut model) = (Line::default(), std::collections::BTreeMap::new());
            for (come, submitted, limit) in steps {
                let turn = Turn { submitted, id: submitted };
                if come && !model.contains_key(&turn) {
                    line.insert(Entry { turn, limit });
                    model.insert(turn, limit);
                } else {
                    prop_assert_eq!(line.remove(&turn), model.remove(&turn).is_some());
                }
            }
            prop_assert_eq!(line.is_empty(), model.is_empty());
            prop_assert_eq!(line.shortest(), model.values().copied().min().unwrap_or(crate::NEVER));
            prop_assert!(line.iter().map(|e| e.turn).eq(model.keys().copied()));
            for limit in [0, 1, 5, 25, 100] {
                let first = model.iter().find(|(_, of)| **of <= limit).map(|(turn, _)| *turn);
                prop_assert_eq!(line.first_within(limit).map(|e| e.turn), first);
            }
            for (place, turn) in model.keys().enumerate() {
                prop_assert_eq!(line.count_while(|e| e.turn < *turn), place);
                prop_assert_eq!(line.get(turn).map(|e| e.limit), model.get(turn).copied());
                prop_assert_eq!(line.after(turn).map(|e| e.turn), model.keys().nth(place + 1).copied());
            }
        }
    }
}
