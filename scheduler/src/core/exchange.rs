//! The exchange with the workers: heartbeats, welcomes, reports and answers.
//!
//! Only knowledge ends an attempt: an exit report, an answer, or the loss of the device. A list in
//! a heartbeat ends nothing; what it lacks is asked for, what it has too much is stopped.

use berth_common::device::DeviceState;
use berth_common::id::Replica;
use berth_common::inventory::Inventory;
use berth_common::job::AttemptStatus;
use berth_common::message::{
    Answer, Event as Told, FromDevice, Heartbeat, Held, HeldState, Order, Started, Welcome, WhatBecame,
};
use berth_common::time::{ms_between, plus_ms};
use jiff::Timestamp;

use super::Core;
use super::device::{
    ASK_AGAIN_MS, Device, SEEN_WRITTEN_MS, START_OVERDUE_MS, STOP_SLACK_MS, WELCOME_AGAIN_MS, row_from,
};
use super::job::{End, Event};
use super::life::Cause;
use super::rows::{DeviceStateRow, GpuRow};

impl Core {
    /// Takes what a worker tells. Returns 1 when it was about nothing that is known here.
    pub(super) fn report(&mut self, told: &FromDevice, now: Timestamp) -> u64 {
        let Some(did) = self.dids.get(&told.device).copied().or_else(|| self.register(told, now)) else {
            return 1;
        };
        let cause = Cause::device(&told.device, None);
        match &told.event {
            Told::Heartbeat(heartbeat) => self.heartbeat(did, told, heartbeat, now),
            Told::Started(started) => u64::from(!self.started(did, started, now)),
            Told::Exited(exited) => {
                u64::from(!self.gone(did, exited.replica, End::Ended(exited.ending.clone()), &cause, now))
            }
            Told::Answer(answer) => self.answer(did, answer, &cause, now),
            Told::Executed(_) => 1,
        }
    }

    /// A device becomes known by the first heartbeat that brings its inventory.
    fn register(&mut self, told: &FromDevice, now: Timestamp) -> Option<i64> {
        let Told::Heartbeat(heartbeat) = &told.event else { return None };
        let inventory = heartbeat.inventory.as_ref()?;
        let did = self.take_id();
        let gpus = self.gpu_rows(did, inventory);
        let row = row_from(did, &told.device, inventory, gpus);
        self.dids.insert(told.device.clone(), did);
        self.devices.insert(did, Device::new(row, None, now));
        self.changes.new_devices.insert(did);
        Some(did)
    }

    /// The GPUs of an inventory with their numbers. A GPU is known by its UUID, wherever it turns up:
    /// one that another device has and that may be in use there is left to it.
    fn gpu_rows(&mut self, did: i64, inventory: &Inventory) -> Vec<GpuRow> {
        let mut rows: Vec<GpuRow> = Vec::with_capacity(inventory.gpus.len());
        for gpu in &inventory.gpus {
            let known = self.gids.get(&gpu.uuid).copied();
            if rows.iter().any(|row| row.gpu.uuid == gpu.uuid)
                || known.is_some_and(|gid| !self.give_over(gid, did))
            {
                continue;
            }
            let row = GpuRow { gid: known.unwrap_or_else(|| self.take_id()), gpu: gpu.clone() };
            if known.is_none() {
                self.gids.insert(gpu.uuid.clone(), row.gid);
                self.changes.new_gpus.push(row.clone());
            }
            rows.push(row);
        }
        rows
    }

    /// Whether the device `to` may have a GPU; taken from a lost device where it is free there.
    fn give_over(&mut self, gid: i64, to: i64) -> bool {
        let holds =
            |d: &&mut Device| d.row.did != to && (d.is_taken(gid) || d.row.gpus.iter().any(|g| g.gid == gid));
        let Some(other) = self.devices.values_mut().find(holds) else { return true };
        if other.shown_state() != DeviceState::Lost || other.is_taken(gid) {
            return false;
        }
        other.forget_gpu(gid);
        let did = other.row.did;
        self.changes.devices.insert(did);
        true
    }

