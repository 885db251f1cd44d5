//! Queues: made, changed, deleted, and which of them have jobs; what jobs come after.

use std::collections::BTreeMap;

use berth_common::job::Outcome;
use berth_common::queue::{Member, MemberRole, Placement, Policy, Queue};
use berth_scheduler::core::rows::{ArrayPlace, DependencyRow, JobRow, Needs, Role, Rows};
use berth_scheduler::store::StoreError;
use berth_scheduler::store::read::{self, Session};
use uuid::Uuid;

use crate::database::{Fresh, at_ms, with_database};
use crate::sample;

/// A queue with something in every column.
fn full(name: &str) -> Queue {
    Queue {
        weight: 3,
        policy: Policy::FifoBackfill,
        placement: Placement::Spread,
        quota: BTreeMap::from([("A100-80GB".into(), 16)]),
        user_quota: BTreeMap::from([("*".into(), 4), ("T4".into(), 0)]),
        default_timeout_s: Some(60),
        max_timeout_s: Some(86_400),
        max_jobs: Some(1000),
        approval: true,
        ..Queue::new(name)
    }
}

fn member(user: &str, role: MemberRole) -> Member {
    Member { user: user.into(), role }
}

fn named<'q>(queues: &'q [Queue], name: &str) -> Option<&'q Queue> {
    queues.iter().find(|queue| queue.name == name)
}

#[tokio::test]
async fn queues_come_back_as_they_were_made_and_changed() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        let first = Rows {
            new_queues: vec![full("nlp"), Queue::new("gone"), Queue::new("plain")],
            ..Rows::default()
        };
        lead.commit(&first, &[], at_ms(1)).await.expect("commits");
        let second = Rows {
            queues: vec![Queue::new("nlp"), full("plain")],
            // Of one name, the second is another queue.
            deleted_queues: vec!["gone".into(), "default".into()],
            new_queues: vec![full("default")],
            ..Rows::default()
        };
        lead.commit(&second, &[], at_ms(2)).await.expect("commits");
        let loaded = lead.load().await.expect("loads").queues;
        assert_eq!(loaded, [full("default"), Queue::new("nlp"), full("plain")]);

        let session = Session::from(fresh.connect().await);
        assert_eq!(read::queues::list(&session).await.expect("lists"), loaded);
        assert_eq!(read::queues::find(&session, "plain").await.expect("finds"), Some(full("plain")));
        assert_eq!(read::queues::find(&session, "gone").await.expect("answers"), None);

        let unknown = Rows { queues: vec![Queue::new("gone")], ..Rows::default() };
        let refusal = lead.commit(&unknown, &[], at_ms(3)).await;
        assert!(matches!(refusal, Err(StoreError::Poison { .. })), "{refusal:?}");
        let large = Queue { max_jobs: Some(u64::MAX), ..Queue::new("large") };
        let refusal = lead.commit(&Rows { new_queues: vec![large], ..Rows::default() }, &[], at_ms(3)).await;
        assert!(matches!(refusal, Err(StoreError::Poison { .. })), "{refusal:?}");
        assert!(named(&lead.load().await.expect("loads").queues, "large").is_none());
    })
    .await;
}

#[tokio::test]
async fn members_come_back_with_their_queue_and_go_with_it() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        let session = Session::from(fresh.connect().await);
        for user in ["ann", "bob"] {
            read::users::create(&session, user, None, Role::User).await.expect("makes a user");
        }
        let both = vec![member("ann", MemberRole::Admin), member("bob", MemberRole::Member)];
        let nlp = Queue { members: both.clone(), ..Queue::new("nlp") };
        let speech = Queue { members: both[..1].to_vec(), ..Queue::new("speech") };
        let made = Rows { new_queues: vec![nlp.clone(), speech.clone()], ..Rows::default() };
        lead.commit(&made, &[], at_ms(1)).await.expect("commits");
        // Who was disabled stays a member: a queue without any is open to everybody.
        assert!(read::users::disable(&session, "bob").await.expect("disables"));
        let loaded = lead.load().await.expect("loads").queues;
        assert_eq!((named(&loaded, "nlp"), named(&loaded, "speech")), (Some(&nlp), Some(&speech)));
        assert_eq!(read::queues::find(&session, "nlp").await.expect("finds"), Some(nlp));
        assert_eq!(read::queues::list(&session).await.expect("lists"), loaded);
        let governed = read::queues::governed(&session, "ann").await.expect("looks up");
        assert_eq!(governed.into_iter().collect::<Vec<_>>(), ["nlp", "speech"]);
        assert!(read::queues::governed(&session, "bob").await.expect("looks up").is_empty());

        let other = Queue { members: vec![member("bob", MemberRole::Admin)], ..Queue::new("nlp") };
        let changed =
            Rows { queues: vec![other.clone()], deleted_queues: vec!["speech".into()], ..Rows::default() };
        lead.commit(&changed, &[], at_ms(2)).await.expect("commits");
        let loaded = lead.load().await.expect("loads").queues;
        assert_eq!((named(&loaded, "nlp"), named(&loaded, "speech")), (Some(&other), None));

        let nobody = Queue { members: vec![member("nobody", MemberRole::Admin)], ..Queue::new("nlp") };
        let refusal = lead.commit(&Rows { queues: vec![nobody], ..Rows::default() }, &[], at_ms(3)).await;
        assert!(matches!(refusal, Err(StoreError::Poison { .. })), "{refusal:?}");
    })
    .await;
}

#[tokio::test]
async fn a_queue_is_used_once_a_job_was_in_it() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        let mut rows = sample::cluster();
        // One that exited.
        rows.new_jobs[4].spec.queue = "nlp".into();
        lead.commit(&rows, &[], at_ms(1)).await.expect("commits");
        let queues = vec!["default".into(), "empty".into(), "nlp".into()];
        let facts = lead.facts(&Needs { queues, ..Needs::default() }).await.expect("looks up");
        assert_eq!(facts.used_queues, ["default", "nlp"]);
    })
    .await;
}

#[tokio::test]
async fn dependencies_are_found_by_job_and_by_array_each_once() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        let array = Uuid::from_u128(40);
        let element =
            |n: u128, index| JobRow { array: Some(ArrayPlace { id: array, index }), ..sample::job(n) };
        let mut late = JobRow { array: None, ..sample::job(9) };
        late.spec.after = vec![Uuid::from_u128(5), array, Uuid::from_u128(99)];
        let mut rows = sample::cluster();
        rows.new_jobs.extend([element(41, 0), element(42, 1), late]);
        lead.commit(&rows, &[], at_ms(1)).await.expect("commits");

        let row = |n: u128, array: Uuid, outcome| DependencyRow {
            id: Uuid::from_u128(n),
            array: Some(array),
            owner: "ann".into(),
            outcome,
        };
        let exited = row(5, sample::ARRAY, Some(Outcome::TimedOut));
        let elements = [row(41, array, None), row(42, array, None)];
        let dependencies = vec![array, Uuid::from_u128(42), Uuid::from_u128(99)];
        let facts = lead.facts(&Needs { dependencies, ..Needs::default() }).await.expect("looks up");
        assert_eq!(facts.dependencies, elements);

        let jobs = Needs { jobs: vec![Uuid::from_u128(9)], ..Needs::default() };
        let facts = lead.facts(&jobs).await.expect("looks up twice");
        assert_eq!(facts.jobs.len(), 1);
        assert_eq!(facts.dependencies, [[exited].as_slice(), &elements].concat());
    })
    .await;
}
