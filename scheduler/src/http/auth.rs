//! Who asks: a bearer token, looked up by its hash.
//!
//! Only hits are remembered, and only for [`FRESH`]: a token that was deleted is refused everywhere
//! within that time, and guessing cannot fill the memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use sha2::{Digest, Sha256};

use super::refusal::Refusal;
use super::served::Served;
use crate::core::rows::Role;
use crate::store::read::users::{self, Identity};

/// So long a token that was found counts without being looked up again.
const FRESH: Duration = Duration::from_secs(5);
/// Tokens remembered; beyond it everything is forgotten and looked up anew.
const MAX_REMEMBERED: usize = 10_000;
/// Longer ones are not ours; hashing them would only cost time.
const MAX_TOKEN: usize = 1024;

/// The user who makes a request.
#[derive(Debug, Clone)]
pub struct Caller {
    pub name: String,
    pub role: Role,
}

impl Caller {
    /// Whether it may see and touch what belongs to `owner`.
    pub fn sees(&self, owner: &str) -> bool {
        self.is_admin() || self.name == owner
    }

    pub fn is_admin(&self) -> bool {
        match self.role {
            Role::Admin => true,
            Role::User => false,
        }
    }

    /// # Errors
    /// 403 for everybody else.
    pub fn require_admin(&self) -> Result<(), Refusal> {
        if self.is_admin() { Ok(()) } else { Err(Refusal::new(403, "only an administrator may do this")) }
    }
}

/// SHA-256 in hexadecimal: what is stored of a token.
pub fn token_hash(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

impl FromRequestParts<Arc<Served>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, served: &Arc<Served>) -> Result<Self, Refusal> {
        let hash = token_hash(bearer(parts)?);
        if let Some(known) = served.tokens.fresh(&hash) {
            return Ok(known);
        }
        let session = served.reads().session().await?;
        let Some(Identity { name, role }) =
            users::by_token(&session, &hash, berth_common::time::now()).await?
        else {
            return Err(Refusal::new(401, "this token is not known, or has expired"));
        };
        let caller = Self { name, role };
        served.tokens.remember(hash, caller.clone());
        Ok(caller)
    }
}

fn bearer(parts: &Parts) -> Result<&str, Refusal> {
    let Some(value) = parts.headers.get(header::AUTHORIZATION) else {
        return Err(Refusal::new(401, "sign in: send the header Authorization: Bearer <token>"));
    };
    value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty() && token.len() <= MAX_TOKEN)
        .ok_or_else(|| Refusal::new(401, "the header must be Authorization: Bearer <token>"))
}

/// Tokens that were found a moment ago, by hash.
#[derive(Default)]
pub struct Tokens {
    known: Mutex<HashMap<String, (Instant, Caller)>>,
}

impl Tokens {
    fn fresh(&self, hash: &str) -> Option<Caller> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(hash).filter(|(since, _)| since.elapsed() < FRESH).map(|(_, caller)| caller.clone())
    }

    fn remember(&self, hash: String, caller: Caller) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(hash, (Instant::now(), caller));
    }

    /// After a change of users: here it counts at once.
    pub fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn of(header: &str) -> Result<String, u16> {
        let (parts, ()) =
            Request::builder().header("authorization", header).body(()).expect("a request").into_parts();
        bearer(&parts).map(str::to_owned).map_err(|refusal| refusal.into_problem().status)
    }

    #[test]
    fn only_bearer_tokens_are_taken() {
        assert_eq!(of("Bearer abc"), Ok("abc".into()));
        assert_eq!(of("bearer  abc "), Ok("abc".into()));
        for bad in ["", "Bearer", "Bearer ", "Basic abc", "abc", &format!("Bearer {}", "x".repeat(1025))] {
            assert_eq!(of(bad), Err(401), "{bad}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_can_be_forgotten() {
        let tokens = Tokens::default();
        let ann = Caller { name: "ann".into(), role: Role::User };
        for i in 0..=MAX_REMEMBERED {
            tokens.remember(i.to_string(), ann.clone());
        }
        assert!(tokens.known.lock().expect("whole").len() <= MAX_REMEMBERED);
        assert!(tokens.fresh(&MAX_REMEMBERED.to_string()).is_some());
        tokens.forget();
        assert!(tokens.fresh(&MAX_REMEMBERED.to_string()).is_none());
    }
}
