//! Commands on jobs: accepted ones become rows, what makes no sense now is refused with the status.

use std::collections::BTreeMap;

use berth_common::command::{CommandBody, CommandStatus, CommandView, Verb};
use berth_common::id::JobId;
use berth_common::job::{Outcome, Status, StopReason};
use berth_common::message::{Reply, Target};
use berth_common::problem::{FieldError, Problem};
use berth_common::spec::JobSpec;
use berth_common::validate::USER_PRIORITY;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::input::Command;
use super::job::Event;
use super::known::Known;
use super::life::{Cause, default_grace_ms};
use super::rows::{JobRow, Life, Role, UserRow};
use super::rules::check_limit;
use super::{Core, Job, refused};

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
            if let Some(job) = view.job.filter(|_| view.command == Verb::Kill)
                && let Some(job) = self.jobs.get_mut(&job)
            {
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
        let user = known.users.get(&command.actor);
        let id = match &command.target {
            Target::Job(id) => *id,
            Target::Device(name) => {
                let Some(user) = user else { return Err(Problem::new(403, "only an admin may do this")) };
                return self.command_device(name, &command.body, user, now);
            }
        };
        let row = self.jobs.get(&id).map(|job| &job.row).or_else(|| known.jobs.get(&id));
        let visible = user.filter(|user| row.is_some_and(|row| self.may_see(user, row)));
        let (Some(row), Some(user)) = (row.cloned(), visible) else {
            return Err(Problem::new(404, format!("there is no job {id}")));
        };
        self.check_right(user, &row, command.body.command)?;
        let life = &row.life;
        let body = &command.body;
        let grace_ms =
            body.grace_s.and_then(|s| i64::try_from(s * 1000).ok()).unwrap_or_else(default_grace_ms);
        let event = match body.command {
            Verb::Kill if is_killed(life, grace_ms) => return Ok(CommandStatus::Done),
            Verb::Kill => Event::Kill { grace_ms },
            Verb::Hold => Event::Hold { grace_ms },
            Verb::Release => Event::Release,
            Verb::Approve => Event::Approve { held: self.held_once_approved(id) },
            Verb::Retry => return self.retry(command, row, user, known, now),
            Verb::Priority => return self.set_priority(&row, body, user),
            Verb::Timeout => return self.set_timeout(&row, body, now),
            Verb::Exec => {
                self.send_exec(command.id, id, body, now)?;
                return Ok(CommandStatus::Pending);
            }
            Verb::Drain | Verb::Resume => {
                return Err(Problem::invalid_field("/command", "aims at a device, not at a job"));
            }
        };
        // The machine is asked before anything is touched: a refusal changes nothing.
        life.after(&event, now).map_err(|refusal| Problem::new(409, refusal.to_string()))?;
        self.happen(id, &event, cause(command), now)
            .map_err(|refusal| Problem::new(409, refusal.to_string()))?;
        let over = self.jobs.get(&id).is_none_or(Job::has_exited);
        Ok(if body.command == Verb::Kill && !over { CommandStatus::Pending } else { CommandStatus::Done })
    }

    /// The job is admitted once more, as it was or with some fields changed.
    fn retry(
        &mut self,
        command: &Command,
        row: JobRow,
        user: &UserRow,
        known: &Known,
        now: Timestamp,
    ) -> Result<CommandStatus, Problem> {
        let id = row.id;
        // Whether it makes sense at all comes before whether there is room for it.
        let retried = Event::Retry { approved: true, not_before: None };
        row.life.after(&retried, now).map_err(|refusal| Problem::new(409, refusal.to_string()))?;
        let set = command.body.set.as_ref().filter(|set| !set.is_empty());
        let mut changed = row.clone();
        if let Some(set) = set {
            changed.spec = with_fields(&row.spec, set)?;
            if set.contains_key("priority") {
                changed.priority = changed.spec.priority;
            }
            self.admit(&changed.spec, user.role).map_err(|problem| of_retry(problem, Some(set)))?;
        }
        self.admit_to_queue(&changed.spec, user, 1).map_err(|problem| of_retry(problem, set))?;
        let approved = user.role == Role::Admin || self.rule_against(&changed.spec, &row.owner).is_none();
        let anew = set.is_some_and(|set| set.contains_key("not_before"));
        let not_before = changed.spec.not_before.filter(|_| anew);
        let event = Event::Retry { approved, not_before };
        if let Some(text) = self.failed_dependency(&row.spec, known) {
            return Err(Problem::new(409, format!("{text}: retry that one first")));
        }
        self.jobs.insert(id, Job::waiting(changed));
        if set.is_some() {
            self.changes.respecified.insert(id);
        }
        self.happen(id, &event, cause(command), now)
            .map_err(|refusal| Problem::new(409, refusal.to_string()))?;
        Ok(CommandStatus::Done)
    }

    fn set_priority(
        &mut self,
        row: &JobRow,
        body: &CommandBody,
        user: &UserRow,
    ) -> Result<CommandStatus, Problem> {
        let (id, life) = (row.id, &row.life);
        let value = body.value.and_then(|v| i32::try_from(v).ok());
        let allowed = value.filter(|v| self.governs(user, &row.spec.queue) || USER_PRIORITY.contains(v));
        let Some(priority) = allowed else {
            return Err(Problem::invalid_field("/value", "users give 100–200, admins 1–1000"));
        };
        if !matches!(life.status, Status::Pending | Status::Unapproved) {
            return Err(Problem::new(
                409,
                format!("the job is {}: only what waits has a place in a queue", life.status),
            ));
        }
        self.unindex(id);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.row.priority = priority;
        }
        self.index(id);
        self.changes.jobs.insert(id);
        Ok(CommandStatus::Done)
    }

    /// Counts for what runs, too: from its start, not from now.
    fn set_timeout(
        &mut self,
        row: &JobRow,
        body: &CommandBody,
        now: Timestamp,
    ) -> Result<CommandStatus, Problem> {
        let id = row.id;
        if row.life.status == Status::Exited {
            return Err(Problem::new(409, "the job is exited: it runs no more"));
        }
        let limit_s = body.value.and_then(|v| u64::try_from(v).ok());
        if let Some(queue) = self.queues.get(&row.spec.queue) {
            check_limit(queue, limit_s, "/value")?;
        }
        self.unindex(id);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.row.spec.timeout_s = limit_s;
        }
        self.index(id);
        self.changes.jobs.insert(id);
        self.changes.respecified.insert(id);
        // What ends sooner delays others less.
        self.unsettled = true;
        self.tell_limit(id, now);
        Ok(CommandStatus::Done)
    }
}

