//! What a device takes now, and why it takes nothing: the operator's word, its worker's version and report, and what
//! it still runs that nobody believes to be there.

use berth_common::broker::topology::device_queue;
use berth_common::device::DeviceState;
use berth_common::id::{JobId, Replica};
use berth_common::message::{Held, HeldState, PROTOCOL};
use jiff::Timestamp;
use uuid::Uuid;

use super::Device;

/// Old containers that a device's note names.
const SHOWN_STRANGERS: usize = 5;

impl Device {
    /// What a device that is heard takes, and why it takes nothing, if so: the operator's word comes
    /// first, then the worker's version, then whether it takes orders, then its own report.
    #[must_use]
    pub fn standing(&self) -> (DeviceState, Option<String>) {
        let state = self.state.as_ref();
        if let Some(state) = state.filter(|state| state.drained) {
            return (DeviceState::Draining, state.note.clone());
        }
        if self.protocol < PROTOCOL {
            let note = format!(
                "its worker speaks version {} of the protocol, this scheduler version {PROTOCOL}: update it; \
                 what runs there goes on",
                self.protocol
            );
            return (DeviceState::Draining, Some(note));
        }
        if self.deaf {
            let note = format!(
                "its worker is heard and takes no orders: nothing new is placed there before it does. Read its \
                 log, and see whether its account may read the queue {}",
                device_queue(&self.row.name)
            );
            return (DeviceState::Degraded, Some(note));
        }
        let health = self.health.clone().or_else(|| self.old_containers());
        match health {
            Some(health) => (DeviceState::Degraded, Some(health)),
            None => (DeviceState::Up, None),
        }
    }

    fn old_containers(&self) -> Option<String> {
        if self.unlisted {
            return Some("what runs there is not known: its worker has not listed it yet".into());
        }
        let names: Vec<String> =
            self.strangers.iter().take(SHOWN_STRANGERS).map(ToString::to_string).collect();
        let more = if self.strangers.len() > names.len() { ", …" } else { "" };
        (!names.is_empty()).then(|| {
            format!(
                "it still runs containers that were given up, or that a restored database does not know; \
                 nothing is started before they are gone: {}{more}",
                names.join(", ")
            )
        })
    }

    /// Whether its worker is heard and takes no orders.
    #[must_use]
    pub fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// A heartbeat of the present session: it has taken the welcome, and other orders where none is overdue.
    pub fn hears(&mut self, overdue: bool) {
        self.deaf = overdue;
    }

    /// Takes what the worker lists; what is there and should not be holds up everything new. A list
    /// that is missing claims nothing.
    pub fn listed(&mut self, held: Option<&[Held]>) {
        let Some(held) = held else { return };
        self.unlisted = false;
        let pulling = held.iter().filter(|held| held.state == HeldState::Pulling);
        self.pulling = pulling.map(|held| held.replica).collect();
        let live = held.iter().filter(|held| held.state != HeldState::Exited).map(|held| held.replica);
        self.strangers = live.filter(|replica| !self.containers.contains(replica)).collect();
    }

    /// Whether it fetches the image of a container.
    #[must_use]
    pub fn pulls(&self, replica: Replica) -> bool {
        self.pulling.contains(&replica)
    }

    /// A session begins, with the list that its hello had. The welcome before was not answered if there is another one
    /// for the same boot: a worker that loses its session takes a new one, and a device that was lost is welcomed anew.
    pub fn welcomed_at(&mut self, now: Timestamp, boot: Uuid, held: Option<&[Held]>) {
        self.deaf |= self.welcomed.is_some_and(|(before, _)| before == boot);
        self.welcomed = Some((boot, now));
        self.strangers.clear();
        self.unlisted = held.is_none();
        self.listed(held);
    }

    /// Whether it may have old containers of any job: it lives, and has not told.
    #[must_use]
    pub fn has_to_list(&self, now: Timestamp) -> bool {
        self.unlisted && self.shown_state() != DeviceState::Lost && !self.is_quiet(now)
    }

    /// Jobs of which an old container is there, as far as its worker has told.
    pub fn strange_jobs(&self) -> impl Iterator<Item = JobId> {
        self.strangers.iter().map(|replica| replica.job)
    }

    /// It is lost: what it still ran is fenced by now.
    pub fn forget_strangers(&mut self) {
        self.strangers.clear();
        self.unlisted = false;
    }

    /// Brings the state of a device that is heard up to date; whether it was another one.
    pub fn stands(&mut self) -> bool {
        let (now, note) = self.standing();
        let Some(state) = self.state.as_mut() else { return false };
        let changed = (state.state, &state.note) != (now, &note);
        (state.state, state.note) = (now, note);
        changed
    }

    /// Somebody wants nothing started there, or no longer. A lost device stays lost.
    pub fn drained(&mut self, drained: bool) {
        let lost = self.shown_state() == DeviceState::Lost;
        if let Some(state) = self.state.as_mut() {
            state.drained = drained;
        }
        if !lost {
            self.stands();
        }
    }
}
