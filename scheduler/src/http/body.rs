//! Bodies of requests: limited in size and in the time they may take, and of the type that is read.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use berth_common::pointer;
use berth_common::problem::Problem;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::refusal::Refusal;

/// A job specification or a command; an argument of 128 KiB several times over.
pub const MAX_BODY: usize = 1 << 20;
/// 10,000 specifications of 3 KiB.
pub const MAX_BATCH_BODY: usize = 32 << 20;
/// Of what is too large so much is read to the end.
const MAX_DRAINED: usize = 8 << 20;
/// A body that takes longer keeps a connection and its memory for nothing.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// What a body is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Json,
    /// A JSON value a line.
    NdJson,
}

/// The type that the headers name; JSON where they name none.
///
/// # Errors
/// 415 for everything else.
pub fn kind(headers: &HeaderMap) -> Result<Kind, Refusal> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Kind::Json) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    match essence.to_ascii_lowercase().as_str() {
        "application/json" => Ok(Kind::Json),
        "application/x-ndjson" => Ok(Kind::NdJson),
        other => Err(Refusal::new(
            415,
            format!("the body is {other:?}; send JSON with the header Content-Type: application/json"),
        )),
    }
}

/// The whole body, which must be said to be JSON.
///
/// # Errors
/// 413, 415, or 400 when it breaks off.
pub async fn json_bytes(headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
    match kind(headers)? {
        Kind::Json => bytes(headers, body, MAX_BODY).await,
        Kind::NdJson => Err(Refusal::new(415, "several lines go to /v1/jobs:batch only")),
    }
}

/// The whole body as JSON.
///
/// # Errors
/// As [`json_bytes`], and 400 when it is not JSON.
pub async fn json(headers: &HeaderMap, body: Body) -> Result<Value, Refusal> {
    let bytes = json_bytes(headers, body).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::new(400, format!("the body is not JSON: {error}")))
}

/// The whole body as a `T` that denies unknown fields.
///
/// # Errors
/// As [`json`], and 422 with the field that is wrong.
pub async fn read<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Refusal> {
    Ok(pointer::read(json(headers, body).await?)?)
}

/// As [`read`], for a body that may be left out.
///
/// # Errors
/// As [`read`].
pub async fn read_or_default<T: DeserializeOwned + Default>(
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Refusal> {
    let bytes = bytes(headers, body, MAX_BODY).await?;
    if bytes.trim_ascii().is_empty() { Ok(T::default()) } else { read(headers, Body::from(bytes)).await }
}

/// The whole body, up to `limit` bytes. Of one that is larger the rest is read and thrown away, as
/// far as [`MAX_DRAINED`] goes: a client that is still writing would not see the answer.
///
/// # Errors
/// 413 beyond the limit, 408 when it takes too long, 400 when it breaks off.
pub async fn bytes(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let too_large = || Refusal::new(413, format!("the body is larger than {} MiB", limit >> 20));
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    // Whoever asks before it writes hears the answer without writing.
    if announced.is_some_and(|length| length > limit as u64) && headers.contains_key(header::EXPECT) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, collect(body, limit)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(too_large()),
        Ok(Err(_)) => Err(Refusal::new(400, "the body broke off")),
        Err(_) => Err(Problem {
            title: "Request Timeout".into(),
            ..Problem::new(408, format!("the body was not complete within {} s", BODY_TIMEOUT.as_secs()))
        }
        .into()),
    }
}

/// None: it is larger than `limit`.
async fn collect(body: Body, limit: usize) -> Result<Option<Bytes>, axum::Error> {
    let mut pieces = body.into_data_stream();
    let mut kept = Vec::new();
    let mut seen = 0;
    while let Some(piece) = pieces.next().await.transpose()? {
        seen += piece.len();
        if seen <= limit {
            kept.extend_from_slice(&piece);
        } else if seen > limit.saturating_add(MAX_DRAINED) {
            break;
        } else {
            kept = Vec::new();
        }
    }
    Ok((seen <= limit).then(|| kept.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(content_type: &str) -> HeaderMap {
        let value = content_type.parse().expect("a header");
        HeaderMap::from_iter([(header::CONTENT_TYPE, value)])
    }

    #[test]
    fn only_json_is_read() {
        assert_eq!(kind(&HeaderMap::new()).expect("taken"), Kind::Json);
        assert_eq!(kind(&headers("Application/JSON; charset=utf-8")).expect("taken"), Kind::Json);
        assert_eq!(kind(&headers("application/x-ndjson")).expect("taken"), Kind::NdJson);
        let refused = kind(&headers("application/x-www-form-urlencoded")).expect_err("refused");
        assert_eq!(refused.into_problem().status, 415);
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_whether_announced_or_not() {
        let status = |result: Result<Bytes, Refusal>| result.expect_err("refused").into_problem().status;
        let value = |text: &str| text.parse().expect("a header");
        let announced = HeaderMap::from_iter([
            (header::CONTENT_LENGTH, value("11")),
            (header::EXPECT, value("100-continue")),
        ]);
        assert_eq!(status(bytes(&announced, Body::empty(), 10).await), 413);
        assert_eq!(status(bytes(&HeaderMap::new(), Body::from("x".repeat(11)), 10).await), 413);
        assert!(bytes(&HeaderMap::new(), Body::from("x".repeat(10)), 10).await.is_ok());
    }
}
