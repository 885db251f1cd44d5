//! How attempts ended, which of them are known, and forgetting them.

use berth_common::id::Replica;
use berth_common::message::Ending;
use rusqlite::{OptionalExtension, params};

use super::row::{remembered, taken};
use super::{Inbox, InboxError, Remembered, Taken};

impl Inbox {
    /// Records how it ended, once: a second ending changes nothing. The order is forgotten.
    ///
    /// # Errors
    /// When the inbox cannot be written.
    pub async fn ended(&self, replica: Replica, ending: &Ending) -> Result<(), InboxError> {
        const SQL: &str = "UPDATE attempt SET ending = ?4, ended_at_us = ?5, start = NULL
            WHERE job = ?1 AND attempt = ?2 AND replica = ?3 AND ending IS NULL";
        let text = serde_json::to_string(ending).expect("an ending has only string keys");
        let at = berth_common::time::now().as_microsecond();
        let Replica { job, attempt, replica } = replica;
        self.transaction(move |t| {
            t.execute(SQL, params![job.to_string(), attempt, replica, text, at]).map(drop)
        })
        .await
    }

    /// The broker has confirmed the report of its end.
    ///
    /// # Errors
    /// When the inbox cannot be written.
    pub async fn reported(&self, replica: Replica) -> Result<(), InboxError> {
        const SQL: &str = "UPDATE attempt SET reported = 1
            WHERE job = ?1 AND attempt = ?2 AND replica = ?3 AND ending IS NOT NULL";
        let Replica { job, attempt, replica } = replica;
        self.transaction(move |t| t.execute(SQL, params![job.to_string(), attempt, replica]).map(drop)).await
    }

    /// What is known of one attempt.
    ///
    /// # Errors
    /// When the inbox cannot be read.
    pub async fn find(&self, replica: Replica) -> Result<Option<Taken>, InboxError> {
        const SQL: &str =
            "SELECT job, attempt, replica, session, start, launched, stop_at_us, grace_ms, ending,
            reported, fenced, timed_out FROM attempt WHERE job = ?1 AND attempt = ?2 AND replica = ?3";
        let Replica { job, attempt, replica } = replica;
        self.transaction(move |t| {
            t.query_row(SQL, params![job.to_string(), attempt, replica], taken).optional()
        })
        .await
    }

    /// Every attempt whose end has not been reported.
    ///
    /// # Errors
    /// When the inbox cannot be read.
    pub async fn open_attempts(&self) -> Result<Vec<Taken>, InboxError> {
        const SQL: &str =
            "SELECT job, attempt, replica, session, start, launched, stop_at_us, grace_ms, ending,
            reported, fenced, timed_out FROM attempt WHERE reported = 0";
        self.transaction(|t| t.prepare(SQL)?.query_map([], taken)?.collect()).await
    }

    /// Every attempt, those first that ended first.
    ///
    /// # Errors
    /// When the inbox cannot be read.
    pub async fn remembered(&self) -> Result<Vec<Remembered>, InboxError> {
        const SQL: &str = "SELECT job, attempt, replica, CASE reported WHEN 1 THEN ended_at_us END
            FROM attempt ORDER BY ended_at_us";
        self.transaction(|t| t.prepare(SQL)?.query_map([], remembered)?.collect()).await
    }

    /// Forgets attempts whose ends were reported.
    ///
    /// # Errors
    /// When the inbox cannot be written.
    pub async fn forget(&self, replicas: Vec<Replica>) -> Result<(), InboxError> {
        const SQL: &str =
            "DELETE FROM attempt WHERE job = ?1 AND attempt = ?2 AND replica = ?3 AND reported = 1";
        self.transaction(move |t| {
            let mut delete = t.prepare(SQL)?;
            for Replica { job, attempt, replica } in replicas {
                delete.execute(params![job.to_string(), attempt, replica])?;
            }
            Ok(())
        })
        .await
    }
}
