//! Jobs, their labels, their history, and commands.

use berth_common::command::CommandView;

use super::Batch;
use crate::core::rows::{JobEventRow, JobRow, Rows};
use crate::store::StoreError;
use crate::store::columns::Columns;

pub const STATEMENTS: &[(&str, &str)] = &[
    ("INSERT_JOBS", INSERT_JOBS),
    ("INSERT_LABELS", INSERT_LABELS),
    ("GUARD_JOBS", GUARD_JOBS),
    ("UPDATE_JOBS", UPDATE_JOBS),
    ("RESPECIFY_JOBS", RESPECIFY_JOBS),
    ("INSERT_EVENTS", INSERT_EVENTS),
    ("INSERT_COMMANDS", INSERT_COMMANDS),
    ("GUARD_COMMANDS", GUARD_COMMANDS),
    ("UPDATE_COMMANDS", UPDATE_COMMANDS),
];

const INSERT_JOBS: &str = "INSERT INTO sched.jobs (cell_id, job_id, priority, status, outcome, held, stopping, \
    grace_ms, attempt, failures, faults, not_before, exit_code, error, scheduled_at, started_at, exited_at, \
    submitted_at, uid, owner, queue, body_hash, array_id, array_index, spec, name, gpus) \
    SELECT $1::INTEGER, unnest($2::UUID[]), unnest($3::INTEGER[]), unnest($4::TEXT[]), unnest($5::TEXT[]), \
    unnest($6::BOOLEAN[]), unnest($7::TEXT[]), unnest($8::BIGINT[]), unnest($9::INTEGER[]), \
    unnest($10::INTEGER[]), unnest($11::INTEGER[]), unnest($12::TIMESTAMPTZ[]), unnest($13::BIGINT[]), \
    unnest($14::TEXT[]), unnest($15::TIMESTAMPTZ[]), unnest($16::TIMESTAMPTZ[]), unnest($17::TIMESTAMPTZ[]), \
    unnest($18::TIMESTAMPTZ[]), unnest($19::BIGINT[]), unnest($20::TEXT[]), unnest($21::TEXT[]), \
    unnest($22::TEXT[]), unnest($23::UUID[]), unnest($24::INTEGER[]), unnest($25::TEXT[]), \
    unnest($26::TEXT[]), unnest($27::BIGINT[])";
const INSERT_LABELS: &str = "INSERT INTO sched.job_labels (cell_id, job_id, key, value) \
    SELECT $1::INTEGER, unnest($2::UUID[]), unnest($3::TEXT[]), unnest($4::TEXT[])";

const GUARD_JOBS: &str = "SELECT 1/count(*) FROM (SELECT count(*) AS n FROM sched.jobs \
    WHERE cell_id = $1 AND job_id = ANY($2::UUID[]) HAVING count(*) = $3::BIGINT) AS g";
const UPDATE_JOBS: &str = "UPDATE sched.jobs AS j SET priority = u.priority, status = u.status, \
    outcome = u.outcome, held = u.held, stopping = u.stopping, grace_ms = u.grace_ms, attempt = u.attempt, \
    failures = u.failures, faults = u.faults, not_before = u.not_before, exit_code = u.exit_code, \
    error = u.error, scheduled_at = u.scheduled_at, started_at = u.started_at, exited_at = u.exited_at \
    FROM (SELECT unnest($2::UUID[]) AS job_id, unnest($3::INTEGER[]) AS priority, \
    unnest($4::TEXT[]) AS status, unnest($5::TEXT[]) AS outcome, unnest($6::BOOLEAN[]) AS held, \
    unnest($7::TEXT[]) AS stopping, unnest($8::BIGINT[]) AS grace_ms, unnest($9::INTEGER[]) AS attempt, \
    unnest($10::INTEGER[]) AS failures, unnest($11::INTEGER[]) AS faults, \
    unnest($12::TIMESTAMPTZ[]) AS not_before, unnest($13::BIGINT[]) AS exit_code, \
    unnest($14::TEXT[]) AS error, unnest($15::TIMESTAMPTZ[]) AS scheduled_at, \
    unnest($16::TIMESTAMPTZ[]) AS started_at, unnest($17::TIMESTAMPTZ[]) AS exited_at) AS u \
    WHERE j.cell_id = $1 AND j.job_id = u.job_id";

