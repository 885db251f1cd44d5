//! The words of our enumerations are those of the tables: every one is taken, another is not.

use berth_common::command::{CommandStatus, Verb};
use berth_common::device::DeviceState;
use berth_common::job::{AttemptStatus, Outcome, Status, StopReason};
use berth_scheduler::core::rows::{JobEventRow, JobRow, Life, Role, Rows};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::database::{Fresh, at_ms, with_database};
use crate::sample;

/// Rows in which every word of every enumeration stands once at least.
fn every_word() -> Rows {
    let mut rows = sample::cluster();
    for (n, &outcome) in (10..).zip(Outcome::ALL) {
        let life = Life { outcome: Some(outcome), ..sample::life(Status::Exited) };
        rows.new_jobs.push(JobRow { life, ..sample::job(n) });
    }
    for (n, &reason) in (20..).zip(StopReason::ALL) {
        let life = Life { stopping: Some(reason), ..sample::life(Status::Running) };
        rows.new_jobs.push(JobRow { life, ..sample::job(n) });
    }
    for ((cid, job), &status) in (210..).zip(10..).zip(AttemptStatus::ALL) {
        let mut container = sample::container(cid, job, 100, &[]);
        container.status = status;
        match status {
            AttemptStatus::Pending => container.started_at = None,
            AttemptStatus::Running => {}
            AttemptStatus::Exited => container.exited_at = Some(at_ms(50)),
        }
        rows.new_containers.push(container);
    }
    for (did, &state) in (700..).zip(DeviceState::ALL) {
        rows.new_devices.push(sample::device(did, 0));
        let mut row = sample::device_state(did);
        row.state = state;
        rows.new_device_states.push(row);
    }
    let verbs = Verb::ALL.iter().map(|&verb| (verb, CommandStatus::Pending));
    let statuses = CommandStatus::ALL.iter().map(|&status| (Verb::Kill, status));
    for (n, (verb, status)) in (310..).zip(verbs.chain(statuses)) {
        let mut command = sample::command(n, 4);
        (command.command, command.status) = (verb, status);
        command.done_at = (status != CommandStatus::Pending).then(|| at_ms(80));
        rows.new_commands.push(command);
    }
    for (seq, &status) in (410..).zip(Status::ALL) {
        let (job, actor) = (Uuid::from_u128(4), "scheduler".to_owned());
        rows.events.push(JobEventRow {
            seq,
            job,
            from: Some(status),
            to: status,
            actor,
            reason: None,
            at: at_ms(1),
        });
    }
    rows
}

#[tokio::test]
async fn every_word_is_stored_and_read_back() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        let rows = every_word();
        lead.commit(&rows, &[], at_ms(100)).await.expect("every word is known");
        let snapshot = lead.load().await.expect("every word is read");
        assert_eq!(snapshot.device_states, rows.new_device_states);
        let client = fresh.connect().await.client;
        for (uid, role) in (1_i64..).zip(Role::ALL) {
            let sql = "INSERT INTO core.users (uid, name, usage, role, state, created_at) \
                VALUES ($1, $2, 0, $2, 'active', now())";
            client.execute(sql, &[&uid, &role.as_str()]).await.expect("the role is known");
        }
        for (table, column, condition) in [
            ("sched.jobs", "status", "status = 'unapproved'"),
            ("sched.jobs", "outcome", "status = 'exited'"),
            ("sched.jobs", "stopping", "status = 'running'"),
            ("sched.containers", "status", "status = 'pending'"),
            ("sched.device_state", "state", "did = 700"),
            ("sched.commands", "verb", "status = 'done'"),
            ("sched.commands", "status", "status = 'done'"),
            ("hist.job_events", "from_status", "seq = 410"),
            ("hist.job_events", "to_status", "seq = 410"),
            ("core.users", "role", "uid = 1"),
        ] {
            assert_another_word_is_refused(&client, table, column, condition).await;
        }
    })
    .await;
}

async fn assert_another_word_is_refused(client: &Client, table: &str, column: &str, condition: &str) {
    let found = client.query_one(&format!("SELECT count(*) FROM {table} WHERE {condition}"), &[]).await;
    assert!(found.expect("counts").get::<_, i64>(0) > 0, "{table}: {condition}");
    let change = format!("UPDATE {table} SET {column} = 'strange' WHERE {condition}");
    let error = client.batch_execute(&change).await.expect_err("refused");
    assert_eq!(error.code().map(|code| code.code()), Some("23514"), "{table}.{column}: {error}");
}
