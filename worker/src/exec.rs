//! Commands that are run in a job's container, beside its program, at most once each.
//!
//! The inbox has that one was begun before Docker is asked to run it, and what came of it before that is
//! reported. What must always hold: no command is begun by two processes; those of one job run one after the
//! other, as they were given; its time limit counts from when it was taken; no shell of the host sees one.

mod output;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use berth_common::command::CommandStatus;
use berth_common::message::{Event, Exec, Executed};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;
use uuid::Uuid;

use self::output::Output;
pub use self::turns::{Turn, Turns};
use crate::agent::left_over;
use crate::docker::{DockerError, ExecEnd, ExecProcess};
use crate::inbox::InboxError;
use crate::worker::Worker;

/// Tells what became of commands that a process before this one took.
///
/// # Errors
/// When the inbox cannot be read or written.
pub async fn settle(worker: &Arc<Worker>) -> Result<(), InboxError> {
    for command in worker.inbox.open_commands().await? {
        let result = match command.result {
            Some(result) => result,
            None => {
                let result = left_over(&command);
                worker.inbox.executed(&result).await?;
                result
            }
        };
        tell(worker, result);
    }
    Ok(())
}

/// Runs a command that was taken just now, in a task of its own. Its place in the job's row is taken here,
/// so that the order of calls is the order of commands.
pub fn run(worker: &Arc<Worker>, exec: Exec) {
    let this = Arc::clone(worker);
    let deadline = Instant::now() + Duration::from_secs(exec.timeout_s);
    let turn = worker.turns.queue(exec.replica.job);
    worker.tasks.tracker.spawn(async move {
        let done = carry_out(&this, &exec, turn, deadline);
        // A process that ends leaves it to the next one to say so.
        if let Some(Some(result)) = this.tasks.leave.run_until_cancelled(done).await {
            tell(&this, result);
        }
    });
}

/// Reports what came of a command, until that is confirmed.
pub fn tell(worker: &Arc<Worker>, result: Executed) {
    let this = Arc::clone(worker);
    worker.tasks.tracker.spawn(async move {
        let id = result.command;
        if this.reporter.until_confirmed(Event::Executed(result), &this.tasks.leave).await {
            this.persist("note a report", |inbox| async move { inbox.exec_reported(id).await }).await;
        }
    });
}

/// None: the program ends before it was begun, or before its end was recorded.
async fn carry_out(worker: &Worker, exec: &Exec, turn: Option<Turn>, deadline: Instant) -> Option<Executed> {
    let Some(mut turn) = turn else {
        return record(worker, failed(exec.command, "not run: too many commands wait in this job")).await;
    };
    let comes = async {
        turn.comes().await;
        worker.execs.acquire().await.expect("never closed")
    };
    let comes = tokio::time::timeout_at(deadline, comes);
    let Ok(_place) = worker.tasks.stop.run_until_cancelled(comes).await? else {
        let why = format!("not run: those before it took longer than its {} s", exec.timeout_s);
        return record(worker, failed(exec.command, &why)).await;
    };
    begin(worker, exec, deadline).await
}

async fn begin(worker: &Worker, exec: &Exec, deadline: Instant) -> Option<Executed> {
    let id = exec.command;
    worker.persist("note a command's begin", |inbox| async move { inbox.exec_begins(id).await }).await?;
    let (replica, program) = (exec.replica, exec.argv.first());
    // The other arguments can hold a password.
    tracing::info!(command.id = %id, job.id = %replica.job, job.attempt = replica.attempt, program, "executing");
    let result = execute(worker, exec, deadline).await;
    tracing::info!(command.id = %id, status = result.status.as_str(), exit_code = result.exit_code, "executed");
    record(worker, result).await
}

/// Before it is told. None: the program ends first.
async fn record(worker: &Worker, result: Executed) -> Option<Executed> {
    let of = &result;
    worker.persist("record a command's end", |inbox| async move { inbox.executed(of).await }).await?;
    Some(result)
}

async fn execute(worker: &Worker, exec: &Exec, deadline: Instant) -> Executed {
    let prepared = worker.docker.exec_prepare(&exec.replica.container_name(), &exec.argv).await;
    let docker_id = match prepared {
        Ok(docker_id) => docker_id,
        // Whatever Docker made of it, nobody will start it.
        Err(error) => return failed(exec.command, &error.to_string()),
    };
    let mut output = Output::default();
    let ended = worker.docker.exec_run(&docker_id, deadline, |bytes| output.push(bytes)).await;
    let (status, exit_code, note) = match ended {
        Ok(ExecEnd::Exited(code)) => (CommandStatus::Done, Some(code), String::new()),
        Ok(ExecEnd::Late) => {
            let fate = if end_process(worker, &docker_id).await { "killed" } else { "it may run on" };
            (CommandStatus::Failed, None, format!("\n[berth: not done after {} s; {fate}]\n", exec.timeout_s))
        }
        Err(DockerError::Away(words)) => {
            (CommandStatus::Unknown, None, format!("\n[berth: how it ended is not known: {words}]\n"))
        }
        Err(error) => return failed(exec.command, &error.to_string()),
    };
    let (output, truncated) = output.text(&note);
    Executed { command: exec.command, status, exit_code, output, truncated }
}

fn failed(id: Uuid, why: &str) -> Executed {
    Executed {
        command: id,
        status: CommandStatus::Failed,
        exit_code: None,
        output: why.to_owned(),
        truncated: false,
    }
}

/// Kills the process of a command that takes too long. Docker has no call for that, so it is done only
/// where the process is ours to see: Docker runs on this host, and our rights suffice. What it started
/// itself goes on until the container ends.
async fn end_process(worker: &Worker, docker_id: &str) -> bool {
    let Ok(Some(ExecProcess { pid, container })) = worker.docker.exec_process(docker_id).await else {
        return false;
    };
    // With a daemon elsewhere the same number is somebody else here: its cgroup tells.
    let cgroup = tokio::fs::read_to_string(format!("/proc/{pid}/cgroup")).await.unwrap_or_default();
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    match pid.filter(|_| !container.is_empty() && cgroup.contains(&container)) {
        Some(pid) => kill_process(pid, Signal::KILL).is_ok(),
        None => false,
    }
}
