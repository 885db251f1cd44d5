//! Rows of the database read back into the rows of the core, column by column, in the order in
//! which the statements here list them.

use std::str::FromStr;

use berth_common::command::CommandView;
use berth_common::id::Replica;
use berth_common::queue::{Member, Queue};
use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use uuid::Uuid;

use super::StoreError;
use crate::core::rows::{ArrayPlace, ContainerRow, DependencyRow, JobRow, Life, Role, UserRow};

/// A statement that reads jobs for [`job`].
macro_rules! select_jobs {
    ($condition:literal) => {
        concat!(
            "SELECT job_id, uid, owner, priority, spec, body_hash, array_id, array_index, status, outcome, held, \
             stopping, grace_ms, attempt, failures, faults, not_before, exit_code, error, submitted_at, scheduled_at, \
             started_at, exited_at FROM sched.jobs ",
            $condition
        )
    };
}

/// A statement that reads commands for [`command`].
macro_rules! select_commands {
    ($condition:literal) => {
        concat!(
            "SELECT id, job_id, device, verb, argument, actor, reason, status, exit_code, output, truncated, \
             asked_at, done_at FROM sched.commands ",
            $condition
        )
    };
}

pub(super) use {select_commands, select_jobs};

/// Reads the columns of a row one after the other.
pub struct Reader<'a> {
    row: &'a Row,
    /// How many have been read.
    column: usize,
}

impl<'a> Reader<'a> {
    pub fn new(row: &'a Row) -> Self {
        Self { row, column: 0 }
    }

    pub fn next<T: FromSql<'a>>(&mut self) -> Result<T, StoreError> {
        self.column += 1;
        self.row.try_get(self.column - 1).map_err(|error| self.unreadable(&super::chain(&error)))
    }

    /// A text whose emptiness is stored as NULL.
    pub fn text(&mut self) -> Result<String, StoreError> {
        Ok(self.next::<Option<String>>()?.unwrap_or_default())
    }

    /// A word of an enumeration.
    pub fn word<T: FromStr<Err = String>>(&mut self) -> Result<T, StoreError> {
        let word: &str = self.next()?;
        word.parse().map_err(|error: String| self.unreadable(&error))
    }

    pub fn maybe_word<T: FromStr<Err = String>>(&mut self) -> Result<Option<T>, StoreError> {
        let word: Option<&str> = self.next()?;
        word.map(str::parse).transpose().map_err(|error: String| self.unreadable(&error))
    }

    pub fn role(&mut self) -> Result<Role, StoreError> {
        let word: &str = self.next()?;
        let role = Role::ALL.iter().copied().find(|role| role.as_str() == word);
        role.ok_or_else(|| self.unreadable(&format!("{word:?} is no role")))
    }

    /// A number that is never negative.
    pub fn count(&mut self) -> Result<u32, StoreError> {
        let number: i32 = self.next()?;
        u32::try_from(number).map_err(|_| self.unreadable("negative"))
    }

    pub fn maybe_count(&mut self) -> Result<Option<u32>, StoreError> {
        let number: Option<i32> = self.next()?;
        number.map(u32::try_from).transpose().map_err(|_| self.unreadable("negative"))
    }

    /// A BIGINT that is never negative, where there is one.
    pub fn maybe_large_count(&mut self) -> Result<Option<u64>, StoreError> {
        let number: Option<i64> = self.next()?;
        number.map(u64::try_from).transpose().map_err(|_| self.unreadable("negative"))
    }

    pub fn port(&mut self) -> Result<Option<u16>, StoreError> {
        let number: Option<i32> = self.next()?;
        number.map(u16::try_from).transpose().map_err(|_| self.unreadable("no port"))
    }

    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        let text: &str = self.next()?;
        serde_json::from_str(text).map_err(|error| self.unreadable(&error.to_string()))
    }

    /// JSON, or what is empty where there is none.
    pub fn maybe_json<T: DeserializeOwned + Default>(&mut self) -> Result<T, StoreError> {
        let text: Option<&str> = self.next()?;
        match text {
            Some(text) => serde_json::from_str(text).map_err(|error| self.unreadable(&error.to_string())),
            None => Ok(T::default()),
        }
    }

    fn unreadable(&self, why: &str) -> StoreError {
        let name = self.row.columns().get(self.column - 1).map_or("?", tokio_postgres::Column::name);
        StoreError::Unknown { text: format!("column {name} of a row cannot be read: {why}") }
    }
}

