//! Commands in containers, at most once: the inbox says whether one was taken, begun and done.

use berth_common::command::CommandStatus;
use berth_common::message::Executed;

use crate::inbox::{Command, ExecTaken};

/// What an order to run something asks of the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AtExec {
    Run,
    /// It was run before: say again what came of it.
    Tell(Executed),
    /// It is being run: its end will be told.
    Wait,
}

/// What is left over from processes before this one was settled at its start ([`left_over`]): a command
/// without a result is this process's own.
#[must_use]
pub fn at_exec(taken: ExecTaken) -> AtExec {
    match taken {
        ExecTaken::New => AtExec::Run,
        ExecTaken::Known(Command { result: Some(result), .. }) => AtExec::Tell(result),
        ExecTaken::Known(Command { result: None, .. }) => AtExec::Wait,
    }
}

/// What a process tells of a command whose result it finds missing when it starts. One that was begun may
/// have run, or may be running; it is never run again. One that was not begun is stale by now.
#[must_use]
pub fn left_over(command: &Command) -> Executed {
    let (status, output) = if command.begun {
        (CommandStatus::Unknown, "the worker was restarted while it ran")
    } else {
        (CommandStatus::Failed, "the worker was restarted before it was run; it was not run")
    };
    Executed { command: command.id, status, exit_code: None, output: output.into(), truncated: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_command_is_run_once_and_what_a_crash_hid_stays_unknown() {
        let known = |begun, result| Command { id: Uuid::from_u128(1), begun, result };
        assert_eq!(at_exec(ExecTaken::New), AtExec::Run);
        assert_eq!(at_exec(ExecTaken::Known(known(false, None))), AtExec::Wait);
        assert_eq!(at_exec(ExecTaken::Known(known(true, None))), AtExec::Wait);
        let unknown = left_over(&known(true, None));
        assert_eq!(unknown.status, CommandStatus::Unknown);
        assert_eq!(left_over(&known(false, None)).status, CommandStatus::Failed);
        assert_eq!(at_exec(ExecTaken::Known(known(true, Some(unknown.clone())))), AtExec::Tell(unknown));
    }
}
