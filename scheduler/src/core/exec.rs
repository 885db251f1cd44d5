//! `exec`: something that is run beside a job's program, at most once.
//!
//! The order goes to the device in its present session, and again in each later one until its end is
//! known: the worker knows the command by its id and runs it once. What is not told in time is
//! `unknown`; if its end is told after all, that counts.

use berth_common::command::{CommandBody, CommandStatus, CommandView, DEFAULT_EXEC_S, Verb};
use berth_common::id::{JobId, Replica};
use berth_common::job::AttemptStatus;
use berth_common::message::{Exec, Executed, Order, PROTOCOL};
use berth_common::problem::Problem;
use berth_common::time::plus_ms;
use jiff::Timestamp;
use uuid::Uuid;

use super::Core;
use super::known::Known;
use super::report::Heard;

/// Beyond its own time limit, for the way there and back.
const ANSWER_MS: i64 = 60_000;
/// After its container is gone, for what the worker may still tell.
const AFTERWARDS_MS: i64 = 15_000;

impl Core {
    /// Sends an exec to the container that it is for.
    ///
    /// # Errors
    /// 409 where that container does not run.
    pub(super) fn send_exec(
        &mut self,
        id: Uuid,
        job: JobId,
        body: &CommandBody,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let wanted = body.replica.unwrap_or(0);
        let Some(found) = self.jobs.get(&job) else {
            return Err(Problem::new(409, "the job is exited: nothing can be run in it any more"));
        };
        if wanted >= found.row.spec.replicas {
            let text = format!("the job has {} replicas, counted from 0", found.row.spec.replicas);
            return Err(Problem::invalid_field("/replica", text));
        }
        let container = found.live().find(|c| c.replica.replica == wanted);
        let Some(container) = container.filter(|c| c.status == AttemptStatus::Running) else {
            let status = found.row.life.status;
            return Err(Problem::new(409, format!("the job is {status}: its container does not run now")));
        };
        let (replica, did) = (container.replica, container.did);
        let device = &self.devices[&did];
        if device.protocol < PROTOCOL {
            let text = format!(
                "the worker of {} speaks version {} of the protocol, which knows no exec: update it",
                device.row.name, device.protocol
            );
            return Err(Problem::new(409, text));
        }
        let exec = Exec {
            command: id,
            replica,
            argv: body.argv.clone().unwrap_or_default(),
            timeout_s: timeout_s(body),
        };
        self.send(did, Order::Exec(exec), now);
        self.exec_deadlines.insert((plus_ms(now, deadline_ms(body)), id));
        Ok(())
    }

    /// One that was accepted by a leader before this one. If its container is gone it ends soon.
    pub(super) fn load_exec(&mut self, command: &CommandView, now: Timestamp) {
        let wait_ms = match self.container_of(command) {
            Some(_) => body_of(command).as_ref().map_or(ANSWER_MS, deadline_ms),
            None => AFTERWARDS_MS,
        };
        self.exec_deadlines.insert((plus_ms(now, wait_ms), command.id));
    }

    /// A new session has begun: what an earlier one may not have taken is sent again.
    pub(super) fn send_execs_again(&mut self, did: i64, now: Timestamp) {
        let waiting = self.exec_deadlines.iter().filter_map(|(_, id)| {
            let command = self.commands.get(id)?;
            let replica = self.container_of(command)?;
            let body = body_of(command)?;
            self.devices[&did].containers.contains(&replica).then(|| Exec {
                command: *id,
                replica,
                timeout_s: timeout_s(&body),
                argv: body.argv.unwrap_or_default(),
            })
        });
        for exec in waiting.collect::<Vec<_>>() {
            self.send(did, Order::Exec(exec), now);
        }
    }

    /// The container that an exec was for, while it runs: one that started later is another one.
    fn container_of(&self, command: &CommandView) -> Option<Replica> {
        let wanted = body_of(command)?.replica.unwrap_or(0);
        let container = self.jobs.get(&command.job?)?.live().find(|c| c.replica.replica == wanted)?;
        container.started_at.filter(|started| *started <= command.asked_at).map(|_| container.replica)
    }

    /// The attempt of a job is over: the ends of its execs are told soon, or never.
    pub(super) fn hurry_execs(&mut self, job: JobId, now: Timestamp) {
        if self.exec_deadlines.is_empty() {
            return;
        }
        let soon = plus_ms(now, AFTERWARDS_MS);
        let late = self.exec_deadlines.iter().filter(|(at, id)| {
            *at > soon && self.commands.get(id).is_some_and(|command| command.job == Some(job))
        });
        for (at, id) in late.copied().collect::<Vec<_>>() {
            self.exec_deadlines.remove(&(at, id));
            self.exec_deadlines.insert((soon, id));
        }
    }

    pub(super) fn give_up_execs(&mut self, now: Timestamp) {
        while let Some(&(at, id)) = self.exec_deadlines.first().filter(|(at, _)| *at <= now) {
            self.exec_deadlines.remove(&(at, id));
            self.finish_command(id, CommandStatus::Unknown, now);
        }
    }

    /// How one ended. A device speaks for its own containers only.
    pub(super) fn executed(
        &mut self,
        device: &str,
        executed: &Executed,
        known: &mut Known,
        now: Timestamp,
    ) -> Heard {
        let stored = self
            .commands
            .remove(&executed.command)
            .or_else(|| known.commands.get(&executed.command).cloned());
        let Some(mut view) = stored else { return Heard::Unknown };
        if !matches!(view.status, CommandStatus::Pending | CommandStatus::Unknown) {
            return Heard::Taken; // told again
        }
        let elsewhere = self.container_of(&view).is_some_and(|replica| {
            !self.dids.get(device).is_some_and(|did| self.devices[did].containers.contains(&replica))
        });
        if view.command != Verb::Exec || elsewhere {
            if view.status == CommandStatus::Pending {
                self.commands.insert(view.id, view);
            }
            return Heard::Unknown;
        }
        self.exec_deadlines.retain(|(_, id)| *id != executed.command);
        view.status = executed.status;
        view.exit_code = executed.exit_code;
        // No database keeps a NUL character.
        let output = executed.output.replace('\0', "\u{fffd}");
        view.output = Some(output).filter(|output| !output.is_empty());
        view.truncated = executed.truncated;
        view.done_at = Some(now);
        self.changes.command(&view);
        known.commands.insert(view.id, view);
        Heard::Taken
    }
}

fn body_of(command: &CommandView) -> Option<CommandBody> {
    serde_json::from_value(command.argument.clone()).ok()
}

fn timeout_s(body: &CommandBody) -> u64 {
    body.timeout_s.unwrap_or(DEFAULT_EXEC_S)
}

fn deadline_ms(body: &CommandBody) -> i64 {
    i64::try_from(timeout_s(body) * 1000).unwrap_or(i64::MAX).saturating_add(ANSWER_MS)
}
