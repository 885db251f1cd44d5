//! Devices that are deleted, and come back under their name.

use berth_scheduler::core::rows::{ForgottenDevice, Release, Rows};
use berth_scheduler::store::read::{self, Session};

use crate::database::{Fresh, at_ms, with_database};
use crate::sample;

/// The sample's device is deleted: what was on it is gone.
fn deletion() -> Rows {
    let mut container = sample::container(200, 4, 100, &[101, 102]);
    container.status = berth_common::job::AttemptStatus::Exited;
    container.exited_at = Some(at_ms(110));
    let gone = |gid| Release { gid, cid: 200, released_at: at_ms(110) };
    Rows {
        containers: vec![container],
        releases: vec![gone(101), gone(102)],
        forgotten_devices: vec![ForgottenDevice { did: 100, name: "dev-100".into() }],
        ..Rows::default()
    }
}

#[tokio::test]
async fn a_deleted_device_is_not_shown_and_keeps_its_row_and_no_gpu() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        lead.commit(&sample::cluster(), &[], at_ms(100)).await.expect("commits");
        let other = sample::device(700, 1);
        let message = sample::message(502, &other, sample::container(200, 4, 100, &[]).replica);
        let more = Rows {
            new_gpus: other.gpus.clone(),
            new_device_states: vec![sample::device_state(700)],
            outbox: vec![message.clone()],
            new_devices: vec![other.clone()],
            ..Rows::default()
        };
        lead.commit(&more, &[], at_ms(101)).await.expect("commits");
        lead.commit(&deletion(), &[500], at_ms(110)).await.expect("commits");

        let snapshot = lead.load().await.expect("loads");
        assert_eq!(snapshot.device_states, [sample::device_state(700)]);
        assert_eq!(snapshot.outbox, [message]);
        let gpus: Vec<_> = snapshot.devices.iter().map(|d| (d.name.as_str(), d.gpus.len())).collect();
        assert_eq!(gpus, [("dev-100", 0), ("dev-700", 1)]);
        assert_eq!(snapshot.gpus.len(), 3, "a GPU is known for ever");

        let session = Session::from(fresh.connect().await);
        let page = read::devices::page(&session, None, 10, |_| true).await.expect("a page");
        assert_eq!(page.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["dev-700"]);
        assert!(read::devices::find(&session, "dev-100", |_| true).await.expect("answers").is_none());
        assert!(read::devices::find(&session, "dev-700", |_| true).await.expect("answers").is_some());
        // Its history names it.
        let job =
            read::jobs::find(&session, uuid::Uuid::from_u128(4)).await.expect("answers").expect("a job");
        assert_eq!((job.attempts[0].device.as_str(), job.attempts[0].gpus.len()), ("dev-100", 2));
    })
    .await;
}

#[tokio::test]
async fn a_deleted_device_comes_back_as_the_same_one() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        let first = sample::cluster();
        lead.commit(&first, &[], at_ms(100)).await.expect("commits");
        let mut device = first.new_devices[0].clone();
        device.gpus.swap(0, 1);
        for (idx, gpu) in (0..).zip(&mut device.gpus) {
            gpu.gpu.idx = idx;
        }
        device.memory_mb = 1;
        let mut state = sample::device_state(device.did);
        (state.worker_id, state.drained) = (uuid::Uuid::from_u128(77), false);
        let message = sample::message(503, &device, first.new_containers[0].replica);
        // In the very batch that deletes it.
        let back = Rows {
            devices: vec![device.clone()],
            new_device_states: vec![state.clone()],
            outbox: vec![message.clone()],
            ..deletion()
        };
        lead.commit(&back, &[], at_ms(110)).await.expect("commits");
        let snapshot = lead.load().await.expect("loads");
        assert_eq!((snapshot.devices, snapshot.device_states), (vec![device], vec![state]));
        assert_eq!(snapshot.outbox, [message]);

        // And in a later one.
        lead.commit(&Rows { containers: vec![], releases: vec![], ..deletion() }, &[], at_ms(120))
            .await
            .expect("commits");
        let later = Rows {
            devices: first.new_devices.clone(),
            new_device_states: first.new_device_states.clone(),
            ..Rows::default()
        };
        lead.commit(&later, &[], at_ms(130)).await.expect("commits");
        let snapshot = lead.load().await.expect("loads");
        assert_eq!(snapshot.devices, first.new_devices);
        assert_eq!(snapshot.device_states, first.new_device_states);
    })
    .await;
}