    fn heartbeat(&mut self, did: i64, told: &FromDevice, heartbeat: &Heartbeat, now: Timestamp) -> u64 {
        let device = self.devices.get_mut(&did).expect("dids and devices go together");
        if device.is_held_by_another(told.worker_id, now) {
            return 1;
        }
        self.unsettled |= device.is_quiet(now);
        device.seen = now;
        if let Some(inventory) = heartbeat.inventory.as_ref().filter(|told| device.differs(told)) {
            let name = device.row.name.clone();
            let row = row_from(did, &name, inventory, self.gpu_rows(did, inventory));
            let device = self.devices.get_mut(&did).expect("it was there above");
            if device.row != row {
                device.row = row;
                self.changes.devices.insert(did);
                self.unsettled = true;
            }
        }
        let device = self.devices.get_mut(&did).expect("it was there above");
        let current = device.state.as_ref().is_some_and(|state| {
            heartbeat.session == Some(state.session)
                && state.boot == told.boot
                && state.worker_id == told.worker_id
                && state.state != DeviceState::Lost
        });
        if !current {
            self.welcome(did, told, now);
            return 0;
        }
        let state = device.state.as_mut().expect("a current session has a state");
        if ms_between(state.last_seen_at, now) >= SEEN_WRITTEN_MS {
            state.last_seen_at = now;
            self.changes.states.insert(did);
        }
        if let Some(held) = &heartbeat.attempts {
            self.compare(did, held, heartbeat.last.unwrap_or(0), now);
        }
        0
    }

    /// Begins a session: what the worker holds is compared with what is believed to be there.
    fn welcome(&mut self, did: i64, told: &FromDevice, now: Timestamp) {
        let device = &self.devices[&did];
        let waits = |at: Timestamp| ms_between(at, now) < WELCOME_AGAIN_MS;
        if device.welcomed.is_some_and(|(boot, at)| boot == told.boot && waits(at)) {
            return;
        }
        let session = self.take_id();
        let device = self.devices.get_mut(&did).expect("it was there on the first line");
        let before = device.state.take();
        let (state, note) = match before.as_ref().map(|b| (b.state, b.note.clone())) {
            None | Some((DeviceState::Lost | DeviceState::Up, _)) => (DeviceState::Up, None),
            Some((kept @ (DeviceState::Draining | DeviceState::Degraded), note)) => (kept, note),
        };
        let rows = if before.is_some() { &mut self.changes.states } else { &mut self.changes.new_states };
        rows.insert(did);
        device.state = Some(DeviceStateRow {
            did,
            worker_id: told.worker_id,
            boot: told.boot,
            state,
            session,
            note,
            drained: before.as_ref().is_some_and(|b| b.drained),
            last_seen_at: now,
        });
        device.welcomed = Some((told.boot, now));
        device.stops.clear();
        device.asked.clear();
        let welcome = Welcome {
            boot: told.boot,
            instance: self.instance,
            expected: device.containers.iter().copied().collect(),
            fence_after_s: self.limits.fence_after_s,
        };
        // What has to be stopped is stopped when the worker's first list in the session shows it.
        self.send(did, Order::Welcome(welcome), now);
        self.unsettled = true;
    }

