//! What must not be stored is refused as poison, and takes its whole batch with it.

use berth_common::job::{Outcome, Status, StopReason};
use berth_scheduler::core::rows::{JobRow, Life, Needs, Release, Rows};
use berth_scheduler::store::{Lead, StoreError};
use uuid::Uuid;

use crate::database::{Fresh, at_ms, with_database};
use crate::sample;

/// Commits `rows` with one more job, and asserts that nothing of it is there afterwards.
async fn assert_refused(lead: &mut Lead, rows: Rows, why: &str) {
    let witness = sample::job(1000);
    let mut rows = rows;
    rows.new_jobs.push(witness.clone());
    let before = lead.load().await.expect("loads");
    let refusal = lead.commit(&rows, &[500, 501], at_ms(200)).await;
    assert!(matches!(refusal, Err(StoreError::Poison { .. })), "{why}: {refusal:?}");
    let after = lead.load().await.expect("loads");
    assert_eq!(after.jobs.len(), before.jobs.len(), "{why}");
    assert_eq!(after.outbox, before.outbox, "{why}");
    assert_eq!(after.reservations, before.reservations, "{why}");
    assert_eq!(after.next_id, before.next_id, "{why}");
    let needs = Needs { jobs: vec![witness.id], ..Needs::default() };
    assert_eq!(lead.facts(&needs).await.expect("looks up").jobs, [], "{why}");
}

async fn with_cluster<F: Future<Output = ()>>(test: impl FnOnce(Lead) -> F) {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        lead.commit(&sample::cluster(), &[], at_ms(100)).await.expect("commits");
        test(lead).await;
    })
    .await;
}

#[tokio::test]
async fn a_gpu_cannot_have_two_owners() {
    with_cluster(async |mut lead: Lead| {
        let second = sample::container(201, 3, 100, &[102]);
        let rows = Rows {
            reservations: sample::reservations(&second),
            new_containers: vec![second],
            next_id: Some(20_000),
            ..Rows::default()
        };
        assert_refused(&mut lead, rows, "102 is taken").await;
    })
    .await;
}

#[tokio::test]
async fn a_change_of_what_is_not_there_is_not_committed() {
    with_cluster(async |mut lead: Lead| {
        let all = sample::cluster();
        let release = |gid, cid| Release { gid, cid, released_at: at_ms(200) };
        let unknown = |change: fn(&mut Rows)| {
            let mut rows = Rows::default();
            change(&mut rows);
            rows
        };
        let cases = [
            ("a job", unknown(|r| r.jobs = vec![sample::job(99), sample::job(1)])),
            ("a job twice", unknown(|r| r.jobs = vec![sample::job(1), sample::job(1)])),
            ("a container", unknown(|r| r.containers = vec![sample::container(999, 4, 100, &[])])),
            ("a command", unknown(|r| r.commands = vec![sample::command(999, 4)])),
            ("a device", unknown(|r| r.devices = vec![sample::device(999, 0)])),
            ("a GPU", unknown(|r| r.devices = vec![sample::device(100, 3)])),
            ("a device's state", unknown(|r| r.device_states = vec![sample::device_state(999)])),
            ("a free GPU", Rows { releases: vec![release(999, 200)], ..Rows::default() }),
            ("another's GPU", Rows { releases: vec![release(101, 201)], ..Rows::default() }),
            ("a known job as new", Rows { new_jobs: vec![all.new_jobs[0].clone()], ..Rows::default() }),
        ];
        for (why, rows) in cases {
            assert_refused(&mut lead, rows, why).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_bound_is_poison() {
    with_cluster(async |mut lead: Lead| {
        let mut nul = sample::job(20);
        nul.life.error = Some("a\0b".into());
        let mut large = sample::job(20);
        large.life.attempt = u32::MAX;
        let mut early = sample::job(20);
        early.life.not_before = Some(jiff::Timestamp::MIN);
        for (why, job) in [("NUL", nul), ("too large", large), ("before all calendars", early)] {
            assert_refused(&mut lead, Rows { new_jobs: vec![job], ..Rows::default() }, why).await;
        }
        let unreserved =
            Rows { new_containers: vec![sample::container(201, 3, 100, &[101])], ..Rows::default() };
        assert_refused(&mut lead, unreserved, "a container whose GPU is not reserved for it").await;
        let needs = Needs { users: vec!["a\0b".into()], ..Needs::default() };
        let refusal = lead.facts(&needs).await.map(|_| ());
        assert!(matches!(refusal, Err(StoreError::Poison { .. })), "{refusal:?}");
    })
    .await;
}

/// Lives that no job can have: the doc comments of [`Life`], each broken.
fn broken_lives() -> Vec<(&'static str, Life)> {
    use Status::{Exited, Pending, Running, Scheduled, Unapproved};
    let of = sample::life;
    vec![
        ("an outcome while pending", Life { outcome: Some(Outcome::Killed), ..of(Pending) }),
        ("exited without an outcome", Life { outcome: None, ..of(Exited) }),
        ("an end while running", Life { exited_at: Some(at_ms(1)), ..of(Running) }),
        ("exited without an end", Life { exited_at: None, ..of(Exited) }),
        ("held while running", Life { held: true, ..of(Running) }),
        ("held while unapproved", Life { held: true, ..of(Unapproved) }),
        ("held after its end", Life { held: true, ..of(Exited) }),
        (
            "stopping while pending",
            Life { stopping: Some(StopReason::Kill), grace_ms: Some(1), ..of(Pending) },
        ),
        (
            "stopping after its end",
            Life { stopping: Some(StopReason::Kill), grace_ms: Some(1), ..of(Exited) },
        ),
        ("stopping without a grace time", Life { grace_ms: None, ..of(Running) }),
        ("a grace time without stopping", Life { stopping: None, ..of(Running) }),
        ("scheduled without an attempt", Life { attempt: 0, ..of(Scheduled) }),
        ("scheduled without a time", Life { scheduled_at: None, ..of(Scheduled) }),
        ("running without a start", Life { started_at: None, ..of(Running) }),
        ("started while scheduled", Life { started_at: Some(at_ms(1)), ..of(Scheduled) }),
        ("started, never scheduled", Life { scheduled_at: None, ..of(Exited) }),
    ]
}

#[tokio::test]
async fn illegal_lives_cannot_be_stored() {
    with_cluster(async |mut lead: Lead| {
        for (why, life) in broken_lives() {
            let new = JobRow { life: life.clone(), ..sample::job(30) };
            assert_refused(&mut lead, Rows { new_jobs: vec![new], ..Rows::default() }, why).await;
            let known = JobRow { id: Uuid::from_u128(2), life, ..sample::job(2) };
            assert_refused(&mut lead, Rows { jobs: vec![known], ..Rows::default() }, why).await;
        }
    })
    .await;
}
