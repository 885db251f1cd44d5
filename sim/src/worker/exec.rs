//! Commands in containers, at most once each (`worker/src/exec.rs`): that one is begun is written down
//! before Docker is asked, and what came of it before that is reported.

use std::rc::Rc;

use berth_common::command::CommandStatus;
use berth_common::message::{Event, Exec, Executed};
use berth_worker::agent::{AtExec, at_exec, left_over};
use berth_worker::docker::DockerError;
use uuid::Uuid;

use super::Worker;

/// Tells what became of commands that a process before this one took.
pub fn settle(worker: &Rc<Worker>) {
    let open = worker.of().inbox.borrow().open_commands();
    for command in open {
        let result = command.result.clone().unwrap_or_else(|| left_over(&command));
        worker.of().inbox.borrow_mut().executed(&result);
        tell(worker, result);
    }
}

pub async fn take(worker: &Rc<Worker>, id: i64, exec: Exec) {
    let taken = worker.persist(|inbox| inbox.take_exec(id, exec.command)).await;
    worker.numbers.borrow_mut().last = id;
    match at_exec(taken) {
        AtExec::Run => run(worker, exec),
        AtExec::Tell(result) => tell(worker, result),
        AtExec::Wait => {}
    }
}

fn run(worker: &Rc<Worker>, exec: Exec) {
    let this = Rc::clone(worker);
    worker.w.exec.spawn(worker.pid, async move {
        this.persist(|inbox| inbox.exec_begins(exec.command)).await;
        let result = execute(&this, &exec).await;
        this.persist(|inbox| inbox.executed(&result)).await;
        tell(&this, result);
    });
}

fn tell(worker: &Rc<Worker>, result: Executed) {
    let this = Rc::clone(worker);
    worker.w.exec.spawn(worker.pid, async move {
        let id = result.command;
        this.until_confirmed(Event::Executed(result)).await;
        this.persist(|inbox| inbox.exec_reported(id)).await;
    });
}

async fn execute(worker: &Worker, exec: &Exec) -> Executed {
    let (late, name) = (worker.w.exec.sleep(exec.timeout_s * 1000), exec.replica.container_name());
    let ended = tokio::select! {
        biased;
        ended = worker.docker.execute(&name, exec.command) => ended,
        () = late => return of(exec.command, CommandStatus::Failed, None),
    };
    match ended {
        Ok(code) => of(exec.command, CommandStatus::Done, Some(code)),
        Err(DockerError::Away(_)) => of(exec.command, CommandStatus::Unknown, None),
        Err(_) => of(exec.command, CommandStatus::Failed, None),
    }
}

fn of(command: Uuid, status: CommandStatus, exit_code: Option<i64>) -> Executed {
    Executed { command, status, exit_code, output: String::new(), truncated: false }
}
