//! What was committed is what is loaded, field by field.

use berth_common::command::CommandStatus;
use berth_common::job::{AttemptStatus, Outcome, Status};
use berth_scheduler::core::rows::{JobRow, Needs, Release, Role, Rows, UserRow};
use uuid::Uuid;

use crate::database::{Fresh, at_ms, with_database};
use crate::sample;

#[tokio::test]
async fn everything_unfinished_comes_back_as_it_was() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        let rows = sample::cluster();
        lead.commit(&rows, &[], at_ms(100)).await.expect("commits");
        let mut snapshot = lead.load().await.expect("loads");
        snapshot.jobs.sort_by_key(|job| job.id);
        let unfinished = rows.new_jobs.iter().filter(|job| job.life.status != Status::Exited);
        assert_eq!(snapshot.jobs, unfinished.cloned().collect::<Vec<_>>());
        assert_eq!(snapshot.next_id, 10_000);
        assert_eq!(snapshot.devices, rows.new_devices);
        assert_eq!(snapshot.device_states, rows.new_device_states);
        assert_eq!(snapshot.containers, rows.new_containers);
        assert_eq!(snapshot.reservations, rows.reservations);
        assert_eq!(snapshot.commands, rows.new_commands);
        assert_eq!(snapshot.outbox, rows.outbox);
    })
    .await;
}

#[tokio::test]
async fn changes_come_back_and_what_is_over_does_not() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        let first = sample::cluster();
        lead.commit(&first, &[], at_ms(100)).await.expect("commits");

        let mut job = first.new_jobs[3].clone();
        job.priority = 5;
        job.life = sample::life(Status::Exited);
        let mut container = first.new_containers[0].clone();
        container.status = AttemptStatus::Exited;
        (container.exit_code, container.exited_at) = (Some(137), Some(at_ms(110)));
        let mut command = first.new_commands[0].clone();
        command.status = CommandStatus::Done;
        (command.output, command.exit_code) = (Some("ok".into()), Some(0));
        (command.truncated, command.done_at) = (true, Some(at_ms(110)));
        let mut device = first.new_devices[0].clone();
        device.gpus.swap(0, 1);
        for (idx, gpu) in (0..).zip(&mut device.gpus) {
            gpu.gpu.idx = idx;
        }
        (device.memory_mb, device.pub_dir, device.ip) = (1, None, String::new());
        let mut state = first.new_device_states[0].clone();
        (state.session, state.note) = (100, None);
        // Both GPUs change their owner in the batch that frees them.
        let next = sample::container(201, 3, device.did, &[101, 102]);
        let gone = |gid| Release { gid, cid: 200, released_at: at_ms(110) };
        let second = Rows {
            jobs: vec![job.clone()],
            containers: vec![container],
            releases: vec![gone(102), gone(101)],
            reservations: sample::reservations(&next),
            new_containers: vec![next],
            commands: vec![command.clone()],
            devices: vec![device],
            device_states: vec![state],
            ..Rows::default()
        };
        lead.commit(&second, &[500], at_ms(110)).await.expect("commits");

        let snapshot = lead.load().await.expect("loads");
        assert!(snapshot.jobs.iter().all(|other| other.id != job.id));
        assert_eq!(snapshot.containers, second.new_containers);
        assert_eq!(snapshot.reservations, second.reservations);
        assert_eq!(snapshot.devices, second.devices);
        assert_eq!(snapshot.device_states, second.device_states);
        assert_eq!(snapshot.commands, []);
        assert_eq!(snapshot.outbox, first.outbox[1..]);
        assert_eq!(snapshot.next_id, 10_000);
        let needs = Needs { jobs: vec![job.id], commands: vec![command.id], ..Needs::default() };
        let facts = lead.facts(&needs).await.expect("looks up");
        assert_eq!((facts.jobs, facts.commands), (vec![job], vec![command]));
    })
    .await;
}

#[tokio::test]
async fn facts_are_what_is_there_of_what_was_asked() {
    with_database(async |fresh: Fresh| {
        let client = fresh.migrated().await.client;
        let users = "INSERT INTO core.users (uid, name, usage, role, state, created_at) VALUES \
            (1, 'ann', 0, 'user', 'active', now()), (2, 'root', 0, 'admin', 'active', now()), \
            (3, 'gone', 0, 'user', 'disabled', now())";
        client.batch_execute(users).await.expect("users");
        let mut lead = fresh.lead().await;
        lead.commit(&sample::cluster(), &[], at_ms(100)).await.expect("commits");
        let needs = Needs {
            jobs: vec![Uuid::from_u128(5), Uuid::from_u128(55)],
            users: vec!["ann".into(), "root".into(), "gone".into(), "nobody".into()],
            commands: vec![Uuid::from_u128(300), Uuid::from_u128(301)],
            ..Needs::default()
        };
        let mut facts = lead.facts(&needs).await.expect("looks up");
        facts.users.sort_by_key(|user| user.uid);
        let user = |uid, name: &str, role| UserRow { uid, name: name.into(), role };
        assert_eq!(facts.users, [user(1, "ann", Role::User), user(2, "root", Role::Admin)]);
        assert_eq!(facts.jobs, [JobRow { life: sample::life(Status::Exited), ..sample::job(5) }]);
        assert_eq!(facts.jobs[0].life.outcome, Some(Outcome::TimedOut));
        assert_eq!(facts.commands, [sample::command(300, 4)]);
        let nothing = lead.facts(&Needs::default()).await.expect("asks nothing");
        assert!(nothing.jobs.is_empty() && nothing.users.is_empty() && nothing.commands.is_empty());
    })
    .await;
}

#[tokio::test]
async fn the_platforms_columns_are_filled() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        lead.commit(&sample::cluster(), &[], at_ms(100)).await.expect("commits");
        let client = fresh.connect().await.client;
        let row = client.query_one(
            "SELECT name, cpu, memory, portssh, portjupyter, passwd, status FROM sched.containers WHERE cid = 200",
            &[],
        );
        let row = row.await.expect("the container");
        assert!(row.get::<_, String>(0).ends_with("-3-0"));
        assert_eq!((row.get::<_, i32>(1), row.get::<_, i64>(2)), (8, 1024));
        assert_eq!((row.get::<_, Option<i32>>(3), row.get::<_, Option<i32>>(4)), (Some(40_022), None));
        assert_eq!((row.get::<_, &str>(5), row.get::<_, &str>(6)), ("s3cret", "running"));
        let row = client.query_one("SELECT cpu, cpu_milli FROM core.device WHERE did = 100", &[]).await;
        let row = row.expect("the device");
        assert_eq!((row.get::<_, i32>(0), row.get::<_, i64>(1)), (63, 63_500));
        let labels = "SELECT count(*) FROM sched.job_labels WHERE key = 'project' AND value = 'nlp'";
        assert_eq!(client.query_one(labels, &[]).await.expect("labels").get::<_, i64>(0), 5);
        let used = "SELECT count(*) FROM sched.container_gpu WHERE used = 1 AND released_at IS NULL";
        assert_eq!(client.query_one(used, &[]).await.expect("GPUs").get::<_, i64>(0), 2);
    })
    .await;
}
