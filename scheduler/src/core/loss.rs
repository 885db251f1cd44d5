//! What becomes of a device that is not heard any more, and of what ran there.

use berth_common::device::DeviceState;
use berth_common::id::Replica;
use berth_common::job::StopReason;
use berth_common::spec::Disconnect;
use berth_common::time::ms_between;
use jiff::Timestamp;

use super::Core;
use super::device::Device;
use super::job::End;
use super::life::Cause;

impl Core {
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
            // Why it was drained is still wanted when it comes back.
            if !state.drained {
                state.note = Some(format!("no heartbeat for {} s", self.limits.lost_after_s));
            }
            device.welcomed = None;
            device.forget_strangers();
            self.changes.states.insert(did);
            // Whoever was not started beside an old container there may be now.
            self.unsettled = true;
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

    /// `disconnect: keep`, and nobody has killed it: it goes on running wherever it is, and what else is
    /// wished of it waits too, for it would be started elsewhere beside itself.
    fn waits_for_its_device(&self, replica: Replica) -> bool {
        self.jobs.get(&replica.job).is_some_and(|job| {
            job.row.spec.disconnect == Disconnect::Keep && job.row.life.stopping != Some(StopReason::Kill)
        })
    }
}
