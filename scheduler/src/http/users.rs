//! Users and their tokens, for administrators.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_common::problem::Problem;
use berth_common::time;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::auth::{Caller, token_hash};
use super::body;
use super::page::{ListParams, Page};
use super::params::{Name, Params, limit};
use super::refusal::Refusal;
use super::served::Served;
use super::token::new_token;
use crate::core::rows::Role;
use crate::store::read::users::{self, Created, UserView};

/// The longest name that still fits a column of a table.
const MAX_NAME: usize = 32;
/// RFC 5321, section 4.5.3.1.3.
const MAX_EMAIL: usize = 254;
/// History says who did it; nobody may be called what the scheduler calls itself.
const RESERVED: &str = "scheduler";

/// Users by name (administrators).
#[utoipa::path(get, path = "/v1/users", tag = "users", params(ListParams),
    responses((status = 200, body = Page<UserView>), (status = 403, body = Problem)))]
pub async fn list(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<UserView>>, Refusal> {
    caller.require_admin()?;
    let limit = limit(params.limit)?;
    let db = served.reads().session().await?;
    let found = users::page(&db, params.cursor.as_deref(), i64::from(limit) + 1).await?;
    Ok(Json(Page::cut(found, limit, |user| user.name.clone())))
}

/// A user: oneself, or for administrators anybody.
#[utoipa::path(get, path = "/v1/users/{name}", tag = "users", params(("name" = String, Path)),
    responses((status = 200, body = UserView), (status = 403, body = Problem), (status = 404, body = Problem)))]
pub async fn show(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Name(name): Name,
) -> Result<Json<UserView>, Refusal> {
    if !caller.sees(&name) {
        caller.require_admin()?;
    }
    let db = served.reads().session().await?;
    users::find(&db, &name).await?.map(Json).ok_or_else(|| not_found(&name))
}

/// A user to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// `[a-z][a-z0-9._-]{0,31}`; never given twice.
    name: String,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    role: NewRole,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum NewRole {
    #[default]
    User,
    Admin,
}

/// Make a user (administrators). The user can sign in when a token was made.
#[utoipa::path(post, path = "/v1/users", tag = "users", request_body = NewUser,
    responses((status = 201, body = UserView, headers(("Location"))), (status = 403, body = Problem),
        (status = 409, body = Problem, description = "the name is taken, or was once"), (status = 422, body = Problem)))]
pub async fn create(
    State(served): State<Arc<Served>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    caller.require_admin()?;
    let NewUser { name, email, role } = body::read(&headers, body).await?;
    if !is_user_name(&name) {
        return Err(Refusal::invalid(
            "/name",
            format!(
                "must be a small letter, then at most {} of a–z, 0–9, '.', '_', '-'; not {RESERVED:?}",
                MAX_NAME - 1
            ),
        ));
    }
    let email = email.filter(|email| !email.is_empty());
    if email.as_ref().is_some_and(|email| email.len() > MAX_EMAIL || email.contains(char::is_control)) {
        return Err(Refusal::invalid("/email", format!("at most {MAX_EMAIL} bytes, no control characters")));
    }
    let role = match role {
        NewRole::User => Role::User,
        NewRole::Admin => Role::Admin,
    };
    let db = served.reads().session().await?;
    match users::create(&db, &name, email.as_deref(), role).await? {
        Created::New => {
            let location = [(header::LOCATION, format!("/v1/users/{name}"))];
            let user = UserView { name, email, role: role.as_str().into() };
            Ok((StatusCode::CREATED, location, Json(user)).into_response())
        }
        Created::NameTaken => {
            Err(Refusal::new(409, format!("there is or was a user {name:?}; names are not given twice")))
        }
    }
}

/// Remove a user (administrators): the tokens count no more, the jobs stay.
#[utoipa::path(delete, path = "/v1/users/{name}", tag = "users", params(("name" = String, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem, description = "oneself")))]
pub async fn remove(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Name(name): Name,
) -> Result<StatusCode, Refusal> {
    caller.require_admin()?;
    if name == caller.name {
        // So there is always an administrator left.
        return Err(Refusal::new(409, "you cannot remove yourself; another administrator can"));
    }
    let db = served.reads().session().await?;
    if !users::disable(&db, &name).await? {
        return Err(not_found(&name));
    }
    served.tokens.forget();
    Ok(StatusCode::NO_CONTENT)
}

/// What a new token may be told.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Never where absent.
    #[serde(default)]
    expires_at: Option<Timestamp>,
}

/// A new token. It is shown this once: only its hash is stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenView {
    id: Uuid,
    token: String,
    #[serde(with = "berth_common::time::option")]
    expires_at: Option<Timestamp>,
}

/// Make a token for a user (administrators).
#[utoipa::path(post, path = "/v1/users/{name}/tokens", tag = "users", params(("name" = String, Path)),
    request_body = Option<NewToken>,
    responses((status = 201, body = TokenView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 422, body = Problem)))]
pub async fn add_token(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Name(name): Name,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    caller.require_admin()?;
    let NewToken { expires_at } = body::read_or_default(&headers, body).await?;
    let expires_at = expires_at.map(time::to_micros);
    if expires_at.is_some_and(|at| at <= time::now()) {
        return Err(Refusal::invalid("/expires_at", "is over already"));
    }
    let (id, token) = (Uuid::now_v7(), new_token());
    let db = served.reads().session().await?;
    if !users::add_token(&db, &name, id, &token_hash(&token), expires_at).await? {
        return Err(not_found(&name));
    }
    // No cache on the way may keep it.
    let headers = [(header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, headers, Json(TokenView { id, token, expires_at })).into_response())
}

fn not_found(name: &str) -> Refusal {
    Refusal::new(404, format!("there is no user {name:?}"))
}

fn is_user_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() <= MAX_NAME
        && name != RESERVED
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.iter().all(|&c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._-".contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_follow_the_pattern() {
        for good in ["a", "ann", "ann.b-c_9", &"a".repeat(32)] {
            assert!(is_user_name(good), "{good}");
        }
        for bad in ["", "Ann", "9a", "a b", "ä", "a/b", "device:x", "scheduler", &"a".repeat(33)] {
            assert!(!is_user_name(bad), "{bad}");
        }
    }
}
