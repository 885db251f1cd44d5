//! Submitting many jobs in one request: all valid ones are submitted, each with an answer of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderMap;
use berth_common::problem::Problem;
use berth_common::spec::{self, JobSpec};
use futures_util::StreamExt;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use super::submit::{self, SubmittedArray, Verdict};
use crate::http::auth::Caller;
use crate::http::body::{self, Kind};
use crate::http::refusal::Refusal;
use crate::http::request::{Patience, idempotency_key};
use crate::http::served::Served;

/// More jobs, each element of an array counted, go into several requests: an answer must come while
/// somebody waits for it, and names every job.
const MAX_JOBS: usize = 10_000;
/// Submissions of one request on their way: enough to fill the leader's batches, little enough that
/// the last of them is answered in time.
const IN_FLIGHT: usize = 1000;
/// `/` and the digits of an item's number.
const ROOM_FOR_INDEX: usize = 6;

/// The answer to one item: one of the three.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Item {
    Job {
        id: Uuid,
    },
    Array(SubmittedArray),
    /// As the job alone would be refused: 403, 409, 413, 422, 429 or 503.
    Refused {
        error: Problem,
    },
}

/// Submit many jobs. The answer has an item for each, in the same order.
#[utoipa::path(post, path = "/v1/jobs:batch", tag = "jobs",
    request_body(content(
        (Vec<JobSpec> = "application/json"), (String = "application/x-ndjson"))),
    params(("Idempotency-Key" = Option<String>, Header,
        description = "the key of item n is `<this>/<n>`, counted from 0")),
    responses((status = 200, body = Vec<Item>,
        description = "an item's `error` has the status of its own: 403, 409, 413, 422, 429 or 503"),
        (status = 413, body = Problem), (status = 422, body = Problem)))]
pub async fn batch(
    State(served): State<Arc<Served>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Vec<Item>>, Refusal> {
    let key = idempotency_key(&headers, ROOM_FOR_INDEX)?;
    let kind = body::kind(&headers)?;
    let bytes = body::bytes(&headers, body, body::MAX_BATCH_BODY).await?;
    let items = split(&bytes, kind)?;
    let too_many = || Refusal::invalid("", format!("at most {MAX_JOBS} jobs in one request"));
    if items.len() > MAX_JOBS {
        return Err(too_many());
    }
    let mut specs = Vec::with_capacity(items.len());
    for item in items {
        specs.push(parse(&item, &caller));
        // Others have their turn while a large request is read.
        tokio::task::consume_budget().await;
    }
    let jobs = |spec: &JobSpec| spec.element_count().unwrap_or(1) as usize;
    if specs.iter().flatten().map(jobs).sum::<usize>() > MAX_JOBS {
        return Err(too_many());
    }
    // While the database is away nobody can decide: then nothing is sent either.
    served.reads().session().await?;
    // When the leader was silent for one, the others are left to the broker without waiting again.
    let silent = AtomicBool::new(false);
    let answers = futures_util::stream::iter(specs.into_iter().enumerate()).map(|(index, spec)| {
        let key = key.map(|key| format!("{key}/{index}"));
        let (served, caller, silent) = (&served, &caller, &silent);
        async move {
            match spec {
                Ok(spec) => one(served, caller, spec, key.as_deref(), silent).await,
                Err(error) => Item::Refused { error },
            }
        }
    });
    Ok(Json(answers.buffered(IN_FLIGHT).collect().await))
}

async fn one(
    served: &Served,
    caller: &Caller,
    spec: JobSpec,
    key: Option<&str>,
    silent: &AtomicBool,
) -> Item {
    let id = submit::id_for(caller, &spec, key);
    let patience = if silent.load(Ordering::Relaxed) { Patience::Confirm } else { Patience::Decision };
    match submit::ask(served.asker(), caller, id, key, &spec, patience).await {
        Verdict::Created | Verdict::Seen => {}
        Verdict::Accepted => silent.store(true, Ordering::Relaxed),
        Verdict::Refused(error) => return Item::Refused { error },
    }
    match spec.element_count() {
        Some(_) => Item::Array(SubmittedArray { array: id, jobs: spec.job_ids(id) }),
        None => Item::Job { id },
    }
}

fn parse(item: &[u8], caller: &Caller) -> Result<JobSpec, Problem> {
    if item.len() > body::MAX_BODY {
        return Err(Problem::new(413, format!("the job is larger than {} MiB", body::MAX_BODY >> 20)));
    }
    let spec = spec::parse(item)?;
    submit::check(caller, &spec)?;
    Ok(spec)
}

/// The items as they were written. A line that is wrong is a wrong item; an array that is not JSON
/// is no request at all.
fn split(body: &Bytes, kind: Kind) -> Result<Vec<Bytes>, Refusal> {
    match kind {
        Kind::Json => {
            let items: Vec<&RawValue> = serde_json::from_slice(body).map_err(|error| {
                // Whether it is no JSON at all or only no array decides between 400 and 422.
                match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
                    Ok(_) => Refusal::invalid("", "must be an array of job specifications"),
                    Err(_) => Refusal::new(400, format!("the body is not JSON: {error}")),
                }
            })?;
            Ok(items.into_iter().map(|item| body.slice_ref(item.get().as_bytes())).collect())
        }
        Kind::NdJson => Ok(body
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.trim_ascii().is_empty())
            .map(|line| body.slice_ref(line))
            .collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_and_lines_are_split_into_items() {
        let texts = |body: &'static [u8], kind| split(&Bytes::from_static(body), kind).expect("a batch");
        assert_eq!(texts(b"[{\"image\":\"a\"}, 3]", Kind::Json), ["{\"image\":\"a\"}", "3"]);
        assert_eq!(texts(b"{}\r\n\n {\"a\":1}\n", Kind::NdJson), ["{}\r", " {\"a\":1}"]);
        let refused = |body| split(&Bytes::from_static(body), Kind::Json).expect_err("refused");
        let status = |body: &'static [u8]| refused(body).into_problem().status;
        assert_eq!((status(b"{}"), status(b"[1,")), (422, 400));
    }

    #[test]
    fn an_answer_is_an_id_or_ids_or_a_problem() {
        let (json, id) = (|item| serde_json::to_value(item).expect("json"), Uuid::nil());
        assert_eq!(json(Item::Job { id }), serde_json::json!({"id": id}));
        let array = SubmittedArray { array: id, jobs: vec![id] };
        assert_eq!(json(Item::Array(array)), serde_json::json!({"array": id, "jobs": [id]}));
        assert_eq!(json(Item::Refused { error: Problem::new(422, "no") })["error"]["status"], 422);
    }
}
