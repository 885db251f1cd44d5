//! `berth submit`: one job or one array in, one id out.

use berth_common::job::{JobView, Status};
use jiff::Zoned;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::client::{Answer, Client};
use crate::deliver::{self, Delivered};
use crate::failure::Failure;
use crate::output;
use crate::resolve;
use crate::spec_args::SpecArgs;
use crate::spec_body;
use crate::why;

#[derive(Deserialize)]
#[serde(untagged)]
enum Submitted {
    Array { array: Uuid, jobs: Vec<Uuid> },
    Job { id: Uuid },
}

/// # Errors
/// A specification that cannot be read or is refused, a server that cannot be reached.
pub async fn submit(client: &Client, args: &SpecArgs, json: bool) -> Result<u8, Failure> {
    let body = spec_body::body(args)?;
    let (id, delivered) = send(client, args, body).await?;
    match &delivered {
        Delivered::Decided(answer) => match answer.read()? {
            Submitted::Array { jobs, .. } => output::say(&format!(
                "berth: an array of {} jobs; `berth ls --array {id}` lists them",
                jobs.len()
            )),
            Submitted::Job { .. } => tell_why_it_waits(answer),
        },
        Delivered::Accepted(_) => {
            output::say("berth: accepted, but no scheduler has decided on it yet; `berth show` will tell");
        }
    }
    let id = id.to_string();
    output::print(if json { &delivered.answer().text } else { &id })?;
    Ok(0)
}

/// The answer knows: it was asked for after the scheduler had tried to place the job.
fn tell_why_it_waits(answer: &Answer) {
    // Its id is the answer; of a job in another shape there is nothing more to say.
    let Ok(job) = answer.read::<JobView>() else { return };
    match job.status {
        Status::Unapproved | Status::Pending => {
            output::say_to_person(&format!("berth: {}", why::line(&job, &Zoned::now())));
        }
        Status::Scheduled | Status::Running | Status::Exited => {}
    }
}

/// The id under which the job or the array was submitted, and the answer.
///
/// # Errors
/// As [`submit`].
pub async fn send(client: &Client, args: &SpecArgs, mut body: Value) -> Result<(Uuid, Delivered), Failure> {
    let key = match &args.idempotency_key {
        Some(key) if key.is_empty() || !key.bytes().all(|c| c.is_ascii_graphic()) => {
            return Err(Failure::Usage("an idempotency key has visible ASCII characters, no spaces".into()));
        }
        Some(key) => key.clone(),
        None => deliver::random_key(),
    };
    spec_body::add_after(&mut body, &resolve::resolve_all(client, &args.after).await?)?;
    let delivered = deliver::deliver(client, &["v1", "jobs"], &body, &key).await?;
    let id = match delivered.answer().read()? {
        Submitted::Job { id } | Submitted::Array { array: id, .. } => id,
    };
    Ok((id, delivered))
}
