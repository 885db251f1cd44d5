//! Commands in the inbox: that one was taken, that it was begun, and what came of it. Each is begun at
//! most once, because the next process can tell that this one had begun it.

use berth_common::message::Executed;
use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::{Inbox, InboxError, number};

/// A command that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub id: Uuid,
    pub begun: bool,
    pub result: Option<Executed>,
}

/// What was found when an exec was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecTaken {
    New,
    /// It was taken before.
    Known(Command),
}

impl Inbox {
    /// Takes an exec with its number.
    ///
    /// # Errors
    /// When the inbox cannot be written; then nothing was taken.
    pub async fn take_exec(&self, number_of: i64, id: Uuid) -> Result<ExecTaken, InboxError> {
        const FIND: &str = "SELECT id, begun, result FROM command WHERE id = ?1";
        self.transaction(move |t| {
            number(t, number_of)?;
            let known = t.query_row(FIND, [id.to_string()], command).optional()?;
            if let Some(known) = known {
                return Ok(ExecTaken::Known(known));
            }
            t.execute("INSERT INTO command (id) VALUES (?1)", [id.to_string()])?;
            Ok(ExecTaken::New)
        })
        .await
    }

    /// Docker is about to be asked to run it.
    ///
    /// # Errors
    /// When the inbox cannot be written; then it must not be run.
    pub async fn exec_begins(&self, id: Uuid) -> Result<(), InboxError> {
        const SQL: &str = "UPDATE command SET begun = 1 WHERE id = ?1";
        self.transaction(move |t| t.execute(SQL, [id.to_string()]).map(drop)).await
    }

    /// Records what came of it, once.
    ///
    /// # Errors
    /// When the inbox cannot be written.
    pub async fn executed(&self, result: &Executed) -> Result<(), InboxError> {
        const SQL: &str = "UPDATE command SET result = ?2, done_at_us = ?3 WHERE id = ?1 AND result IS NULL";
        let (id, at) = (result.command.to_string(), berth_common::time::now().as_microsecond());
        let text = serde_json::to_string(result).expect("a result has only string keys");
        self.transaction(move |t| t.execute(SQL, params![id, text, at]).map(drop)).await
    }

    /// The broker has confirmed the report of it.
    ///
    /// # Errors
    /// When the inbox cannot be written.
    pub async fn exec_reported(&self, id: Uuid) -> Result<(), InboxError> {
        const SQL: &str = "UPDATE command SET reported = 1 WHERE id = ?1 AND result IS NOT NULL";
        self.transaction(move |t| t.execute(SQL, [id.to_string()]).map(drop)).await
    }

    /// Every command whose result has not been reported.
    ///
    /// # Errors
    /// When the inbox cannot be read.
    pub async fn open_commands(&self) -> Result<Vec<Command>, InboxError> {
        const SQL: &str = "SELECT id, begun, result FROM command WHERE reported = 0";
        self.transaction(|t| t.prepare(SQL)?.query_map([], command)?.collect()).await
    }

    /// Forgets commands whose results were reported and are older than `before`.
    ///
    /// # Errors
    /// When the inbox cannot be written.
    pub async fn forget_commands(&self, before: Timestamp) -> Result<(), InboxError> {
        const SQL: &str = "DELETE FROM command WHERE reported = 1 AND done_at_us < ?1";
        self.transaction(move |t| t.execute(SQL, [before.as_microsecond()]).map(drop)).await
    }
}

fn command(row: &rusqlite::Row<'_>) -> rusqlite::Result<Command> {
    let result: Option<String> = row.get(2)?;
    Ok(Command {
        id: super::uuid(row, 0)?,
        begun: row.get(1)?,
        result: result.map(|text| super::row::json(2, &text)).transpose()?,
    })
}
