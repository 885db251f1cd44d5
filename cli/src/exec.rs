//! `berth exec`: run something in a running job's container, and exit with its exit code.
//!
//! What must always hold: it is asked for once, however often the request is sent, and waiting for its
//! end survives a server that is away for a while.

use std::time::Duration;

use berth_common::command::{CommandBody, CommandStatus, CommandView, Verb};
use serde_json::json;
use uuid::Uuid;

use crate::client::{Answer, Client, Query};
use crate::command_args::ExecArgs;
use crate::deliver::{self, Delivered};
use crate::failure::{Failure, REQUEST_FAILED};
use crate::output;
use crate::patience::{self, Kind, Patience};
use crate::resolve;

/// Between two looks, growing.
const FIRST_LOOK: Duration = Duration::from_millis(200);
const LONGEST_LOOK: Duration = Duration::from_secs(2);

/// # Errors
/// No such job, or it does not run.
pub async fn exec(client: &Client, args: &ExecArgs, json: bool) -> Result<u8, Failure> {
    let job = resolve::resolve(client, &args.job).await?.to_string();
    let body = CommandBody {
        argv: Some(args.argv.clone()),
        timeout_s: args.timeout.map(|time| time.as_secs()),
        replica: args.replica,
        ..CommandBody::new(Verb::Exec)
    };
    let path = ["v1", "jobs", &job, "commands"];
    let given = match deliver::deliver(client, &path, &json!(body), &deliver::random_key()).await? {
        Delivered::Decided(answer) => answer.read::<CommandView>()?,
        Delivered::Accepted(_) => {
            let text = "accepted, but no scheduler has decided on it yet; it may still be run";
            return Err(Failure::Unmet(text.into()));
        }
    };
    let answer = until_over(client, given.id).await?;
    let command: CommandView = answer.read()?;
    if json {
        output::print(&answer.text)?;
    } else {
        show(&command)?;
    }
    Ok(exit_code(&command))
}

/// The command at its end.
async fn until_over(client: &Client, id: Uuid) -> Result<Answer, Failure> {
    let id = id.to_string();
    let mut pause = FIRST_LOOK;
    let mut patience = Patience::until(None);
    loop {
        match client.get(&["v1", "commands", &id], &Query::new()).await {
            Ok(answer) => {
                if answer.read::<CommandView>()?.status != CommandStatus::Pending {
                    return Ok(answer);
                }
                patience.restored();
                tokio::time::sleep(pause).await;
                pause = (pause * 3 / 2).min(LONGEST_LOOK);
            }
            Err(error) if patience::kind(&error) == Kind::Final => return Err(error.into()),
            Err(error) => patience.pause(error).await?,
        }
    }
}

/// What it wrote passes as it is, like a log; why it could not be run goes to standard error.
fn show(command: &CommandView) -> Result<(), Failure> {
    let output = command.output.as_deref().unwrap_or_default();
    match command.status {
        CommandStatus::Done | CommandStatus::Pending => output::pass(output.as_bytes())?,
        CommandStatus::Failed => {
            output::say("berth: it could not be run to its end");
            output.lines().for_each(|line| output::say(&output::escape(line)));
        }
        CommandStatus::Unknown => output::say("berth: how it ended is not known: it may have run"),
    }
    if command.truncated {
        output::say("berth: its output was longer; the rest is cut off");
    }
    Ok(())
}

fn exit_code(command: &CommandView) -> u8 {
    let own = command.exit_code.and_then(|code| u8::try_from(code).ok());
    match command.status {
        CommandStatus::Done => own.unwrap_or(REQUEST_FAILED),
        CommandStatus::Failed => own.filter(|&code| code != 0).unwrap_or(REQUEST_FAILED),
        CommandStatus::Pending | CommandStatus::Unknown => REQUEST_FAILED,
    }
}
