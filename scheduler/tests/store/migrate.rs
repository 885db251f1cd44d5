//! Migrating: once, twice, and by several at the same moment.

use berth_common::database::Connected;
use berth_scheduler::store::{MigrateError, migrate};

use crate::database::{Fresh, with_database};

async fn run(connected: &mut Connected) -> Result<Vec<u64>, MigrateError> {
    migrate(&mut connected.client, connected.engine).await
}

#[tokio::test]
async fn a_second_time_there_is_nothing_to_do() {
    with_database(async |fresh: Fresh| {
        let mut connected = fresh.connect().await;
        let applied = run(&mut connected).await.expect("migrates");
        assert_eq!(applied.first(), Some(&1));
        assert!(applied.is_sorted());
        assert!(run(&mut connected).await.expect("migrates").is_empty());
    })
    .await;
}

#[tokio::test]
async fn schedulers_that_migrate_at_the_same_moment_all_end_well() {
    with_database(async |fresh: Fresh| {
        let mut all = Vec::new();
        for _ in 0..6 {
            all.push(fresh.connect().await);
        }
        let runs = futures_util::future::join_all(all.iter_mut().map(run)).await;
        let mut applied: Vec<u64> = runs.into_iter().flat_map(|r| r.expect("migrates")).collect();
        applied.sort_unstable();
        let rows =
            all[0].client.query("SELECT version FROM core.schema_migrations ORDER BY version", &[]).await;
        let recorded: Vec<i64> = rows.expect("it is there").iter().map(|row| row.get(0)).collect();
        assert_eq!(applied.len(), recorded.len());
        assert!(applied.iter().zip(&recorded).all(|(a, r)| i64::try_from(*a) == Ok(*r)), "{applied:?}");
    })
    .await;
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused_with_both_versions() {
    with_database(async |fresh: Fresh| {
        let mut connected = fresh.migrated().await;
        let newer = "INSERT INTO core.schema_migrations (version, name, applied_at) VALUES (99, 'x', now())";
        connected.client.batch_execute(newer).await.expect("a row");
        let refusal = run(&mut connected).await.expect_err("refused");
        assert!(matches!(refusal, MigrateError::Newer { database: 99, .. }), "{refusal}");
        assert!(refusal.to_string().contains("99") && refusal.to_string().contains('6'), "{refusal}");
    })
    .await;
}
