//! What stands in a request's address: query parameters and ids, refused by name when wrong.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use berth_common::problem::Problem;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::refusal::Refusal;
use super::served::Served;

/// Items of a list where nobody says how many, and at most.
const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;

/// The query string as a `T` that denies unknown fields. The pointer of a wrong one is `/` and the
/// parameter's name.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Served>> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Served>) -> Result<Self, Refusal> {
        Ok(Self(read(parts.uri.query().unwrap_or_default())?))
    }
}

fn read<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    // No column holds one, and PostgreSQL refuses to be asked for it.
    if let Some(pair) = query.split('&').find(|pair| pair.contains("%00")) {
        let name = pair.split('=').next().unwrap_or_default();
        return Err(Problem::invalid_field(format!("/{name}"), "must not contain a NUL character"));
    }
    let pairs = serde_html_form::Deserializer::from_bytes(query.as_bytes());
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        let named = message.split('`').nth(1).unwrap_or_default();
        let name = if path == "." || path.is_empty() { named } else { path.as_str() };
        Problem::invalid_field(format!("/{name}"), message)
    })
}

/// A UUID in the path.
pub struct Id(pub Uuid);

impl FromRequestParts<Arc<Served>> for Id {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, served: &Arc<Served>) -> Result<Self, Refusal> {
        let Name(text) = Name::from_request_parts(parts, served).await?;
        text.parse().map(Self).map_err(|_| Refusal::new(404, format!("{text:?} is not the id of anything")))
    }
}

/// A name in the path.
pub struct Name(pub String);

impl FromRequestParts<Arc<Served>> for Name {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, served: &Arc<Served>) -> Result<Self, Refusal> {
        let Path(text) = Path::<String>::from_request_parts(parts, served)
            .await
            .map_err(|_| Refusal::new(400, "the path is not UTF-8"))?;
        if text.contains('\0') {
            return Err(Refusal::new(404, "nothing has a NUL character in its name"));
        }
        Ok(Self(text))
    }
}

/// The `limit` of a list.
///
/// # Errors
/// 422 beyond 1–1000.
pub fn limit(given: Option<u32>) -> Result<u32, Refusal> {
    let limit = given.unwrap_or(DEFAULT_LIMIT);
    if (1..=MAX_LIMIT).contains(&limit) {
        Ok(limit)
    } else {
        Err(Refusal::invalid("/limit", format!("1–{MAX_LIMIT}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Query {
        limit: Option<u32>,
        #[serde(default)]
        label: Vec<String>,
        since: Option<jiff::Timestamp>,
        follow: Option<bool>,
    }

    fn pointer(query: &str) -> String {
        let problem = read::<Query>(query).expect_err("refused");
        assert_eq!(problem.status, 422);
        problem.errors[0].pointer.clone()
    }

    #[test]
    fn parameters_are_read_and_wrong_ones_named() {
        let query: Query =
            read("label=a:b&label=c%3Ad&limit=5&since=2027-01-01T00:00:00Z&follow=true").expect("valid");
        assert_eq!(query.label, ["a:b", "c:d"]);
        assert_eq!((query.limit, query.follow), (Some(5), Some(true)));
        assert_eq!(read::<Query>("").expect("valid").label, Vec::<String>::new());
        assert_eq!(pointer("limit=x"), "/limit");
        assert_eq!(pointer("since=yesterday"), "/since");
        assert_eq!(pointer("limti=3"), "/limti");
        assert_eq!(pointer("limit=3&label=a:%00"), "/label");
    }

    #[test]
    fn limits_are_limited() {
        assert_eq!(limit(None).expect("valid"), 100);
        assert_eq!(limit(Some(1000)).expect("valid"), 1000);
        assert!(limit(Some(0)).is_err() && limit(Some(1001)).is_err());
    }
}
