//! What a batch names and memory may lack, looked up before the core decides: so that a repeated
//! submission meets the job that is there, not a duplicate key.

use futures_util::future::{FutureExt, maybe_done};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::lease::Lead;
use super::{StoreError, limited, pipeline, row};
use crate::core::rows::{Facts, Needs};

pub const STATEMENTS: &[(&str, &str)] = &[("JOBS", JOBS), ("USERS", USERS), ("COMMANDS", COMMANDS)];

const JOBS: &str = row::select_jobs!("WHERE cell_id = $1 AND job_id = ANY($2::UUID[])");
const USERS: &str =
    "SELECT uid, name, role FROM core.users WHERE name = ANY($1::TEXT[]) AND state = 'active'";
const COMMANDS: &str = row::select_commands!("WHERE cell_id = $1 AND id = ANY($2::UUID[])");

impl Lead {
    /// Looks up what `needs` names, in one flush. Users who are not active are left out.
    pub async fn facts(&mut self, needs: &Needs) -> Result<Facts, StoreError> {
        limited(&self.connected, async {
            let (jobs, commands) = (needs.jobs.is_empty(), needs.commands.is_empty());
            let calls = vec![
                maybe_done(self.list(JOBS, jobs, vec![&self.cell, &needs.jobs]).boxed()),
                maybe_done(self.list(USERS, needs.users.is_empty(), vec![&needs.users]).boxed()),
                maybe_done(self.list(COMMANDS, commands, vec![&self.cell, &needs.commands]).boxed()),
            ];
            let mut lists = Vec::new();
            for answer in pipeline::all(calls).await {
                lists.push(answer.map_err(|error| StoreError::judge(&error))?);
            }
            let mut lists = lists.iter();
            let mut next = || lists.next().map(Vec::as_slice).unwrap_or_default();
            Ok(Facts {
                jobs: next().iter().map(row::job).collect::<Result<_, _>>()?,
                users: next().iter().map(row::user).collect::<Result<_, _>>()?,
                commands: next().iter().map(row::command).collect::<Result<_, _>>()?,
                ..Facts::default()
            })
        })
        .await
    }

    async fn list(
        &self,
        sql: &'static str,
        nothing_asked: bool,
        params: Vec<&(dyn ToSql + Sync)>,
    ) -> Result<Vec<Row>, Error> {
        if nothing_asked {
            return Ok(Vec::new());
        }
        self.connected.client.query(self.statements.get(sql), &params).await
    }
}
