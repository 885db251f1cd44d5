//! The shim's queries: what users see of jobs, devices and commands, and the users themselves.
//!
//! Nothing here changes what the leader owns; the shim writes users and tokens only. Outer joins lead
//! from a cell's tables to reference tables, never the other way: Citus could not answer those from
//! one shard.

pub mod arrays;
pub mod attempts;
pub mod commands;
pub mod devices;
pub mod events;
pub mod jobs;
pub mod queues;
mod session;
pub mod summary;
pub mod users;

pub use session::{POOL_SIZE, ReadError, Reads, Session};

use std::str::FromStr;

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

/// (module, its statements) for the test that prepares every statement of the project.
pub const STATEMENTS: &[(&str, &[(&str, &str)])] = &[
    ("read::session", session::STATEMENTS),
    ("read::arrays", arrays::STATEMENTS),
    ("read::attempts", attempts::STATEMENTS),
    ("read::commands", commands::STATEMENTS),
    ("read::devices", devices::STATEMENTS),
    ("read::events", events::STATEMENTS),
    ("read::jobs", jobs::STATEMENTS),
    ("read::queues", queues::STATEMENTS),
    ("read::summary", summary::STATEMENTS),
    ("read::users", users::STATEMENTS),
];

/// The column `name` of `row`.
fn get<'a, T: FromSql<'a>>(row: &'a Row, name: &str) -> Result<T, ReadError> {
    row.try_get(name).map_err(|error| ReadError::Unreadable(format!("column {name}: {error}")))
}

/// A text that is stored as NULL where it is empty.
fn text(row: &Row, name: &str) -> Result<String, ReadError> {
    Ok(get::<Option<String>>(row, name)?.unwrap_or_default())
}

/// A column that holds one of our words.
fn word<T: FromStr<Err = String>>(row: &Row, name: &str) -> Result<T, ReadError> {
    parse(name, get(row, name)?)
}

/// The same where there may be none.
fn word_opt<T: FromStr<Err = String>>(row: &Row, name: &str) -> Result<Option<T>, ReadError> {
    get::<Option<&str>>(row, name)?.map(|text| parse(name, text)).transpose()
}

fn parse<T: FromStr<Err = String>>(name: &str, text: &str) -> Result<T, ReadError> {
    text.parse().map_err(|error| ReadError::Unreadable(format!("column {name}: {error}")))
}

/// A column that holds JSON.
fn json<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> Result<T, ReadError> {
    serde_json::from_str(text).map_err(|error| ReadError::Unreadable(format!("column {name}: {error}")))
}

/// An INTEGER that is never negative.
fn count(row: &Row, name: &str) -> Result<u32, ReadError> {
    let value: i32 = get(row, name)?;
    u32::try_from(value).map_err(|_| ReadError::Unreadable(format!("column {name}: {value}")))
}
