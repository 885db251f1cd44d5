//! `berth submit`: one job in, one id out.

use berth_common::id::JobId;
use serde::Deserialize;

use crate::client::Client;
use crate::deliver::{self, Delivered};
use crate::failure::Failure;
use crate::output;
use crate::spec_args::SpecArgs;
use crate::spec_body;

#[derive(Deserialize)]
struct Submitted {
    id: JobId,
}

/// # Errors
/// A specification that cannot be read or is refused, a server that cannot be reached.
pub async fn submit(client: &Client, args: &SpecArgs, json: bool) -> Result<u8, Failure> {
    let (id, delivered) = send(client, args).await?;
    match &delivered {
        Delivered::Decided(_) => {}
        Delivered::Accepted(_) => {
            output::say("berth: accepted, but no scheduler has decided on it yet; `berth show` will tell");
        }
    }
    let id = id.to_string();
    output::print(if json { &delivered.answer().text } else { &id })?;
    Ok(0)
}

/// The id under which the job was submitted, and the answer.
///
/// # Errors
/// As [`submit`].
pub async fn send(client: &Client, args: &SpecArgs) -> Result<(JobId, Delivered), Failure> {
    let body = spec_body::body(args)?;
    let key = match &args.idempotency_key {
        Some(key) if key.is_empty() || !key.bytes().all(|c| c.is_ascii_graphic()) => {
            return Err(Failure::Usage("an idempotency key has visible ASCII characters, no spaces".into()));
        }
        Some(key) => key.clone(),
        None => deliver::random_key(),
    };
    let delivered = deliver::deliver(client, &["v1", "jobs"], &body, &key).await?;
    let id = delivered.answer().read::<Submitted>()?.id;
    Ok((id, delivered))
}
