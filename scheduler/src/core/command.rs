//! Commands on jobs: accepted ones become rows, what makes no sense now is refused with the status.

use berth_common::command::{CommandStatus, CommandView, Verb};
use berth_common::job::{Outcome, Status, StopReason};
use berth_common::message::Reply;
use berth_common::problem::Problem;
use berth_common::validate::USER_PRIORITY;
use jiff::Timestamp;

use super::input::Command;
use super::job::Event;
use super::life::{Cause, default_grace_ms};
use super::rows::{Life, Role, UserRow};
use super::{Core, Job, Known, refused};

impl Core {
    pub(super) fn command(&mut self, command: Command, known: &mut Known, now: Timestamp) -> Reply {
        let again = self.commands.get(&command.id).or_else(|| known.commands.get(&command.id));
        if let Some(stored) = again {
            return repeated(stored, &command);
        }
        let view = match self.carry_out(&command, known, now) {
            Ok(status) => view(&command, status, now),
            Err(problem) => return refused(problem),
        };
        if view.status == CommandStatus::Pending {
            self.commands.insert(view.id, view.clone());
            if let Some(job) = self.jobs.get_mut(&job_of(&command)) {
                job.kills.push(view.id);
            }
        }
        self.changes.new_commands.insert(view.id, view.clone());
        known.commands.insert(view.id, view.clone());
        accepted(&view)
    }

    /// Does it, or says why not. `Pending`: its end comes later.
    fn carry_out(
        &mut self,
        command: &Command,
        known: &Known,
        now: Timestamp,
    ) -> Result<CommandStatus, Problem> {
        let id = job_of(command);
        let row = self.jobs.get(&id).map(|job| &job.row).or_else(|| known.jobs.get(&id));
        let visible =
            known.users.get(&command.actor).filter(|user| row.is_some_and(|row| may_touch(user, &row.owner)));
        let (Some(row), Some(user)) = (row, visible) else {
            return Err(Problem::new(404, format!("there is no job {id}")));
        };
        let life = row.life.clone();
        let row = row.clone();
        let grace_ms =
            command.body.grace_s.and_then(|s| i64::try_from(s * 1000).ok()).unwrap_or_else(default_grace_ms);
        let event = match command.body.command {
            Verb::Kill if is_killed(&life, grace_ms) => return Ok(CommandStatus::Done),
            Verb::Kill => Event::Kill { grace_ms },
            Verb::Hold => Event::Hold { grace_ms },
            Verb::Release => Event::Release,
            Verb::Retry => Event::Retry,
            Verb::Priority => return self.set_priority(command, user, &life),
            Verb::Approve | Verb::Timeout | Verb::Exec | Verb::Drain | Verb::Resume => {
                return Err(Problem::new(422, "this command is not supported yet"));
            }
        };
        // The machine is asked before anything is touched: a refusal changes nothing.
        life.after(&event, now).map_err(|refusal| Problem::new(409, refusal.to_string()))?;
        self.jobs.entry(id).or_insert_with(|| Job::waiting(row));
        let cause = Cause {
            actor: command.actor.clone(),
            reason: command.body.reason.clone().or_else(|| Some(command.body.command.to_string())),
        };
        self.happen(id, &event, cause, now).map_err(|refusal| Problem::new(409, refusal.to_string()))?;
        let over = self.jobs.get(&id).is_none_or(Job::has_exited);
        Ok(if command.body.command == Verb::Kill && !over {
            CommandStatus::Pending
        } else {
            CommandStatus::Done
        })
    }

    fn set_priority(
        &mut self,
        command: &Command,
        user: &UserRow,
        life: &Life,
    ) -> Result<CommandStatus, Problem> {
        let value = command.body.value.and_then(|v| i32::try_from(v).ok());
        let allowed = value.filter(|v| user.role == Role::Admin || USER_PRIORITY.contains(v));
        let Some(priority) = allowed else {
            return Err(Problem::invalid_field("/value", "users give 100–200, admins 1–1000"));
        };
        if !matches!(life.status, Status::Pending | Status::Unapproved) {
            return Err(Problem::new(
                409,
                format!("the job is {}: only what waits has a place in a queue", life.status),
            ));
        }
        self.unindex(job_of(command));
        if let Some(job) = self.jobs.get_mut(&job_of(&command)) {
            job.row.priority = priority;
        }
        self.index(job_of(command));
        self.changes.jobs.insert(job_of(command));
        self.unsettled = true;
        Ok(CommandStatus::Done)
    }
}

/// Owners touch their own jobs, admins all.
fn may_touch(user: &UserRow, owner: &str) -> bool {
    user.role == Role::Admin || user.name == owner
}

/// A second kill is done at once, since the first one will not be forgotten; unless it wants it
/// sooner.
fn is_killed(life: &Life, grace_ms: i64) -> bool {
    let being_killed = life.stopping == Some(StopReason::Kill) && life.grace_ms <= Some(grace_ms);
    being_killed || life.outcome == Some(Outcome::Killed)
}

/// An id that is known gets the stored answer, if it is the same command.
fn repeated(stored: &CommandView, command: &Command) -> Reply {
    let same = stored.job == Some(job_of(command))
        && stored.actor == command.actor
        && stored.argument == argument(command);
    if same {
        return accepted(stored);
    }
    refused(Problem::new(409, "this id was used for another command; take a new one"))
}

fn argument(command: &Command) -> serde_json::Value {
    serde_json::to_value(&command.body).expect("a command is plain JSON")
}

fn view(command: &Command, status: CommandStatus, now: Timestamp) -> CommandView {
    CommandView {
        id: command.id,
        job: Some(job_of(command)),
        device: None,
        command: command.body.command,
        argument: argument(command),
        actor: command.actor.clone(),
        reason: command.body.reason.clone(),
        status,
        exit_code: None,
        output: None,
        truncated: false,
        asked_at: now,
        done_at: (status != CommandStatus::Pending).then_some(now),
    }
}

fn accepted(view: &CommandView) -> Reply {
    Reply { status: 202, body: serde_json::to_value(view).expect("a command is plain JSON") }
}

fn job_of(command: &Command) -> berth_common::id::JobId {
    match command.target {
        berth_common::message::Target::Job(job) => job,
        berth_common::message::Target::Device(_) => berth_common::id::JobId::nil(),
    }
}
