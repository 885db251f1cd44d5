//! Commands on jobs and devices: told to the leader by a message, like a submission.

pub mod bulk;
pub mod give;
pub mod look;

use berth_common::command::CommandBody;
use berth_common::message::{CommandRequest, Reply, Target};
use serde_json::{Value, json};
use uuid::Uuid;

use super::auth::Caller;
use super::refusal::Refusal;
use super::request::{self, Patience};
use crate::ask::{AskError, Asker};

/// Under which version-5 command ids are made from idempotency keys. Fixed for ever, as for jobs.
const COMMAND_NAMESPACE: Uuid = Uuid::from_u128(0x2f2a_6d1e_90b4_4f7c_8a51_77c3_0e9b_45d2);

/// What the leader said of a command.
enum Given {
    /// The command as it stands then.
    Decided(Value),
    /// The broker has it, and nobody has decided yet.
    Accepted(Value),
}

impl Given {
    fn into_view(self) -> Value {
        match self {
            Self::Decided(view) | Self::Accepted(view) => view,
        }
    }
}

fn id_for(caller: &Caller, target: &Target, key: Option<&str>) -> Uuid {
    let target = match target {
        Target::Job(job) => job.to_string(),
        Target::Device(name) => format!("device {name}"),
    };
    key.map_or_else(Uuid::now_v7, |key| {
        Uuid::new_v5(&COMMAND_NAMESPACE, format!("{}\0{target}\0{key}", caller.name).as_bytes())
    })
}

/// Tells the leader, and waits for what it says.
async fn ask(
    asker: &Asker,
    caller: &Caller,
    id: Uuid,
    target: Target,
    command: &CommandBody,
    patience: Patience,
) -> Result<Given, Refusal> {
    target.check(command.command)?;
    let body = serde_json::to_value(command).expect("a command is plain JSON");
    let message = request::command(&caller.name, id, &CommandRequest { target, body });
    match request::decide(asker, message, patience).await {
        Ok(Reply { status: 200..=299, body }) => Ok(Given::Decided(body)),
        Ok(reply) => Err(request::problem_of(reply).into()),
        Err(AskError::NoAnswer) => Ok(Given::Accepted(json!({"id": id, "status": "accepted"}))),
        Err(error) => Err(error.into()),
    }
}
