//! What outlives a container that ended: of a gang that still runs, how its replicas ended; of a job
//! that is retried, its changed specification; of an array, the places in it.

use berth_common::id::Replica;
use berth_common::job::{AttemptStatus, Status};
use berth_common::message::{Ending, Fault, FaultKind};
use berth_scheduler::core::job::End;
use berth_scheduler::core::rows::{ContainerRow, JobRow, Release, Rows};
use berth_scheduler::store::StoreError;
use berth_scheduler::store::read::{self, Session};
use uuid::Uuid;

use crate::database::{Fresh, at_ms, with_database};
use crate::sample;

/// A replica of the fourth sample job, which runs in its third attempt, that has exited.
fn exited(cid: i64, attempt: u32, replica: u32, ending: End) -> ContainerRow {
    ContainerRow {
        replica: Replica { job: Uuid::from_u128(4), attempt, replica },
        status: AttemptStatus::Exited,
        exit_code: Some(1),
        exited_at: Some(at_ms(50)),
        ending: Some(ending),
        ..sample::container(cid, 4, 100, &[])
    }
}

fn ended() -> End {
    End::Ended(Ending {
        exit_code: Some(1),
        oom: true,
        signalled: false,
        timed_out: false,
        fault: Some(Fault { kind: FaultKind::Unknown, text: "the \"host\" restarted".into() }),
        started_at: Some(at_ms(40)),
        exited_at: at_ms(50),
    })
}

#[tokio::test]
async fn how_replicas_ended_is_known_to_the_next_leader_while_others_run() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        let mut rows = sample::cluster();
        let here = [exited(202, 3, 1, ended()), exited(203, 3, 2, End::NeverTaken)];
        rows.new_containers.extend(here.clone());
        rows.new_containers.push(exited(201, 2, 0, ended()));
        lead.commit(&rows, &[], at_ms(100)).await.expect("commits");
        let running = rows.new_containers[0].clone();
        let expected = [[running.clone()].as_slice(), &here].concat();
        assert_eq!(lead.load().await.expect("loads").containers, expected);

        // The last one ends later, by an update.
        let last = ContainerRow {
            cid: 200,
            master_port: running.master_port,
            ..exited(200, 3, 0, End::Lost { text: "the device was lost".into() })
        };
        let gone = |gid| Release { gid, cid: 200, released_at: at_ms(110) };
        let over =
            Rows { containers: vec![last.clone()], releases: vec![gone(101), gone(102)], ..Rows::default() };
        lead.commit(&over, &[], at_ms(110)).await.expect("commits");
        let containers = lead.load().await.expect("loads").containers;
        assert_eq!(containers, [[last].as_slice(), &here].concat());

        // And when the attempt is over, none of it is of use.
        let job = JobRow { life: sample::life(Status::Pending), ..sample::job(4) };
        lead.commit(&Rows { jobs: vec![job], ..Rows::default() }, &[], at_ms(120)).await.expect("commits");
        assert_eq!(lead.load().await.expect("loads").containers, []);
    })
    .await;
}

#[tokio::test]
async fn an_ending_belongs_to_what_has_ended_and_a_place_to_an_array() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        lead.commit(&sample::cluster(), &[], at_ms(100)).await.expect("commits");
        let alive = ContainerRow { ending: Some(ended()), ..sample::container(200, 4, 100, &[101, 102]) };
        let refusal = lead.commit(&Rows { containers: vec![alive], ..Rows::default() }, &[], at_ms(1)).await;
        assert!(matches!(refusal, Err(StoreError::Poison { .. })), "{refusal:?}");
        let client = fresh.connect().await.client;
        for change in [
            "UPDATE sched.jobs SET array_id = NULL",
            "UPDATE sched.jobs SET array_index = NULL",
            "UPDATE sched.jobs SET array_index = -1",
            "UPDATE sched.containers SET master_port = 0",
            "UPDATE sched.leader SET attempt_floor = -1",
        ] {
            let error = client.batch_execute(change).await.expect_err("refused");
            assert_eq!(error.code().map(|code| code.code()), Some("23514"), "{change}: {error}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_changed_specification_comes_back_and_is_summed_anew() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        lead.commit(&sample::cluster(), &[], at_ms(100)).await.expect("commits");
        let mut job = sample::job(5);
        job.priority = 7;
        job.spec.resources.gpus = 5;
        job.spec.command = vec!["other".into()];
        let rows = Rows { respecified: vec![job.clone()], jobs: vec![job.clone()], ..Rows::default() };
        lead.commit(&rows, &[], at_ms(110)).await.expect("commits");
        assert!(lead.load().await.expect("loads").jobs.contains(&job));
        let client = fresh.connect().await.client;
        let row = client.query_one("SELECT sum(gpus)::BIGINT FROM sched.jobs WHERE gpus <> 2", &[]).await;
        assert_eq!(row.expect("sums").get::<_, i64>(0), 5);
        let unknown = Rows { respecified: vec![sample::job(99)], ..Rows::default() };
        let refusal = lead.commit(&unknown, &[], at_ms(120)).await;
        assert!(matches!(refusal, Err(StoreError::Poison { .. })), "{refusal:?}");
    })
    .await;
}

#[tokio::test]
async fn a_page_of_an_array_has_its_elements_with_their_places() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        let mut rows = sample::cluster();
        rows.new_jobs.push(JobRow { array: None, ..sample::job(9) });
        lead.commit(&rows, &[], at_ms(100)).await.expect("commits");
        let session = Session::from(fresh.connect().await);
        let filter = read::jobs::Filter { array: Some(sample::ARRAY), ..Default::default() };
        let newest = (at_ms(1_000_000), Uuid::max());
        let page = read::jobs::page(&session, &filter, newest, 100).await.expect("a page");
        let places: Vec<_> = page.iter().map(|job| (job.array, job.array_index)).collect();
        let expected: Vec<_> = (1..=5).rev().map(|index| (Some(sample::ARRAY), Some(index))).collect();
        assert_eq!(places, expected);
        let alone =
            read::jobs::find(&session, Uuid::from_u128(9)).await.expect("finds").expect("it is there");
        assert_eq!((alone.array, alone.array_index), (None, None));
    })
    .await;
}