const RESPECIFY_JOBS: &str = "UPDATE sched.jobs AS j SET spec = u.spec, name = u.name, gpus = u.gpus \
    FROM (SELECT unnest($2::UUID[]) AS job_id, unnest($3::TEXT[]) AS spec, unnest($4::TEXT[]) AS name, \
    unnest($5::BIGINT[]) AS gpus) AS u \
    WHERE j.cell_id = $1 AND j.job_id = u.job_id";

const INSERT_EVENTS: &str = "INSERT INTO hist.job_events \
    (cell_id, seq, job_id, from_status, to_status, actor, reason, at) \
    SELECT $1::INTEGER, unnest($2::BIGINT[]), unnest($3::UUID[]), unnest($4::TEXT[]), unnest($5::TEXT[]), \
    unnest($6::TEXT[]), unnest($7::TEXT[]), unnest($8::TIMESTAMPTZ[])";

const INSERT_COMMANDS: &str = "INSERT INTO sched.commands (cell_id, id, status, exit_code, output, truncated, \
    done_at, job_id, device, verb, argument, actor, reason, asked_at) \
    SELECT $1::INTEGER, unnest($2::UUID[]), unnest($3::TEXT[]), unnest($4::BIGINT[]), unnest($5::TEXT[]), \
    unnest($6::BOOLEAN[]), unnest($7::TIMESTAMPTZ[]), unnest($8::UUID[]), unnest($9::TEXT[]), \
    unnest($10::TEXT[]), unnest($11::TEXT[]), unnest($12::TEXT[]), unnest($13::TEXT[]), \
    unnest($14::TIMESTAMPTZ[])";
const GUARD_COMMANDS: &str = "SELECT 1/count(*) FROM (SELECT count(*) AS n FROM sched.commands \
    WHERE cell_id = $1 AND id = ANY($2::UUID[]) HAVING count(*) = $3::BIGINT) AS g";
const UPDATE_COMMANDS: &str = "UPDATE sched.commands AS c SET status = u.status, exit_code = u.exit_code, \
    output = u.output, truncated = u.truncated, done_at = u.done_at \
    FROM (SELECT unnest($2::UUID[]) AS id, unnest($3::TEXT[]) AS status, unnest($4::BIGINT[]) AS exit_code, \
    unnest($5::TEXT[]) AS output, unnest($6::BOOLEAN[]) AS truncated, \
    unnest($7::TIMESTAMPTZ[]) AS done_at) AS u \
    WHERE c.cell_id = $1 AND c.id = u.id";

pub(super) fn write<'a>(batch: &mut Batch<'a>, rows: &'a Rows) -> Result<(), StoreError> {
    insert_jobs(batch, &rows.new_jobs)?;
    if !rows.jobs.is_empty() {
        batch.guard(GUARD_JOBS, rows.jobs.iter().map(|j| j.id))?;
        batch.push_counted(UPDATE_JOBS, rows.jobs.len(), changing(batch.columns(), &rows.jobs))?;
    }
    respecify(batch, &rows.respecified)?;
    insert_events(batch, &rows.events)?;
    insert_commands(batch, &rows.new_commands)?;
    if !rows.commands.is_empty() {
        batch.guard(GUARD_COMMANDS, rows.commands.iter().map(|c| c.id))?;
        let columns = answered(batch.columns(), &rows.commands);
        batch.push_counted(UPDATE_COMMANDS, rows.commands.len(), columns)?;
    }
    Ok(())
}

fn insert_jobs<'a>(batch: &mut Batch<'a>, jobs: &'a [JobRow]) -> Result<(), StoreError> {
    if jobs.is_empty() {
        return Ok(());
    }
    let columns = changing(batch.columns(), jobs)
        .each(jobs.iter().map(|j| j.life.submitted_at))
        .each(jobs.iter().map(|j| j.uid))
        .texts(jobs.iter().map(|j| j.owner.as_str()))
        .texts(jobs.iter().map(|j| j.spec.queue.as_str()))
        .texts(jobs.iter().map(|j| j.body_hash.as_str()))
        .each(jobs.iter().map(|j| j.array.map(|a| a.id)))
        .maybe_ints(jobs.iter().map(|j| j.array.map(|a| a.index)));
    batch.push(INSERT_JOBS, specified(columns, jobs))?;
    let labels: Vec<_> =
        jobs.iter().flat_map(|j| j.spec.labels.iter().map(move |(key, value)| (j.id, key, value))).collect();
    if labels.is_empty() {
        return Ok(());
    }
    let columns = batch
        .columns()
        .each(labels.iter().map(|l| l.0))
        .texts(labels.iter().map(|l| l.1.as_str()))
        .texts(labels.iter().map(|l| l.2.as_str()));
    batch.push(INSERT_LABELS, columns)
}

