//! What the guard does when something does not answer.

use std::sync::Mutex;

use super::*;
use crate::scratch::Scratch;

#[tokio::test(start_paused = true)]
async fn a_container_that_does_not_go_shields_no_other() {
    let killed = Mutex::new(Vec::new());
    let kill = async |name: u32| match name {
        0 => Err(DockerError::Conflict("it is a zombie".into())),
        1 => std::future::pending().await,
        2.. => {
            killed.lock().expect("no panic").push(name);
            Ok(())
        }
    };
    let done = all((0..5).map(kill)).await;
    assert!(matches!(done, Err(DockerError::Conflict(_))), "{done:?}");
    assert_eq!(*killed.lock().expect("no panic"), [2, 3, 4]);
    let late = all((1..3).map(kill)).await;
    assert!(matches!(late, Err(DockerError::Away(_))), "{late:?}");
    all((2..5).map(kill)).await.expect("all of them went");
}

#[test]
fn only_a_lease_that_is_gone_ends_a_guard() {
    let of = |kind| (without_lease(Stay::WithWorker, kind), without_lease(Stay::Always, kind));
    assert_eq!(of(io::ErrorKind::NotFound), (Look::NothingLeft, Look::Again));
    for kind in [io::ErrorKind::InvalidData, io::ErrorKind::PermissionDenied, io::ErrorKind::Other] {
        assert_eq!(of(kind), (Look::Again, Look::Again));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_stays_always_waits_for_the_lock_and_a_workers_own_does_not() {
    let dir = Scratch::new();
    let path = dir.join(lock::GUARD);
    let other = lock::hold(&path).expect("writable");
    assert!(take_lock(&path, Stay::WithWorker).await.expect("readable").is_none());
    let waits = take_lock(&path, Stay::Always);
    tokio::pin!(waits);
    let early = tokio::time::timeout(Duration::from_secs(60), &mut waits).await;
    assert!(early.is_err(), "the other one is still there");
    drop(other);
    assert!(waits.await.expect("readable").is_some());
}
