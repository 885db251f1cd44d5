//! Room that is being made for a job: those who leave do not all go at the same time.
//!
//! What must hold: until the last of them is gone, no preemptible job is placed on the devices on which the job will
//! have its room. Else the first ones could come back to what they have just left, and would be stopped again, for ever.
//! A policy that is built anew learns of it when it looks next for jobs that have to go.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;

use crate::cluster::DeviceKey;
use crate::{Kind, Policy};

#[derive(Debug, Clone)]
pub(crate) struct Clearing<Id> {
    pub for_whom: Id,
    /// Those that leave those devices.
    pub going: Vec<Id>,
    /// Where it will be placed.
    pub devices: Vec<DeviceKey>,
}

#[derive(Debug, Clone)]
pub(crate) struct Clearings<Id> {
    list: Vec<Clearing<Id>>,
    devices: BTreeSet<DeviceKey>,
}

impl<Id> Default for Clearings<Id> {
    fn default() -> Self {
        Self { list: Vec::new(), devices: BTreeSet::new() }
    }
}

impl<Id: Eq> Clearings<Id> {
    /// What was found for a job counts instead of what was found before.
    pub(crate) fn put(&mut self, found: Vec<Clearing<Id>>) {
        self.retain(|before| found.iter().all(|clearing| clearing.for_whom != before.for_whom));
        self.devices.extend(found.iter().flat_map(|clearing| &clearing.devices));
        self.list.extend(found);
    }

    fn retain(&mut self, goes_on: impl Fn(&Clearing<Id>) -> bool) {
        if !self.list.is_empty() {
            self.list.retain(goes_on);
            self.devices = self.list.iter().flat_map(|clearing| &clearing.devices).copied().collect();
        }
    }
}

impl<Id: Copy + Ord + Hash + Debug> Policy<Id> {
    /// Before a pass: those whose room is made, or who want it no more.
    pub(crate) fn end_clearings(&mut self) {
        let (waiting, running) = (&self.waiting, &self.running);
        let leaves = |id: &Id, devices: &[DeviceKey]| {
            running.get(id).is_some_and(|running| {
                running.leaving && running.places.iter().any(|(device, _)| devices.contains(device))
            })
        };
        self.clearings.retain(|Clearing { for_whom, going, devices }| {
            waiting.contains_key(for_whom) && going.iter().any(|id| leaves(id, devices))
        });
    }

    /// Devices on which a job must not be placed now; none: all will do.
    pub(crate) fn closed_to(&self, kind: &Kind) -> Option<&BTreeSet<DeviceKey>> {
        Some(&self.clearings.devices).filter(|devices| kind.preemptible && !devices.is_empty())
    }
}