/// What was asked, as JSON, and what of it is searched and summed.
fn specified<'a>(columns: Columns<'a>, jobs: &'a [JobRow]) -> Columns<'a> {
    columns
        .json(jobs.iter().map(|j| &j.spec))
        .texts(jobs.iter().map(|j| j.spec.name.as_str()))
        .each(jobs.iter().map(|j| i64::try_from(j.spec.gpus()).unwrap_or(i64::MAX)))
}

/// The columns of a job that change, `$2` to `$17`.
fn changing<'a>(columns: Columns<'a>, jobs: &'a [JobRow]) -> Columns<'a> {
    let lives = || jobs.iter().map(|j| &j.life);
    columns
        .each(jobs.iter().map(|j| j.id))
        .each(jobs.iter().map(|j| j.priority))
        .each(lives().map(|l| l.status.as_str()))
        .each(lives().map(|l| l.outcome.map(|o| o.as_str())))
        .each(lives().map(|l| l.held))
        .each(lives().map(|l| l.stopping.map(|s| s.as_str())))
        .each(lives().map(|l| l.grace_ms))
        .ints(lives().map(|l| l.attempt))
        .ints(lives().map(|l| l.failures))
        .ints(lives().map(|l| l.faults))
        .each(lives().map(|l| l.not_before))
        .each(lives().map(|l| l.exit_code))
        .maybe_texts(lives().map(|l| l.error.as_deref()))
        .each(lives().map(|l| l.scheduled_at))
        .each(lives().map(|l| l.started_at))
        .each(lives().map(|l| l.exited_at))
}

/// What a retry may change has no labels in it (`RETRY_FIELDS`).
fn respecify<'a>(batch: &mut Batch<'a>, jobs: &'a [JobRow]) -> Result<(), StoreError> {
    if jobs.is_empty() {
        return Ok(());
    }
    batch.guard(GUARD_JOBS, jobs.iter().map(|j| j.id))?;
    let columns = specified(batch.columns().each(jobs.iter().map(|j| j.id)), jobs);
    batch.push_counted(RESPECIFY_JOBS, jobs.len(), columns)
}

fn insert_events<'a>(batch: &mut Batch<'a>, events: &'a [JobEventRow]) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    let columns = batch
        .columns()
        .each(events.iter().map(|e| e.seq))
        .each(events.iter().map(|e| e.job))
        .each(events.iter().map(|e| e.from.map(|s| s.as_str())))
        .each(events.iter().map(|e| e.to.as_str()))
        .texts(events.iter().map(|e| e.actor.as_str()))
        .maybe_texts(events.iter().map(|e| e.reason.as_deref()))
        .each(events.iter().map(|e| e.at));
    batch.push(INSERT_EVENTS, columns)
}

fn insert_commands<'a>(batch: &mut Batch<'a>, commands: &'a [CommandView]) -> Result<(), StoreError> {
    if commands.is_empty() {
        return Ok(());
    }
    let columns = answered(batch.columns(), commands)
        .each(commands.iter().map(|c| c.job))
        .maybe_texts(commands.iter().map(|c| c.device.as_deref()))
        .each(commands.iter().map(|c| c.command.as_str()))
        .json(commands.iter().map(|c| &c.argument))
        .texts(commands.iter().map(|c| c.actor.as_str()))
        .maybe_texts(commands.iter().map(|c| c.reason.as_deref()))
        .each(commands.iter().map(|c| c.asked_at));
    batch.push(INSERT_COMMANDS, columns)
}

/// The columns of a command that change, `$2` to `$7`.
fn answered<'a>(columns: Columns<'a>, commands: &'a [CommandView]) -> Columns<'a> {
    columns
        .each(commands.iter().map(|c| c.id))
        .each(commands.iter().map(|c| c.status.as_str()))
        .each(commands.iter().map(|c| c.exit_code))
        .maybe_texts(commands.iter().map(|c| c.output.as_deref()))
        .each(commands.iter().map(|c| c.truncated))
        .each(commands.iter().map(|c| c.done_at))
}
