//! Commands on devices: an operator takes one out of the pool, or gives it back.

use berth_common::command::{CommandBody, CommandStatus, Verb};
use berth_common::id::{JobId, Replica};
use berth_common::problem::Problem;
use jiff::Timestamp;

use super::Core;
use super::job::Event;
use super::life::{Cause, default_grace_ms};
use super::rows::{Role, UserRow};

impl Core {
    /// Drains a device, or ends that.
    ///
    /// # Errors
    /// What is wrong, as it is answered; nothing is changed then.
    pub(super) fn command_device(
        &mut self,
        name: &str,
        body: &CommandBody,
        user: &UserRow,
        now: Timestamp,
    ) -> Result<CommandStatus, Problem> {
        if user.role != Role::Admin {
            return Err(Problem::new(403, "only an admin may drain a device"));
        }
        let Some(&did) = self.dids.get(name) else {
            return Err(Problem::new(404, format!("there is no device {name:?}")));
        };
        if !body.command.is_for_device() {
            let text = "this command aims at a job; a device can be drained and resumed";
            return Err(Problem::invalid_field("/command", text));
        }
        if body.command == Verb::Drain {
            self.drain(did, body, &user.name, now);
        } else {
            self.resume(did)?;
        }
        Ok(CommandStatus::Done)
    }

    fn drain(&mut self, did: i64, body: &CommandBody, actor: &str, now: Timestamp) {
        let Some(device) = self.devices.get_mut(&did) else { return };
        let name = device.row.name.clone();
        let containers: Vec<Replica> = device.containers.iter().copied().collect();
        if let Some(state) = device.state.as_mut() {
            let before = state.note.take().filter(|_| state.drained);
            state.note = body.note.clone().or_else(|| body.reason.clone()).or(before);
        }
        device.drained(true);
        self.changes.states.insert(did);
        if body.now != Some(true) {
            return;
        }
        let cause = Cause { actor: actor.to_owned(), reason: Some(format!("{name} is drained")) };
        let mut jobs: Vec<JobId> = containers.iter().map(|replica| replica.job).collect();
        jobs.dedup(); // the containers are in order
        for job in jobs {
            let event = Event::Drain { grace_ms: default_grace_ms() };
            let happened = self.happen(job, &event, cause.clone(), now);
            debug_assert!(happened.is_ok(), "a job with a container is placed: {happened:?}");
        }
    }

    fn resume(&mut self, did: i64) -> Result<(), Problem> {
        let Some(device) = self.devices.get_mut(&did) else { return Ok(()) };
        let name = device.row.name.clone();
        if !device.state.as_ref().is_some_and(|state| state.drained) {
            let state = device.shown_state();
            let why = device.state.as_ref().and_then(|s| s.note.as_ref());
            let why = why.map_or_else(String::new, |note| format!(" ({note})"));
            let text = format!("the device {name} is {state}{why}: nobody has drained it");
            return Err(Problem::new(409, text));
        }
        device.drained(false);
        self.changes.states.insert(did);
        self.unsettled = true;
        Ok(())
    }
}
