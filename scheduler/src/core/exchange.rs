//! The exchange with the workers: heartbeats, welcomes, reports and answers.
//!
//! Only knowledge ends an attempt: an exit report, an answer, or the loss of the device. A list in
//! a heartbeat ends nothing; what it lacks is asked for, what it has too much is stopped.

use berth_common::device::DeviceState;
use berth_common::id::Replica;
use berth_common::message::{
    FromDevice, Heartbeat, Held, HeldState, OLDEST_PROTOCOL, OTHER_INSTALLATION, Order, PROTOCOL, Welcome,
};
use berth_common::problem::Problem;
use berth_common::time::{ms_between, plus_ms};
use jiff::Timestamp;

use super::Core;
use super::device::{
    ASK_AGAIN_MS, SEEN_WRITTEN_MS, START_OVERDUE_MS, STOP_OVERDUE_MS, STOP_SLACK_MS, UNTAKEN_MS,
    WELCOME_AGAIN_MS,
};
use super::rows::DeviceStateRow;

/// How much larger than ours a number may be that a worker tells: a month of full load; beyond it
/// somebody lies.
const MAX_RAISE: i64 = 1 << 32;

impl Core {
    /// Whether a worker is one that may speak for its device.
    ///
    /// # Errors
    /// What it is to be told: another one lives under its name, it obeys another installation, or
    /// its version is not understood.
    pub(super) fn check_worker(
        &self,
        told: &FromDevice,
        heartbeat: &Heartbeat,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let (name, version) = (&told.device, heartbeat.protocol);
        if !(OLDEST_PROTOCOL..=PROTOCOL).contains(&version) {
            let older = if version > PROTOCOL { "scheduler" } else { "worker" };
            let text = format!(
                "the worker of {name} speaks version {version} of the protocol, this scheduler understands \
                 {OLDEST_PROTOCOL} and {PROTOCOL}: update the {older}"
            );
            return Err(Problem::new(409, text));
        }
        if let Some(other) = heartbeat.instance.filter(|instance| *instance != self.instance) {
            let text = format!(
                "the worker of {name} obeys the installation {other}, this one is {}: if it is meant to \
                 change over, stop it and run `berth-worker adopt`",
                self.instance
            );
            // Not 409, by which its containers end: they belong to the other installation, and an empty
            // database must stop nobody.
            return Err(Problem::new(OTHER_INSTALLATION, text));
        }
        let device = self.dids.get(name).and_then(|did| self.devices.get(did));
        if let Some(device) = device.filter(|device| device.is_held_by_another(told.worker_id, now)) {
            let here = &device.row.ip;
            let there = heartbeat.inventory.as_ref().map_or("another address", |i| i.ip.as_str());
            let text = format!(
                "the name {name} is in use by a living worker at {here}; the one at {there} is not heard. Give \
                 one of them another name (--device), or stop it"
            );
            return Err(Problem::new(409, text));
        }
        Ok(())
    }

    pub(super) fn heartbeat(&mut self, did: i64, told: &FromDevice, heartbeat: &Heartbeat, now: Timestamp) {
        self.raise_numbers(heartbeat.session.max(heartbeat.last));
        let device = self.devices.get_mut(&did).expect("dids and devices go together");
        self.unsettled |= device.is_quiet(now);
        device.seen = now;
        device.protocol = heartbeat.protocol;
        device.health.clone_from(&heartbeat.health);
        if let Some(inventory) = heartbeat.inventory.as_ref().filter(|told| device.differs(told)) {
            self.take_inventory(did, inventory);
        }
        let overdue = self.is_overdue(did, heartbeat.last.unwrap_or(0), now);
        let device = self.devices.get_mut(&did).expect("it was there above");
        let current = device.state.as_ref().is_some_and(|state| {
            heartbeat.session == Some(state.session)
                && state.boot == told.boot
                && state.worker_id == told.worker_id
                && state.state != DeviceState::Lost
        });
        if !current {
            self.welcome(did, told, heartbeat, now);
            return;
        }
        device.hears(overdue);
        device.listed(heartbeat.attempts.as_deref());
        let changed = device.stands();
        let state = device.state.as_mut().expect("a current session has a state");
        if changed || ms_between(state.last_seen_at, now) >= SEEN_WRITTEN_MS {
            state.last_seen_at = now;
            self.changes.states.insert(did);
            self.unsettled |= changed;
        }
        if let Some(held) = &heartbeat.attempts {
            self.compare(did, held, heartbeat.last.unwrap_or(0), now);
        }
    }

    /// A worker knows larger numbers than we do only after a backup was restored: ours go on above.
    fn raise_numbers(&mut self, told: Option<i64>) {
        let Some(told) = told.filter(|told| *told >= self.next_id) else { return };
        if told - self.next_id < MAX_RAISE {
            self.next_id = told + 1;
        }
    }

