//! Users and their tokens. The shim owns these rows: it reads and writes them.
//!
//! A user is never removed, only disabled, and the name is never given again: history names it.

use berth_common::time::now;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{ReadError, Session, get, text};
use crate::core::rows::Role;

pub const STATEMENTS: &[(&str, &str)] = &[
    ("BY_TOKEN", BY_TOKEN),
    ("FIND", FIND),
    ("PAGE", PAGE),
    ("EXISTS", EXISTS),
    ("CREATE", CREATE),
    ("DISABLE", DISABLE),
    ("REVOKE", REVOKE),
    ("ADD_TOKEN", ADD_TOKEN),
    ("ADMINS", ADMINS),
    ("RESTORE_ADMIN", RESTORE_ADMIN),
];

const BY_TOKEN: &str = "
SELECT u.name, u.role FROM core.tokens AS t JOIN core.users AS u ON u.uid = t.uid
WHERE t.token_hash = $1 AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > $2)
AND u.state = 'active'";

const FIND: &str =
    "SELECT u.name, u.email, u.role FROM core.users AS u WHERE u.name = $1 AND u.state = 'active'";

const PAGE: &str = "
SELECT u.name, u.email, u.role FROM core.users AS u
WHERE u.state = 'active' AND ($1::TEXT IS NULL OR u.name > $1) ORDER BY u.name LIMIT $2";

const EXISTS: &str = "SELECT u.uid FROM core.users AS u WHERE u.name = $1";

const CREATE: &str = "
INSERT INTO core.users (uid, name, email, usage, role, state, created_at)
SELECT coalesce(max(o.uid), 0) + 1, $1::TEXT, $2::TEXT, 0::BIGINT, $3::TEXT, 'active', $4::TIMESTAMPTZ
FROM core.users AS o";

const DISABLE: &str = "
UPDATE core.users SET state = 'disabled' WHERE name = $1 AND state = 'active'";

/// Also of somebody who was disabled before: it is repeated where it broke off.
const REVOKE: &str = "
UPDATE core.tokens SET revoked_at = $2 WHERE revoked_at IS NULL
AND uid IN (SELECT u.uid FROM core.users AS u WHERE u.name = $1 AND u.state = 'disabled')";

const ADD_TOKEN: &str = "
INSERT INTO core.tokens (token_hash, id, uid, created_at, expires_at)
SELECT $1::TEXT, $2::UUID, u.uid, $3::TIMESTAMPTZ, $4::TIMESTAMPTZ
FROM core.users AS u WHERE u.name = $5 AND u.state = 'active'";

const ADMINS: &str = "
SELECT count(*)::BIGINT AS n FROM core.tokens AS t JOIN core.users AS u ON u.uid = t.uid
WHERE u.role = 'admin' AND u.state = 'active' AND t.revoked_at IS NULL
AND (t.expires_at IS NULL OR t.expires_at > $1)";

const RESTORE_ADMIN: &str = "UPDATE core.users SET state = 'active', role = 'admin' WHERE name = $1";

/// How often a new user's number is taken by another one in the same moment before it is an error.
const CREATE_ATTEMPTS: u32 = 5;

/// Whom a token belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    pub role: Role,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    pub name: String,
    pub email: Option<String>,
    /// `user` or `admin`.
    pub role: String,
}

/// What became of a new user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    New,
    /// Somebody has this name, or had it once.
    NameTaken,
}

/// The active user to whom the token with this hash belongs, unless it has expired or was revoked.
///
/// # Errors
/// See [`ReadError`].
pub async fn by_token(db: &Session, hash: &str, at: Timestamp) -> Result<Option<Identity>, ReadError> {
    let Some(row) = db.row(BY_TOKEN, &[&hash, &at]).await? else { return Ok(None) };
    Ok(Some(Identity { name: get(&row, "name")?, role: role(get(&row, "role")?)? }))
}

/// One active user.
///
/// # Errors
/// See [`ReadError`].
pub async fn find(db: &Session, name: &str) -> Result<Option<UserView>, ReadError> {
    db.row(FIND, &[&name]).await?.map(|row| view(&row)).transpose()
}

/// At most `limit` active users whose name comes after `after`, by name.
///
/// # Errors
/// See [`ReadError`].
pub async fn page(db: &Session, after: Option<&str>, limit: i64) -> Result<Vec<UserView>, ReadError> {
    db.rows(PAGE, &[&after, &limit]).await?.iter().map(view).collect()
}

/// Makes a user.
///
/// # Errors
/// See [`ReadError`].
pub async fn create(db: &Session, name: &str, email: Option<&str>, role: Role) -> Result<Created, ReadError> {
    for _ in 0..CREATE_ATTEMPTS {
        // The name or the number is taken: which one, a look tells. Nobody takes a name back.
        if db.row(EXISTS, &[&name]).await?.is_some() {
            return Ok(Created::NameTaken);
        }
        match db.execute(CREATE, &[&name, &email, &role.as_str(), &now()]).await {
            Ok(_) => return Ok(Created::New),
            Err(ReadError::Duplicate(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(ReadError::Away("too many users are being made at once".into()))
}

/// Disables a user and revokes the tokens, which never count again; whether there was one.
///
/// # Errors
/// See [`ReadError`].
pub async fn disable(db: &Session, name: &str) -> Result<bool, ReadError> {
    let disabled = db.execute(DISABLE, &[&name]).await? > 0;
    // After it: from now on nobody makes a token for this user.
    db.execute(REVOKE, &[&name, &now()]).await?;
    Ok(disabled)
}

/// Stores a token of an active user; whether there is that user.
///
/// # Errors
/// See [`ReadError`].
pub async fn add_token(
    db: &Session,
    user: &str,
    id: Uuid,
    hash: &str,
    expires_at: Option<Timestamp>,
) -> Result<bool, ReadError> {
    Ok(db.execute(ADD_TOKEN, &[&hash, &id, &now(), &expires_at, &user]).await? > 0)
}

/// Whether some administrator has a token that counts.
///
/// # Errors
/// See [`ReadError`].
pub async fn admin_can_sign_in(db: &Session, at: Timestamp) -> Result<bool, ReadError> {
    let row = db.row(ADMINS, &[&at]).await?;
    Ok(row.map(|row| get::<i64>(&row, "n")).transpose()?.is_some_and(|n| n > 0))
}

/// Makes a user that exists an active administrator. One who was disabled starts without any token.
///
/// # Errors
/// See [`ReadError`].
pub async fn restore_admin(db: &Session, name: &str) -> Result<(), ReadError> {
    db.execute(REVOKE, &[&name, &now()]).await?;
    db.execute(RESTORE_ADMIN, &[&name]).await.map(|_| ())
}

fn view(row: &tokio_postgres::Row) -> Result<UserView, ReadError> {
    let email = Some(text(row, "email")?).filter(|email| !email.is_empty());
    Ok(UserView { name: get(row, "name")?, email, role: get(row, "role")? })
}

fn role(word: &str) -> Result<Role, ReadError> {
    let known = Role::ALL.iter().copied().find(|role| role.as_str() == word);
    known.ok_or_else(|| ReadError::Unreadable(format!("column role: {word:?}")))
}
