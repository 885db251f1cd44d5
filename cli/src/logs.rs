//! `berth logs`: what a job wrote, as it wrote it.

use std::io::Write;

use jiff::Timestamp;

use crate::args::LogArgs;
use crate::client::{Client, Query};
use crate::failure::{Failure, REQUEST_FAILED};
use crate::follow::{self, Wanted};
use crate::patience::{self, Patience};
use crate::progress::{LogSink, Stream};
use crate::resolve;

/// # Errors
/// No such job or log, or one that cannot be written.
pub async fn logs(client: &Client, args: &LogArgs) -> Result<u8, Failure> {
    let job = resolve::resolve(client, &args.job.job).await?;
    let mut query = Query::new();
    query.extend(args.replica.map(|n| ("replica", n.to_string())));
    query.extend(args.tail.map(|n| ("tail", n.to_string())));
    query.extend(args.since.map(|since| ("since", since.at(Timestamp::now()).to_string())));
    query.extend(args.stream.clone().map(|stream| ("stream", stream)));
    if args.follow {
        let mut sink = LogSink::new(Stream::Out);
        let followed =
            follow::follow(client, &Wanted { job, attempt: args.attempt, query }, &mut sink).await?;
        return Ok(if followed.complete { 0 } else { REQUEST_FAILED });
    }
    query.extend(args.attempt.map(|n| ("attempt", n.to_string())));
    write_all(client, &job.to_string(), &query).await?;
    Ok(0)
}

async fn write_all(client: &Client, id: &str, query: &Query) -> Result<(), Failure> {
    let path = ["v1", "jobs", id, "logs"];
    let ask = patience::while_not_now(Patience::lasting(patience::READ), async || {
        client.stream(&path, query, "text/plain").await
    });
    let mut response = ask.await?;
    let mut out = std::io::stdout();
    while let Some(piece) = client.next_piece(&mut response).await? {
        out.write_all(&piece)?;
    }
    out.flush()?;
    Ok(())
}
