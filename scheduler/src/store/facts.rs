//! What a batch names and memory may lack, looked up before the core decides: so that a repeated
//! submission meets the job that is there, not a duplicate key.

use std::collections::HashSet;

use futures_util::future::join_all;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::lease::Lead;
use super::{StoreError, limited, row};
use crate::core::rows::{DependencyRow, Facts, Needs};

pub const STATEMENTS: &[(&str, &str)] = &[
    ("JOBS", JOBS),
    ("USERS", USERS),
    ("COMMANDS", COMMANDS),
    ("DEPENDENCIES", DEPENDENCIES),
    ("ARRAY_DEPENDENCIES", ARRAY_DEPENDENCIES),
    ("QUEUE_USED", QUEUE_USED),
];

const JOBS: &str = row::select_jobs!("WHERE cell_id = $1 AND job_id = ANY($2::UUID[])");
const USERS: &str =
    "SELECT uid, name, role FROM core.users WHERE name = ANY($1::TEXT[]) AND state = 'active'";
const COMMANDS: &str = row::select_commands!("WHERE cell_id = $1 AND id = ANY($2::UUID[])");
// Two statements: with OR, not every engine would use both indexes.
const DEPENDENCIES: &str = "SELECT job_id, array_id, owner, outcome FROM sched.jobs \
    WHERE cell_id = $1 AND job_id = ANY($2::UUID[])";
const ARRAY_DEPENDENCIES: &str = "SELECT job_id, array_id, owner, outcome FROM sched.jobs \
    WHERE cell_id = $1 AND array_id = ANY($2::UUID[])";
// In the order of the index that has the queue, or a plan might read jobs of others until one fits.
const QUEUE_USED: &str = "SELECT queue FROM sched.jobs WHERE cell_id = $1 AND queue = $2 \
    ORDER BY queue, submitted_at, job_id LIMIT 1";

impl Lead {
    /// Looks up what `needs` names, in one flush, and then what those jobs come after. Users who are
    /// not active are left out.
    pub async fn facts(&mut self, needs: &Needs) -> Result<Facts, StoreError> {
        limited(&self.connected, async {
            let mut facts = self.named(needs).await?;
            let asked: HashSet<Uuid> = needs.dependencies.iter().copied().collect();
            let after: HashSet<Uuid> = facts.jobs.iter().flat_map(|job| job.spec.after.clone()).collect();
            let more: Vec<Uuid> = after.difference(&asked).copied().collect();
            facts.dependencies.extend(self.dependencies(&more).await?);
            // An element may be named itself, and by its array.
            facts.dependencies.sort_unstable_by_key(|dependency| dependency.id);
            facts.dependencies.dedup_by_key(|dependency| dependency.id);
            Ok(facts)
        })
        .await
    }

    async fn named(&self, needs: &Needs) -> Result<Facts, StoreError> {
        let of_cell = async |sql, ids: &Vec<Uuid>| self.list(sql, ids.is_empty(), &[&self.cell, ids]).await;
        let queues = needs.queues.iter().map(|name| async move {
            let params: [&(dyn ToSql + Sync); 2] = [&self.cell, name];
            self.list(QUEUE_USED, false, &params).await
        });
        let users: [&(dyn ToSql + Sync); 1] = [&needs.users];
        let (jobs, users, commands, dependencies, queues) = tokio::join!(
            of_cell(JOBS, &needs.jobs),
            self.list(USERS, needs.users.is_empty(), &users),
            of_cell(COMMANDS, &needs.commands),
            self.dependencies(&needs.dependencies),
            join_all(queues),
        );
        let queues: Vec<Vec<Row>> = queues.into_iter().collect::<Result<_, _>>()?;
        Ok(Facts {
            jobs: read(&jobs?, row::job)?,
            users: read(&users?, row::user)?,
            commands: read(&commands?, row::command)?,
            dependencies: dependencies?,
            used_queues: queues
                .iter()
                .flatten()
                .map(|row| row::Reader::new(row).next())
                .collect::<Result<_, _>>()?,
        })
    }

    /// The jobs and the elements of the arrays that these ids name.
    async fn dependencies(&self, ids: &Vec<Uuid>) -> Result<Vec<DependencyRow>, StoreError> {
        let (nothing, params) = (ids.is_empty(), [&self.cell as &(dyn ToSql + Sync), ids]);
        let (jobs, elements) = tokio::join!(
            self.list(DEPENDENCIES, nothing, &params),
            self.list(ARRAY_DEPENDENCIES, nothing, &params),
        );
        let mut found = read(&jobs?, row::dependency)?;
        found.extend(read(&elements?, row::dependency)?);
        Ok(found)
    }

    async fn list(
        &self,
        sql: &'static str,
        nothing_asked: bool,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        if nothing_asked {
            return Ok(Vec::new());
        }
        let rows = self.connected.client.query(self.statements.get(sql), params).await;
        rows.map_err(|error| StoreError::judge(&error))
    }
}

fn read<T>(rows: &[Row], read: impl Fn(&Row) -> Result<T, StoreError>) -> Result<Vec<T>, StoreError> {
    rows.iter().map(read).collect()
}