    /// Begins a session: what the worker holds is compared with what is believed to be there.
    fn welcome(&mut self, did: i64, told: &FromDevice, heartbeat: &Heartbeat, now: Timestamp) {
        let device = &self.devices[&did];
        let waits = |at: Timestamp| ms_between(at, now) < WELCOME_AGAIN_MS;
        if device.welcomed.is_some_and(|(boot, at)| boot == told.boot && waits(at)) {
            return;
        }
        let session = self.take_id();
        let device = self.devices.get_mut(&did).expect("it was there on the first line");
        let before = device.state.take();
        let rows = if before.is_some() { &mut self.changes.states } else { &mut self.changes.new_states };
        rows.insert(did);
        let (drained, note) = before.map_or((false, None), |before| (before.drained, before.note));
        device.state = Some(DeviceStateRow {
            did,
            worker_id: told.worker_id,
            boot: told.boot,
            state: DeviceState::Up,
            session,
            note,
            drained,
            last_seen_at: now,
        });
        device.welcomed_at(now, told.boot, heartbeat.attempts.as_deref());
        device.stands();
        device.stops.clear();
        device.asked.clear();
        let mut expected = device.containers.clone();
        if self.recovering_until.is_some() {
            // The worker would stop what we do not name.
            expected.extend(heartbeat.attempts.iter().flatten().map(|held| held.replica));
        }
        let welcome = Welcome {
            boot: told.boot,
            instance: self.instance,
            expected: expected.into_iter().collect(),
            fence_after_s: self.limits.fence_after_s,
        };
        // What has to be stopped is stopped when the worker's first list in the session shows it.
        self.send(did, Order::Welcome(welcome), now);
        self.tell_limits_again(did, now);
        self.send_execs_again(did, now);
        self.unsettled = true;
    }

    /// What a worker holds against what should be there. `last`: the largest number it has taken.
    fn compare(&mut self, did: i64, held: &[Held], last: i64, now: Timestamp) {
        for &Held { replica, state } in held {
            if !self.devices[&did].containers.contains(&replica) {
                // After a restore people see it for a while before it is stopped.
                if state != HeldState::Exited && self.recovering_until.is_none() {
                    self.stop_again_when_due(did, replica, last, now);
                }
                continue;
            }
            if state == HeldState::Running {
                self.runs(did, replica, now, |_| {});
            }
            let wanted = self.jobs.get(&replica.job).is_some_and(|job| job.row.life.stopping.is_none());
            if !wanted && state != HeldState::Exited {
                self.stop_again_when_due(did, replica, last, now);
            }
        }
        let missing: Vec<Replica> = self.devices[&did]
            .containers
            .iter()
            .filter(|replica| !held.iter().any(|h| h.replica == **replica))
            .filter(|replica| self.should_be_there(**replica, last, now))
            .copied()
            .collect();
        for replica in missing {
            let device = self.devices.get_mut(&did).expect("it was there above");
            let due = device.asked.get(&replica).is_none_or(|at| ms_between(*at, now) >= ASK_AGAIN_MS);
            if due {
                device.asked.insert(replica, now);
                self.send(did, Order::Ask(replica), now);
            }
        }
    }

    /// A start that the worker has passed by, or that has been on its way for too long: messages
    /// can overtake each other, and then the later one is all that is taken. The question that
    /// follows has a larger number, so after its answer the start cannot be taken any more.
    fn should_be_there(&self, replica: Replica, last: i64, now: Timestamp) -> bool {
        let container = self.jobs.get(&replica.job).and_then(|job| job.live().find(|c| c.replica == replica));
        container.is_some_and(|c| c.order_id <= last || ms_between(c.scheduled_at, now) >= START_OVERDUE_MS)
    }

    /// Whether a start that went there has not been taken for so long that more than a message must have been lost: the
    /// questions that followed it have larger numbers.
    fn is_overdue(&self, did: i64, last: i64, now: Timestamp) -> bool {
        self.devices[&did].asked.keys().any(|replica| {
            let job = self.jobs.get(&replica.job);
            let container = job.and_then(|job| job.live().find(|container| container.replica == *replica));
            container.is_some_and(|c| c.order_id > last && ms_between(c.scheduled_at, now) >= UNTAKEN_MS)
        })
    }

    /// A stop goes out once per session, and again when it was taken and has not worked in time, or was
    /// not taken in time: a later message may have overtaken it, and then it never is.
    fn stop_again_when_due(&mut self, did: i64, replica: Replica, last: i64, now: Timestamp) {
        let due = match self.devices[&did].stops.get(&replica) {
            None => true,
            Some(stop) if last >= stop.id => now > plus_ms(stop.due, STOP_SLACK_MS),
            Some(stop) => ms_between(stop.sent, now) >= STOP_OVERDUE_MS,
        };
        if due {
            self.send_stop(replica, did, now);
        }
    }
}
