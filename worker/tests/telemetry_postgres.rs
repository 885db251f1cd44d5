//! Telemetry on a server: devices that share a database, samples that wait while it is away, and
//! rows that are too old.

use std::sync::Arc;
use std::time::Duration;

use berth_common::telemetry::{Query, Table};
use berth_worker::gpu::{GpuSample, Probe, Script};
use berth_worker::telemetry::{ContainerStats, ContainerUse, Settings, Store, start};
use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const LIMIT: Duration = Duration::from_secs(20);

/// A database of this test's own.
struct TestDatabase {
    admin: Client,
    name: String,
    server: String,
}

impl TestDatabase {
    async fn named(what: &str) -> Self {
        let url = std::env::var("BERTH_TEST_DATABASE_URL")
            .expect("BERTH_TEST_DATABASE_URL is not set: run `make test`, which starts a database");
        let admin = client(&url).await;
        let (server, _) = url.rsplit_once('/').expect("a URL with a database");
        let name = format!("berth_{what}_{}", uuid::Uuid::new_v4().simple());
        Self { admin, name, server: server.to_owned() }
    }

    async fn create(&self) {
        let create = format!("CREATE DATABASE {}", self.name);
        self.admin.batch_execute(&create).await.expect("creates a database");
    }

    fn url(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }

    async fn remove(self) {
        let terminate =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'", self.name);
        let drop = format!("DROP DATABASE {}", self.name);
        let gone = async {
            loop {
                self.admin.batch_execute(&terminate).await.expect("may end sessions");
                if self.admin.batch_execute(&drop).await.is_ok() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, gone).await.expect("the test's database can be removed");
    }
}

async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the database answers");
    tokio::spawn(connection);
    client
}

struct OneContainer;

impl ContainerStats for OneContainer {
    async fn list(&mut self) -> Result<Vec<ContainerUse>, String> {
        Ok(vec![ContainerUse {
            container: "berth-1".into(),
            cpu: Some(50.0),
            mem_mb: Some(10.0),
            gpus: Vec::new(),
        }])
    }
}

struct Device {
    store: Arc<Store>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Device {
    fn start(name: &str, url: &str) -> Self {
        let settings = Settings {
            url: Some(url.to_owned()),
            state_dir: "/nonexistent".into(),
            interval: Duration::from_millis(30),
            keep_days: 7,
            device: name.to_owned(),
        };
        let gpu = GpuSample {
            idx: 0,
            uuid: format!("GPU-{name}"),
            load: Some(80.0),
            mem_used_mb: Some(20),
            mem_total_mb: Some(80),
            power_w: Some(300.0),
            temp_c: Some(60.0),
            ecc: Some(0),
        };
        let script = Script::new(Ok(Vec::new()), vec![Ok(vec![gpu]); 1000]);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let store = start(&settings, Probe::Scripted(script), OneContainer, None, &stop, &tasks);
        Self { store: store.expect("starts"), stop, tasks }
    }

    /// Rows of a table once there are so many.
    async fn rows(&self, table: Table, wanted: usize) -> Vec<Value> {
        let query = Query { table, from: None, to: None, step: None };
        let enough = async {
            loop {
                if let Ok(answer) = self.store.query(&query).await {
                    let items = answer["items"].as_array().cloned().unwrap_or_default();
                    if items.len() >= wanted {
                        return items;
                    }
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, enough)
            .await
            .unwrap_or_else(|_| panic!("{wanted} rows of {table:?}; the store: {:?}", self.store.trouble()))
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(LIMIT, self.tasks.wait()).await.expect("all tasks end while the store is held");
    }
}

#[tokio::test]
async fn devices_that_start_together_share_a_database() {
    let database = TestDatabase::named("telemetry_shared").await;
    database.create().await;
    let devices = ["dev-1", "dev-2", "dev-3"].map(|name| Device::start(name, &database.url()));
    for device in &devices {
        let gauge = device.rows(Table::Gauge, 2).await;
        assert_eq!((gauge[0]["gpu_load"].as_f64(), gauge[0]["gpu_mem"].as_f64()), (Some(80.0), Some(25.0)));
        for table in Table::ALL {
            assert!(!device.rows(*table, 1).await.is_empty());
        }
    }
    for device in devices {
        device.stop().await;
    }
    let client = client(&database.url()).await;
    for table in ["gpu_sample", "container_sample"] {
        let count = format!("SELECT count(DISTINCT device) FROM telemetry.{table}");
        let devices: i64 = client.query_one(&count, &[]).await.expect("counts").get(0);
        assert_eq!(devices, 3, "{table}");
    }
    drop(client);
    database.remove().await;
}

#[tokio::test]
async fn samples_wait_for_a_database_that_is_away() {
    let database = TestDatabase::named("telemetry_away").await;
    let device = Device::start("dev-1", &database.url());
    let told = async {
        while device.store.trouble().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, told).await.expect("the store tells that it is away");
    let query = Query { table: Table::Memory, from: None, to: None, step: None };
    assert_eq!(device.store.query(&query).await.expect_err("away").status, 503);

    let created = Timestamp::now();
    database.create().await;
    let rows = device.rows(Table::Memory, 1).await;
    let first: Timestamp = rows[0]["t"].as_str().and_then(|t| t.parse().ok()).expect("a time");
    assert!(first < created, "{first} was measured before {created}, when there was no database");
    let well = async {
        while device.store.trouble().is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, well).await.expect("the store tells that it is well again");
    device.stop().await;
    database.remove().await;
}

#[tokio::test]
async fn rows_that_are_too_old_go_and_others_stay() {
    let database = TestDatabase::named("telemetry_old").await;
    database.create().await;
    let device = Device::start("dev-1", &database.url());
    device.rows(Table::DiskIo, 1).await;
    device.stop().await;

    let client = client(&database.url()).await;
    client
        .batch_execute(
            "INSERT INTO telemetry.gauge (device, t, cpu) VALUES
                ('dev-1', now() - INTERVAL '8 days', 1), ('dev-1', now() - INTERVAL '6 days', 2),
                ('dev-9', now() - INTERVAL '8 days', 3)",
        )
        .await
        .expect("old rows");
    let device = Device::start("dev-1", &database.url());
    let pruned = async {
        loop {
            let left = client
                .query(
                    "SELECT cpu FROM telemetry.gauge WHERE t < now() - INTERVAL '5 days' ORDER BY cpu",
                    &[],
                )
                .await
                .expect("reads");
            let left: Vec<f64> = left.iter().map(|row| row.get(0)).collect();
            if left == [2.0, 3.0] {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, pruned).await.expect("only this device's row of 8 days ago goes");
    device.stop().await;
    drop(client);
    database.remove().await;
}