fn cause(command: &Command) -> Cause {
    let reason = command.body.reason.clone().or_else(|| Some(command.body.command.to_string()));
    Cause { actor: command.actor.clone(), reason }
}

/// The specification with other values in some fields, validated like a new one. `null` means the
/// default.
fn with_fields(spec: &JobSpec, set: &Map<String, Value>) -> Result<JobSpec, Problem> {
    // Where it belongs is not to be checked again; its matrix's values stay in its environment.
    let single = JobSpec { array: None, matrix: BTreeMap::new(), ..spec.clone() };
    let mut value = serde_json::to_value(&single).expect("a specification has only string keys");
    if let Some(fields) = value.as_object_mut() {
        for (name, wanted) in set {
            match wanted {
                Value::Null => drop(fields.remove(name)),
                wanted => drop(fields.insert(name.clone(), wanted.clone())),
            }
        }
    }
    let read = berth_common::spec::from_value(value).map_err(|problem| of_retry(problem, Some(set)))?;
    let mut changed = JobSpec { array: spec.array.clone(), matrix: spec.matrix.clone(), ..read };
    changed.set_matrix_variables();
    Ok(changed)
}

/// A problem of the specification, told by what stands in the command: a field that it sets, or that it is a
/// retry of a job which is as it was.
fn of_retry(problem: Problem, set: Option<&Map<String, Value>>) -> Problem {
    if problem.errors.is_empty() {
        return problem;
    }
    let in_command = |error: FieldError| {
        let field = error.pointer.trim_start_matches('/');
        let name = field.split('/').next().unwrap_or_default();
        if set.is_some_and(|set| set.contains_key(name)) {
            FieldError::new(format!("/set{}", error.pointer), error.message)
        } else {
            FieldError::new("/command", format!("the job's {field}: {}", error.message))
        }
    };
    Problem::invalid(problem.errors.into_iter().map(in_command).collect())
}

/// A second kill is done at once, since the first one will not be forgotten; unless it wants it
/// sooner.
fn is_killed(life: &Life, grace_ms: i64) -> bool {
    let being_killed = life.stopping == Some(StopReason::Kill) && life.grace_ms <= Some(grace_ms);
    being_killed || life.outcome == Some(Outcome::Killed)
}

/// An id that is known gets the stored answer, if it is the same command.
fn repeated(stored: &CommandView, command: &Command) -> Reply {
    let same = (stored.job, stored.device.as_deref()) == target(command)
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
        job: target(command).0,
        device: target(command).1.map(str::to_owned),
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

fn target(command: &Command) -> (Option<JobId>, Option<&str>) {
    match &command.target {
        Target::Job(job) => (Some(*job), None),
        Target::Device(name) => (None, Some(name)),
    }
}
