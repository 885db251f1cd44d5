//! Tokens, and the first one of an installation.
//!
//! Without a token of an administrator nobody could make one: so at every start it is seen to that
//! there is one. That is one path for an empty database, for a start that died halfway, and for an
//! installation whose last such token has expired.

use berth_common::time;
use rand::RngCore;
use uuid::Uuid;

use super::auth::token_hash;
use crate::core::rows::Role;
use crate::store::read::users::{self, Created};
use crate::store::read::{ReadError, Session};

/// Who the first token belongs to.
const ADMIN: &str = "admin";
/// 256 bits: nobody guesses them, so a plain SHA-256 of it may be stored.
const TOKEN_BYTES: usize = 32;
/// A chosen token below this length is taken, with a warning.
const SHORT_TOKEN: usize = 24;

/// A token that nobody can guess. It begins so that it is recognised where it should not lie.
pub fn new_token() -> String {
    let mut bytes = [0; TOKEN_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    format!("berth_{}", hex::encode(bytes))
}

/// Sees to it that some administrator can sign in. Where none can, user `admin` gets `chosen`
/// (`BERTH_ADMIN_TOKEN`) as token, or a new one, which is returned:
/// print it once. A chosen token that was revoked stays so.
///
/// # Errors
/// See [`ReadError`].
pub async fn ensure_admin(db: &Session, chosen: Option<&str>) -> Result<Option<String>, ReadError> {
    if users::admin_can_sign_in(db, time::now()).await? {
        return Ok(None);
    }
    match users::create(db, ADMIN, None, Role::Admin).await? {
        Created::New => tracing::info!("made the user admin"),
        Created::NameTaken => users::restore_admin(db, ADMIN).await?,
    }
    let chosen = chosen.filter(|token| !token.is_empty());
    if chosen.is_some_and(|token| token.len() < SHORT_TOKEN) {
        tracing::warn!("BERTH_ADMIN_TOKEN is short enough to be guessed; choose a longer one");
    }
    if let Some(token) = chosen {
        if give(db, token).await? {
            return Ok(None);
        }
        tracing::warn!(
            "BERTH_ADMIN_TOKEN was revoked or belongs to somebody else, so it does not count; a new token is \
             made. Choose another one, or leave it out"
        );
    }
    let made = new_token();
    give(db, &made).await?;
    Ok(Some(made))
}

/// Gives user `admin` this token; whether it signs an administrator in then.
async fn give(db: &Session, token: &str) -> Result<bool, ReadError> {
    let hash = token_hash(token);
    match users::add_token(db, ADMIN, Uuid::now_v7(), &hash, None).await {
        Ok(_) => Ok(true),
        // Another scheduler that starts in this moment may have stored the chosen token.
        Err(ReadError::Duplicate(_)) => {
            let identity = users::by_token(db, &hash, time::now()).await?;
            Ok(identity.is_some_and(|identity| identity.role == Role::Admin))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_and_never_the_same() {
        let token = new_token();
        assert_eq!(token.len(), "berth_".len() + 64);
        assert_ne!(token, new_token());
    }
}
