//! Who waits, by class: jobs come into the line of theirs, and leave it.

use std::fmt::Debug;
use std::hash::Hash;

use crate::cluster::{Cluster, PoolKey};
use crate::demand::Demand;
use crate::waiting::{Entry, Line, Turn};
use crate::{Class, ClassKey, Kind, Policy, Time};

impl<Id: Copy + Ord + Hash + Debug> Policy<Id> {
    pub(crate) fn enqueue(&mut self, id: Id, kind: Kind, submitted: Time, limit: Time) {
        let key = match self.class_keys.get(&kind) {
            Some(key) => *key,
            None => self.new_class(kind),
        };
        self.class_mut(key).line.insert(Entry { turn: Turn { submitted, id }, limit });
        self.waiting.insert(id, (key, submitted));
    }

    fn new_class(&mut self, kind: Kind) -> ClassKey {
        let class = class_of(&self.cluster, kind.clone());
        let key = self.unused.pop().unwrap_or_else(|| {
            self.classes.push(None);
            ClassKey(u32::try_from(self.classes.len() - 1).expect("fewer classes than u32 has numbers"))
        });
        self.classes[key.0 as usize] = Some(class);
        self.queues[usize::from(kind.queue.0)].classes.push(key);
        self.class_keys.insert(kind, key);
        key
    }

    pub(crate) fn class(&self, key: ClassKey) -> &Class<Id> {
        self.classes[key.0 as usize].as_ref().expect("keys are kept of classes that are there")
    }

    pub(crate) fn class_mut(&mut self, key: ClassKey) -> &mut Class<Id> {
        self.classes[key.0 as usize].as_mut().expect("keys are kept of classes that are there")
    }

    pub(crate) fn entry_of(&self, id: &Id) -> Option<(ClassKey, Entry<Id>)> {
        let (key, submitted) = *self.waiting.get(id)?;
        let entry = self.class(key).line.get(&Turn { submitted, id: *id })?;
        Some((key, entry))
    }

    /// Whether it was there. The last one of a class takes that with it.
    pub(crate) fn dequeue(&mut self, id: &Id) -> bool {
        let Some((key, submitted)) = self.waiting.remove(id) else { return false };
        let class = self.class_mut(key);
        class.line.remove(&Turn { submitted, id: *id });
        if class.line.is_empty() {
            let kind = class.kind.clone();
            self.classes[key.0 as usize] = None;
            self.unused.push(key);
            self.class_keys.remove(&kind);
            self.queues[usize::from(kind.queue.0)].classes.retain(|of| *of != key);
        }
        true
    }

    /// After a device came or went.
    pub(crate) fn find_pools_again(&mut self) {
        let cluster = &self.cluster;
        for class in self.classes.iter_mut().flatten() {
            class.pools = pools_for(cluster, &class.kind.demand);
        }
    }
}

/// One without jobs.
pub(crate) fn class_of<Id: Copy + Ord>(cluster: &Cluster, kind: Kind) -> Class<Id> {
    let widest = kind.demand.parts.iter().map(|(need, _)| need.gpus).max().unwrap_or(0);
    let pools = pools_for(cluster, &kind.demand);
    Class { pools, widest, line: Line::default(), failed_in: 0, kind }
}

fn pools_for(cluster: &Cluster, demand: &Demand) -> Vec<PoolKey> {
    cluster.pools().filter(|(pool, _)| cluster.could_ever(*pool, demand)).map(|(pool, _)| pool).collect()
}
