//! `berth drain`, `resume`, `devices rm`: taking devices out of the pool and giving them back (admin).

use berth_common::command::{CommandBody, Verb};
use serde_json::json;

use crate::client::{Answer, Client};
use crate::cluster_args::{DeviceArgs, DrainArgs};
use crate::command;
use crate::deliver;
use crate::failure::Failure;
use crate::output;
use crate::patience::{self, Patience};

/// # Errors
/// As the server refuses.
pub async fn drain(client: &Client, args: &DrainArgs, json: bool) -> Result<u8, Failure> {
    let body = CommandBody {
        now: args.now.then_some(true),
        note: args.note.clone(),
        ..CommandBody::new(Verb::Drain)
    };
    send(client, &args.device.name, &body, json).await
}

/// # Errors
/// As the server refuses: nobody has drained it.
pub async fn resume(client: &Client, args: &DeviceArgs, json: bool) -> Result<u8, Failure> {
    send(client, &args.name, &CommandBody::new(Verb::Resume), json).await
}

async fn send(client: &Client, device: &str, body: &CommandBody, json: bool) -> Result<u8, Failure> {
    let path = ["v1", "devices", device, "commands"];
    let delivered = deliver::deliver(client, &path, &json!(body), &deliver::random_key()).await?;
    let line = command::told(device, body.command, &delivered)?;
    output::print(if json { &delivered.answer().text } else { &line })?;
    Ok(0)
}

/// # Errors
/// As the server refuses: it is not lost.
pub async fn remove(client: &Client, device: &str, json: bool) -> Result<u8, Failure> {
    let patience = Patience::lasting(patience::READ);
    let path = ["v1", "devices", device];
    let answer = patience::while_not_now(patience, async || client.delete(&path).await).await?;
    removed(device, &answer, json)
}

/// Tells that what has this name is gone.
///
/// # Errors
/// When standard output cannot be written.
pub fn removed(name: &str, answer: &Answer, json: bool) -> Result<u8, Failure> {
    // 204 has no body; 202 says that it is accepted.
    let accepted = !answer.text.is_empty();
    let line = if accepted { "accepted, no scheduler has decided on it yet" } else { "removed" };
    if json {
        let status = if accepted { "accepted" } else { "removed" };
        output::print_json(&json!({"name": name, "status": status}))?;
    } else {
        output::print(&format!("{name} {line}"))?;
    }
    Ok(0)
}