    /// What a worker holds against what should be there. `last`: the largest number it has taken.
    fn compare(&mut self, did: i64, held: &[Held], last: i64, now: Timestamp) {
        for &Held { replica, state } in held {
            if !self.devices[&did].containers.contains(&replica) {
                if state != HeldState::Exited {
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

    /// A stop goes out once per session, and again when it was taken and has not worked in time.
    fn stop_again_when_due(&mut self, did: i64, replica: Replica, last: i64, now: Timestamp) {
        let sent = self.devices[&did].stops.get(&replica);
        let due = sent.is_none_or(|stop| last >= stop.id && now > plus_ms(stop.due, STOP_SLACK_MS));
        if due {
            self.send_stop(replica, did, now);
        }
    }

    fn started(&mut self, did: i64, started: &Started, now: Timestamp) -> bool {
        self.runs(did, started.replica, now, |container| {
            container.docker_id = Some(started.docker_id.clone());
            container.ports.clone_from(&started.ports);
        })
    }

    /// A container runs: `tell` adds what is known of it. Returns whether it is one of ours.
    fn runs(
        &mut self,
        did: i64,
        replica: Replica,
        now: Timestamp,
        tell: impl FnOnce(&mut super::rows::ContainerRow),
    ) -> bool {
        let Some(job) = self.jobs.get_mut(&replica.job) else { return false };
        let Some(container) = job.containers.iter_mut().find(|c| c.replica == replica && c.did == did) else {
            return false;
        };
        let before = container.clone();
        match container.status {
            AttemptStatus::Pending => {
                container.status = AttemptStatus::Running;
                container.started_at = Some(now);
            }
            AttemptStatus::Running => {}
            AttemptStatus::Exited => return true, // the start overtaken by the end
        }
        tell(container);
        if *container != before {
            let container = container.clone();
            self.changes.container(&container);
        }
        let job = &self.jobs[&replica.job];
        let all = job.containers.iter().all(|c| c.status == AttemptStatus::Running);
        if all && job.row.life.status == berth_common::job::Status::Scheduled {
            let cause = Cause::device(&self.devices[&did].row.name, None);
            let happened = self.happen(replica.job, &Event::Started { at: now }, cause, now);
            debug_assert!(happened.is_ok(), "a scheduled job can start: {happened:?}");
        }
        true
    }

    /// Ends a container if it is one that is believed to be on this device. An end that says that it
    /// ran is as good as the report of its start, which it may have overtaken.
    fn gone(&mut self, did: i64, replica: Replica, end: End, cause: &Cause, now: Timestamp) -> bool {
        if !self.devices[&did].containers.contains(&replica) {
            return false;
        }
        if matches!(&end, End::Ended(ending) if ending.started_at.is_some()) {
            self.runs(did, replica, now, |_| {});
        }
        self.container_gone(replica, end, cause, now)
    }

    fn answer(&mut self, did: i64, answer: &Answer, cause: &Cause, now: Timestamp) -> u64 {
        let replica = answer.replica;
        let end = match &answer.answer {
            WhatBecame::Live { state: HeldState::Running } => {
                return u64::from(!self.runs(did, replica, now, |_| {}));
            }
            WhatBecame::Live { .. } => return 0,
            // Whatever made it answer had a larger number than the start: a late copy is not taken.
            WhatBecame::NeverTaken => End::NeverTaken,
            WhatBecame::Ended { ending } => End::Ended(ending.clone()),
            WhatBecame::Unknown => End::Lost { text: "its container vanished from the device".into() },
        };
        u64::from(!self.gone(did, replica, end, cause, now))
    }

    /// Devices without a heartbeat for too long are lost, and what ran there with them. On a lost
    /// device nothing can be stopped: what is to be stopped there is over.
    pub(super) fn lose_silent_devices(&mut self, now: Timestamp) {
        let limit_ms = i64::try_from(self.limits.lost_after_s * 1000).unwrap_or(i64::MAX);
        let hearing = self.hearing;
        let lost = |d: &&Device| match d.shown_state() {
            DeviceState::Lost => !d.containers.is_empty(),
            DeviceState::Up | DeviceState::Draining | DeviceState::Degraded => {
                hearing && ms_between(d.seen, now) >= limit_ms
            }
        };
        let lost: Vec<i64> = self.devices.values().filter(lost).map(|d| d.row.did).collect();
        for did in lost {
            self.lose(did, now);
        }
    }

    fn lose(&mut self, did: i64, now: Timestamp) {
        let Some(device) = self.devices.get_mut(&did) else { return };
        let Some(state) = device.state.as_mut() else { return };
        if state.state != DeviceState::Lost {
            state.state = DeviceState::Lost;
            state.note = Some(format!("no heartbeat for {} s", self.limits.lost_after_s));
            device.welcomed = None;
            self.changes.states.insert(did);
        }
        let cause = Cause::scheduler(Some(format!("the device {} was lost", device.row.name)));
        let text = format!("the device {} was lost", device.row.name);
        let containers: Vec<Replica> = device.containers.iter().copied().collect();
        for replica in containers {
            if !self.waits_for_its_device(replica) {
                self.container_gone(replica, End::Lost { text: text.clone() }, &cause, now);
            }
        }
    }

    /// `disconnect: keep`, and nobody wants it stopped: it goes on running wherever it is.
    fn waits_for_its_device(&self, replica: Replica) -> bool {
        self.jobs.get(&replica.job).is_some_and(|job| {
            job.row.spec.disconnect == berth_common::spec::Disconnect::Keep && job.row.life.stopping.is_none()
        })
    }
}
