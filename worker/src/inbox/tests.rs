//! The inbox takes each message once, and remembers it over restarts.

use super::*;
use crate::scratch::Scratch;
use berth_common::message::StartGpu;
use serde_json::json;

fn replica(attempt: u32) -> Replica {
    Replica { job: Uuid::from_u128(3), attempt, replica: 0 }
}

fn start(attempt: u32) -> Start {
    Start {
        replica: replica(attempt),
        owner: "ann".into(),
        spec: berth_common::spec::from_value(json!({"image": "busybox"})).expect("valid"),
        gpus: vec![StartGpu { uuid: "GPU-1".into(), idx: 0, kind: "T4".into() }],
        password: "hunter2".into(),
        timeout_s: None,
        array_index: None,
        gang: None,
    }
}

fn ending(code: i64) -> Ending {
    Ending {
        exit_code: Some(code),
        oom: false,
        signalled: false,
        timed_out: false,
        fault: None,
        started_at: None,
        exited_at: berth_common::time::now(),
    }
}

#[tokio::test]
async fn it_is_the_same_worker_after_a_restart_and_only_one_has_the_folder() {
    let dir = Scratch::new();
    let inbox = Inbox::open(&dir).expect("opens");
    let id = inbox.station().expect("reads").worker_id;
    let refused = Inbox::open(&dir).err().expect("refused");
    assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
    drop(inbox);
    assert_eq!(Inbox::open(&dir).expect("opens").station().expect("reads").worker_id, id);
}

#[tokio::test]
async fn what_was_taken_survives_a_restart_in_the_phase_it_reached() {
    let dir = Scratch::new();
    let inbox = Inbox::open(&dir).expect("opens");
    let fence = Duration::from_secs(240);
    inbox.take_welcome(4, 10, Uuid::from_u128(8), fence).await.expect("taken");
    assert!(inbox.take_start(4, 11, &start(1)).await.expect("taken"));
    assert!(inbox.take_start(4, 12, &start(2)).await.expect("taken"));
    inbox.launching(replica(2)).await.expect("written");
    inbox.fencing(replica(2)).await.expect("written");
    let stop = StopTaken { at: berth_common::time::now(), grace: Duration::from_secs(5) };
    inbox.take_stop(13, replica(2), stop).await.expect("taken");
    drop(inbox);

    let inbox = Inbox::open(&dir).expect("opens");
    let station = inbox.station().expect("reads");
    assert_eq!((station.session, station.last), (4, 13));
    assert_eq!((station.instance, station.fence_after), (Some(Uuid::from_u128(8)), Some(fence)));
    let phases: Vec<_> = inbox.open_attempts().await.expect("reads").into_iter().map(|t| t.phase).collect();
    let live = |attempt, reached, stop| Phase::Live {
        start: Box::new(start(attempt)),
        launched: reached,
        fenced: reached,
        stop,
    };
    assert_eq!(phases, [live(1, false, None), live(2, true, Some(stop))]);
}

#[tokio::test]
async fn the_inbox_of_the_version_before_is_brought_up_to_date() {
    let dir = Scratch::new();
    let inbox = Inbox::open(&dir).expect("opens");
    inbox.take_start(4, 11, &start(1)).await.expect("taken");
    let back = "ALTER TABLE attempt DROP COLUMN fenced; PRAGMA user_version = 1";
    inbox.lock().execute_batch(back).expect("as it was before");
    drop(inbox);
    let inbox = Inbox::open(&dir).expect("opens");
    inbox.fencing(replica(1)).await.expect("written");
    let found = inbox.find(replica(1)).await.expect("reads").expect("there");
    assert!(matches!(found.phase, Phase::Live { fenced: true, .. }), "{found:?}");
}

#[tokio::test]
async fn the_same_attempt_is_never_taken_twice() {
    let dir = Scratch::new();
    let inbox = Inbox::open(&dir).expect("opens");
    assert!(inbox.take_start(4, 11, &start(1)).await.expect("taken"));
    assert!(!inbox.take_start(5, 20, &start(1)).await.expect("taken"));
    inbox.ended(replica(1), &ending(0)).await.expect("written");
    assert!(!inbox.take_start(6, 30, &start(1)).await.expect("taken"));
    assert_eq!(inbox.station().expect("reads").last, 30);
}

#[tokio::test]
async fn the_first_ending_stays_and_the_order_with_its_password_goes() {
    let dir = Scratch::new();
    let inbox = Inbox::open(&dir).expect("opens");
    inbox.take_start(4, 11, &start(1)).await.expect("taken");
    let first = ending(3);
    inbox.ended(replica(1), &first).await.expect("written");
    inbox.ended(replica(1), &ending(0)).await.expect("written");
    let found = inbox.find(replica(1)).await.expect("reads").expect("there");
    assert_eq!(found.phase, Phase::Ended { ending: first.clone(), reported: false });
    inbox.reported(replica(1)).await.expect("written");
    assert!(inbox.open_attempts().await.expect("reads").is_empty());
    assert_eq!(inbox.find(replica(2)).await.expect("reads"), None);
    let password: i64 = inbox
        .lock()
        .query_row("SELECT count(*) FROM attempt WHERE start LIKE '%hunter2%'", [], |row| row.get(0))
        .expect("counts");
    assert_eq!(password, 0);
}

#[tokio::test]
async fn only_what_was_reported_is_forgotten() {
    let dir = Scratch::new();
    let inbox = Inbox::open(&dir).expect("opens");
    for attempt in [1, 2, 3] {
        inbox.take_start(4, 10 + i64::from(attempt), &start(attempt)).await.expect("taken");
    }
    inbox.ended(replica(1), &ending(0)).await.expect("written");
    inbox.reported(replica(1)).await.expect("written");
    inbox.ended(replica(2), &ending(0)).await.expect("written");
    let remembered = inbox.remembered().await.expect("reads");
    let over: Vec<_> = remembered.iter().map(|row| (row.replica.attempt, row.over.is_some())).collect();
    assert_eq!(over, [(3, false), (1, true), (2, false)]);
    inbox.forget(vec![replica(1), replica(2), replica(3)]).await.expect("written");
    assert_eq!(inbox.remembered().await.expect("reads").len(), 2);
    assert_eq!(inbox.open_attempts().await.expect("reads").len(), 2);
}

#[tokio::test]
async fn another_installation_is_obeyed_only_after_it_was_adopted() {
    let dir = Scratch::new();
    let inbox = Inbox::open(&dir).expect("opens");
    inbox.take_welcome(4, 10, Uuid::from_u128(8), Duration::from_secs(1)).await.expect("taken");
    inbox.forget_instance().expect("written");
    let station = inbox.station().expect("reads");
    assert_eq!((station.instance, station.session, station.last), (None, 0, 0));
}
