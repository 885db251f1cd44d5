//! Who waits, by class: jobs come into the line of theirs, and leave it. Classes that need the same are one shape.

use std::fmt::Debug;
use std::hash::Hash;

use crate::cluster::{Cluster, PoolKey};
use crate::demand::Demand;
use crate::waiting::{Entry, Line, Turn};
use crate::{Class, ClassKey, Head, Kind, Policy, Shape, ShapeKey, Time};

impl<Id: Copy + Ord + Hash + Debug> Policy<Id> {
    pub(crate) fn enqueue(&mut self, id: Id, kind: Kind, submitted: Time, limit: Time) {
        let entry = Entry { turn: Turn { submitted, id }, limit };
        let key = match self.class_keys.get(&kind) {
            Some(key) => *key,
            None => self.new_class(kind, entry),
        };
        self.class_mut(key).line.insert(entry);
        self.waiting.insert(id, (key, submitted));
        self.update_head(key);
    }

    fn new_class(&mut self, kind: Kind, entry: Entry<Id>) -> ClassKey {
        let common = Kind { priority: 0, estimate: 0, ..kind.clone() };
        let shape = match self.shape_keys.get(&common) {
            Some(shape) => *shape,
            None => self.new_shape(common),
        };
        let key = self.unused_classes.pop().unwrap_or_else(|| {
            self.classes.push(None);
            ClassKey(u32::try_from(self.classes.len() - 1).expect("fewer classes than u32 has numbers"))
        });
        let (priority, estimate, shortest) = (kind.priority, kind.estimate, entry.limit);
        let heads = &mut self.shape_mut(shape).heads;
        let place = heads.len();
        heads.push(Head { class: key, priority, estimate, first: entry, shortest, failed_in: 0 });
        self.classes[key.0 as usize] =
            Some(Class { kind: kind.clone(), line: Line::default(), shape, place });
        self.class_keys.insert(kind, key);
        key
    }

    fn new_shape(&mut self, kind: Kind) -> ShapeKey {
        let shape = shape_for(&self.cluster, kind.clone());
        let key = self.unused_shapes.pop().unwrap_or_else(|| {
            self.shapes.push(None);
            ShapeKey(u32::try_from(self.shapes.len() - 1).expect("fewer shapes than u32 has numbers"))
        });
        self.queues[usize::from(kind.queue.0)].shapes.push(key);
        self.shapes[key.0 as usize] = Some(shape);
        self.shape_keys.insert(kind, key);
        key
    }

    pub(crate) fn shape(&self, key: ShapeKey) -> &Shape<Id> {
        self.shapes[key.0 as usize].as_ref().expect("keys are kept of shapes that are there")
    }

    fn shape_mut(&mut self, key: ShapeKey) -> &mut Shape<Id> {
        self.shapes[key.0 as usize].as_mut().expect("keys are kept of shapes that are there")
    }

    pub(crate) fn shape_of(&self, key: ClassKey) -> &Shape<Id> {
        self.shape(self.class(key).shape)
    }

    pub(crate) fn head_mut(&mut self, key: ClassKey) -> &mut Head<Id> {
        let Class { shape, place, .. } = *self.class(key);
        &mut self.shape_mut(shape).heads[place]
    }

    /// After its line has changed, in which somebody still stands.
    pub(crate) fn update_head(&mut self, key: ClassKey) {
        let line = &self.class(key).line;
        let shortest = line.shortest();
        if let Some(first) = line.first().copied() {
            let head = self.head_mut(key);
            (head.first, head.shortest) = (first, shortest);
        }
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
        self.held_back.retain(|_, (of, _)| of != id);
        let line = &mut self.class_mut(key).line;
        line.remove(&Turn { submitted, id: *id });
        if line.is_empty() {
            self.remove_class(key);
        } else {
            self.update_head(key);
        }
        true
    }

    fn remove_class(&mut self, key: ClassKey) {
        let Some(class) = self.classes[key.0 as usize].take() else { return };
        self.unused_classes.push(key);
        self.class_keys.remove(&class.kind);
        let heads = &mut self.shape_mut(class.shape).heads;
        heads.swap_remove(class.place);
        if heads.is_empty() {
            self.remove_shape(class.shape);
        } else if let Some(moved) = heads.get(class.place).map(|head| head.class) {
            self.class_mut(moved).place = class.place;
        }
    }

    fn remove_shape(&mut self, key: ShapeKey) {
        let Some(shape) = self.shapes[key.0 as usize].take() else { return };
        self.unused_shapes.push(key);
        self.shape_keys.remove(&shape.kind);
        self.queues[usize::from(shape.kind.queue.0)].shapes.retain(|of| *of != key);
    }

    /// After a device came or went.
    pub(crate) fn find_pools_again(&mut self) {
        for shape in self.shapes.iter_mut().flatten() {
            shape.pools = pools_for(&self.cluster, &shape.kind.demand);
        }
    }
}

/// One without classes.
pub(crate) fn shape_for<Id>(cluster: &Cluster, kind: Kind) -> Shape<Id> {
    let widest = kind.demand.parts.iter().map(|(need, _)| need.gpus).max().unwrap_or(0);
    Shape { pools: pools_for(cluster, &kind.demand), widest, heads: Vec::new(), kind }
}

fn pools_for(cluster: &Cluster, demand: &Demand) -> Vec<PoolKey> {
    cluster.pools().filter(|(pool, _)| cluster.could_ever(*pool, demand)).map(|(pool, _)| pool).collect()
}