pub fn job(row: &Row) -> Result<JobRow, StoreError> {
    let mut r = Reader::new(row);
    Ok(JobRow {
        id: r.next()?,
        uid: r.next()?,
        owner: r.next()?,
        priority: r.next()?,
        spec: r.json()?,
        body_hash: r.next()?,
        array: array(&mut r)?,
        life: Life {
            status: r.word()?,
            outcome: r.maybe_word()?,
            held: r.next()?,
            stopping: r.maybe_word()?,
            grace_ms: r.next()?,
            attempt: r.count()?,
            failures: r.count()?,
            faults: r.count()?,
            not_before: r.next()?,
            exit_code: r.next()?,
            error: r.next()?,
            submitted_at: r.next()?,
            scheduled_at: r.next()?,
            started_at: r.next()?,
            exited_at: r.next()?,
        },
    })
}

fn array(r: &mut Reader<'_>) -> Result<Option<ArrayPlace>, StoreError> {
    let id: Option<Uuid> = r.next()?;
    let index = r.maybe_count()?;
    Ok(id.zip(index).map(|(id, index)| ArrayPlace { id, index }))
}

/// A container without its GPUs, which are in other rows.
pub fn container(row: &Row) -> Result<ContainerRow, StoreError> {
    let mut r = Reader::new(row);
    Ok(ContainerRow {
        cid: r.next()?,
        replica: Replica { job: r.next()?, attempt: r.count()?, replica: r.count()? },
        uid: r.next()?,
        did: r.next()?,
        session: r.next()?,
        order_id: r.next()?,
        cpu_milli: r.next()?,
        memory_mb: r.next()?,
        gids: Vec::new(),
        password: r.text()?,
        ports: r.maybe_json()?,
        master_port: r.port()?,
        status: r.word()?,
        docker_id: r.next()?,
        exit_code: r.next()?,
        oom: r.next()?,
        error: r.next()?,
        scheduled_at: r.next()?,
        started_at: r.next()?,
        exited_at: r.next()?,
        ending: r.maybe_json()?,
    })
}

pub fn dependency(row: &Row) -> Result<DependencyRow, StoreError> {
    let mut r = Reader::new(row);
    Ok(DependencyRow { id: r.next()?, array: r.next()?, owner: r.next()?, outcome: r.maybe_word()? })
}

pub fn command(row: &Row) -> Result<CommandView, StoreError> {
    let mut r = Reader::new(row);
    Ok(CommandView {
        id: r.next()?,
        job: r.next()?,
        device: r.next()?,
        command: r.word()?,
        argument: r.json()?,
        actor: r.next()?,
        reason: r.next()?,
        status: r.word()?,
        exit_code: r.next()?,
        output: r.next()?,
        truncated: r.next()?,
        asked_at: r.next()?,
        done_at: r.next()?,
    })
}

pub fn user(row: &Row) -> Result<UserRow, StoreError> {
    let mut r = Reader::new(row);
    Ok(UserRow { uid: r.next()?, name: r.next()?, role: r.role()? })
}

/// A queue without its members, who are in other rows.
pub fn queue(row: &Row) -> Result<Queue, StoreError> {
    let mut r = Reader::new(row);
    Ok(Queue {
        name: r.next()?,
        weight: r.count()?,
        policy: r.maybe_word()?.unwrap_or_default(),
        placement: r.maybe_word()?.unwrap_or_default(),
        quota: r.maybe_json()?,
        user_quota: r.maybe_json()?,
        default_timeout_s: r.maybe_large_count()?,
        max_timeout_s: r.maybe_large_count()?,
        max_jobs: r.maybe_large_count()?,
        approval: r.next()?,
        members: Vec::new(),
    })
}

/// A member, and of which queue.
pub fn member(row: &Row) -> Result<(String, Member), StoreError> {
    let mut r = Reader::new(row);
    Ok((r.next()?, Member { user: r.next()?, role: r.word()? }))
}
