//! The store over SQLite: round trip, means, retention, and what happens while it is away.

use berth_common::telemetry::Table;
use serde_json::json;

use super::*;
use crate::telemetry::sample::tests::sample_at;

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("berth-telemetry-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path).expect("a new folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn store(folder: &Path) -> Store {
    Store::new(None, folder, "dev-1", 7, &TaskTracker::new()).expect("SQLite needs no URL")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("a time")
}

fn query(table: Table, from: i64, to: i64, step: Option<u64>) -> Query {
    Query { table, from: Some(at(from)), to: Some(at(to)), step }
}

async fn filled(folder: &Path, seconds: impl Iterator<Item = i64>) -> Store {
    let store = store(folder);
    for second in seconds {
        store.push(Arc::new(sample_at(at(second))));
    }
    assert!(store.flush().await, "{:?}", store.trouble());
    store
}

async fn count(store: &Store, table: Table) -> usize {
    let answer = store.query(&query(table, -1_000_000, 1_000_000, None)).await.expect("an answer");
    answer["items"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn what_was_stored_is_answered_also_by_the_next_process() {
    let folder = Folder::new();
    drop(filled(&folder.0, (0..30).step_by(10)).await);
    let store = store(&folder.0);
    let answer = store.query(&query(Table::Gauge, 0, 10, None)).await;
    let expected = json!({"items": [
        {"t": format!("{:.6}", at(0)), "cpu": 12.5, "mem": 25.0, "gpu_load": null, "gpu_mem": null},
        {"t": format!("{:.6}", at(10)), "cpu": 12.5, "mem": 25.0, "gpu_load": null, "gpu_mem": null},
    ]});
    assert_eq!(answer, Ok(expected));
    for table in Table::ALL {
        assert_eq!(count(&store, *table).await, 3, "{table:?}");
    }
}

#[tokio::test]
async fn a_step_answers_means_over_more_rows_than_a_page() {
    let folder = Folder::new();
    let store = filled(&folder.0, 0..PAGE + 100).await;
    let answer = store.query(&query(Table::Memory, 0, PAGE + 99, Some(100))).await.expect("an answer");
    assert_eq!(answer["items"].as_array().map(Vec::len), Some(21));
    assert_eq!(answer["items"][20], json!({"t": format!("{:.6}", at(2000)), "total": 1000.0, "used": 250.0}));
}

#[tokio::test]
async fn what_is_too_old_goes_and_the_rest_stays() {
    let folder = Folder::new();
    let store = filled(&folder.0, 0..PAGE + 500).await;
    let week = 7 * 86_400;
    store.prune(at(week + PAGE + 400)).await.expect("prunes");
    assert_eq!(count(&store, Table::Gauge).await, 100);
    store.prune(at(week + PAGE + 400)).await.expect("prunes again");
    assert_eq!(count(&store, Table::NetIo).await, 100);
}

#[tokio::test]
async fn a_sample_that_is_stored_twice_is_there_once() {
    let folder = Folder::new();
    let store = filled(&folder.0, [0, 0, 10].into_iter()).await;
    assert_eq!(count(&store, Table::Gauge).await, 2);
}

#[tokio::test]
async fn a_store_that_is_away_is_told_and_nothing_gets_lost_up_to_the_limit() {
    let folder = Folder::new();
    let missing = folder.0.join("later");
    let mut store = store(&missing);
    store.max_buffered = 3;
    for second in 0..5 {
        store.push(Arc::new(sample_at(at(second))));
        assert!(!store.flush().await);
    }
    let trouble = store.trouble().expect("it cannot be opened");
    assert!(trouble.contains("telemetry.db"), "{trouble}");
    let problem = store.query(&query(Table::Gauge, 0, 10, None)).await.expect_err("away");
    assert_eq!(problem.status, 503);

    std::fs::create_dir(&missing).expect("a new folder");
    assert!(store.flush().await);
    assert_eq!(store.trouble(), None);
    assert_eq!(count(&store, Table::Gauge).await, 3);
}

#[tokio::test]
async fn a_damaged_file_is_set_aside() {
    let folder = Folder::new();
    std::fs::write(folder.0.join("telemetry.db"), vec![b'x'; 5000]).expect("writes");
    let store = filled(&folder.0, 0..1).await;
    assert_eq!(count(&store, Table::Gauge).await, 1);
    assert!(folder.0.join("telemetry.db.damaged").exists());
}

#[test]
fn a_url_that_means_nothing_is_refused() {
    let tasks = TaskTracker::new();
    for url in ["telemetry.db", "mysql://u@h/d", "postgres://h/d"] {
        assert!(Store::new(Some(url), Path::new("/tmp"), "d", 7, &tasks).is_err(), "{url}");
    }
    for url in ["sqlite:", "sqlite:/tmp/t.db", "sqlite:///tmp/t.db", "postgres://u@h/d"] {
        assert!(Store::new(Some(url), Path::new("/tmp"), "d", 7, &tasks).is_ok(), "{url}");
    }
}
