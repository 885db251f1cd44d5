//! The inbox takes each message once, and remembers it over restarts.

use super::*;
use crate::scratch::Scratch;
use berth_common::message::{Ending, Executed, StartGpu};
use jiff::SignedDuration;
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

fn stop_now(cause: StopCause) -> StopTaken {
    StopTaken { at: berth_common::time::now(), grace: Duration::from_secs(5), cause }
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
    let stop = stop_now(StopCause::Asked);
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
    let second = "ALTER TABLE attempt DROP COLUMN timed_out; DROP TABLE command; PRAGMA user_version = 2";
    let first = "ALTER TABLE attempt DROP COLUMN fenced; PRAGMA user_version = 1";
    let mut inbox = Some(inbox);
    for back in [second.to_owned(), format!("{second}; {first}")] {
        inbox.take().expect("open").lock().execute_batch(&back).expect("as it was before");
        let now = Inbox::open(&dir).expect("opens");
        now.fencing(replica(1)).await.expect("written");
        now.take_exec(12, Uuid::from_u128(1)).await.expect("taken");
        let found = now.find(replica(1)).await.expect("reads").expect("there");
        assert!(matches!(found.phase, Phase::Live { fenced: true, .. }), "{found:?}");
        inbox = Some(now);
    }
}

#[tokio::test]
async fn a_new_inbox_and_one_that_was_brought_up_to_date_have_the_same_columns() {
    const SQL: &str = "SELECT m.name, c.name, c.type, c.'notnull', c.dflt_value, c.pk
        FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY m.name, c.name";
    fn columns(inbox: &Inbox) -> Vec<(String, String, String, bool, Option<String>, i64)> {
        let connection = inbox.lock();
        let mut select = connection.prepare(SQL).expect("prepared");
        let rows =
            select.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?)));
        rows.expect("reads").collect::<Result<_, _>>().expect("reads")
    }
    let (new, old) = (Scratch::new(), Scratch::new());
    let inbox = Inbox::open(&old).expect("opens");
    let back = "ALTER TABLE attempt DROP COLUMN timed_out; ALTER TABLE attempt DROP COLUMN fenced;
        DROP TABLE command; PRAGMA user_version = 1";
    inbox.lock().execute_batch(back).expect("as it was before");
    drop(inbox);
    assert_eq!(columns(&Inbox::open(&old).expect("opens")), columns(&Inbox::open(&new).expect("opens")));
}

#[tokio::test]
async fn a_new_time_limit_replaces_the_one_of_the_start_and_the_first_stop_keeps_its_cause() {
    let dir = Scratch::new();
    let inbox = Inbox::open(&dir).expect("opens");
    inbox.take_start(4, 11, &start(1)).await.expect("taken");
    let live = async |inbox: &Inbox| match inbox.find(replica(1)).await.expect("reads").expect("there").phase
    {
        Phase::Live { start, stop, .. } => (start.timeout_s, stop),
        ended @ Phase::Ended { .. } => panic!("{ended:?}"),
    };
    for limit in [Some(60), None, Some(7)] {
        inbox.take_limit(12, replica(1), limit).await.expect("taken");
        assert_eq!(live(&inbox).await, (limit, None));
    }
    let timed_out = stop_now(StopCause::TimeLimit);
    inbox.timing_out(replica(1), timed_out).await.expect("written");
    inbox.timing_out(replica(1), stop_now(StopCause::TimeLimit)).await.expect("written");
    assert_eq!(live(&inbox).await, (Some(7), Some(timed_out)));
    let deadlines = [(40, 1, 5), (2, 2, 4), (3, 60, 4), (9, 0, 4), (1, 1, 2), (1, u64::MAX, 2)];
    for (after_s, grace_s, least_s) in deadlines {
        let at = timed_out.at + SignedDuration::from_secs(after_s);
        let asked = StopTaken { at, grace: Duration::from_secs(grace_s), cause: StopCause::Asked };
        inbox.take_stop(13, replica(1), asked).await.expect("taken");
        let grace = Duration::from_secs(least_s);
        assert_eq!(live(&inbox).await.1, Some(StopTaken { grace, ..timed_out }), "{after_s} {grace_s}");
    }
    assert_eq!(inbox.station().expect("reads").last, 13);
}

#[tokio::test]
async fn a_command_is_new_once_and_its_first_result_stays() {
    let dir = Scratch::new();
    let inbox = Inbox::open(&dir).expect("opens");
    let id = Uuid::from_u128(9);
    assert_eq!(inbox.take_exec(11, id).await.expect("taken"), ExecTaken::New);
    inbox.exec_begins(id).await.expect("written");
    let begun = Command { id, begun: true, result: None };
    assert_eq!(inbox.take_exec(12, id).await.expect("taken"), ExecTaken::Known(begun.clone()));
    assert_eq!(inbox.open_commands().await.expect("reads"), std::slice::from_ref(&begun));
    let result = crate::agent::left_over(&begun);
    inbox.executed(&result).await.expect("written");
    inbox.executed(&Executed { output: "second".into(), ..result.clone() }).await.expect("written");
    let done = Command { result: Some(result), ..begun };
    assert_eq!(inbox.open_commands().await.expect("reads"), std::slice::from_ref(&done));
    inbox.exec_reported(id).await.expect("written");
    assert_eq!(inbox.open_commands().await.expect("reads"), []);
    assert_eq!(inbox.take_exec(13, id).await.expect("taken"), ExecTaken::Known(done));
    assert_eq!(inbox.station().expect("reads").last, 13);
    inbox.forget_commands(jiff::Timestamp::now()).await.expect("written");
    assert_eq!(inbox.take_exec(14, id).await.expect("taken"), ExecTaken::New);
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
