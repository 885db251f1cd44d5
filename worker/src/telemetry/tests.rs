//! The tasks together, over scripted GPUs and containers and the real host.

use berth_common::inventory::GpuSource;
use berth_common::telemetry::{Query, Table};

use super::*;
use crate::gpu::{GpuSample, Script};

struct Containers(Vec<Result<Vec<ContainerUse>, String>>);

impl ContainerStats for Containers {
    async fn list(&mut self) -> Result<Vec<ContainerUse>, String> {
        self.0.pop().unwrap_or_else(|| Ok(Vec::new()))
    }
}

fn settings(state_dir: PathBuf) -> Settings {
    let interval = Duration::from_millis(20);
    Settings { url: None, state_dir, interval, keep_days: DEFAULT_KEEP_DAYS, device: "dev-1".into() }
}

async fn first_items(store: &Store, table: Table, wanted: usize) -> Vec<serde_json::Value> {
    let query = Query { table, from: None, to: None, step: None };
    let mut seen = Vec::new();
    let enough = async {
        while seen.len() < wanted {
            let answer = store.query(&query).await.expect("an answer");
            seen = answer["items"].as_array().cloned().unwrap_or_default();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), enough).await.unwrap_or_else(|_| {
        panic!("{wanted} rows of {table:?} within 10 s, and the store says {:?}", store.trouble())
    });
    seen
}

#[tokio::test]
async fn samples_are_measured_and_stored_until_the_stop() {
    let folder = std::env::temp_dir().join(format!("berth-telemetry-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).expect("a new folder");
    let gpu = |load| GpuSample {
        idx: 0,
        uuid: "GPU-0".into(),
        load: Some(load),
        mem_used_mb: Some(10),
        mem_total_mb: Some(40),
        power_w: None,
        temp_c: None,
        ecc: None,
    };
    let broken = crate::gpu::ProbeError::Silent;
    let script = Script::new(Ok(Vec::new()), vec![Ok(vec![gpu(90.0)]), Err(broken), Ok(vec![gpu(30.0)])]);
    let containers = Containers(vec![Err("Docker is away".into())]);
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let store = start(&settings(folder.clone()), Probe::Scripted(script), containers, None, &stop, &tasks)
        .expect("starts");

    let gauge = first_items(&store, Table::Gauge, 4).await;
    let loads: Vec<_> = gauge.iter().take(4).map(|item| item["gpu_load"].as_f64()).collect();
    assert_eq!(loads, [Some(90.0), None, Some(30.0), None]);
    assert_eq!(gauge[0]["gpu_mem"].as_f64(), Some(25.0));
    assert!(gauge[0]["mem"].as_f64().is_some_and(|mem| mem > 0.0 && mem < 100.0), "{gauge:?}");
    assert!(!first_items(&store, Table::NetIo, 1).await.is_empty());

    stop.cancel();
    tasks.close();
    tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await.expect("all tasks end with the stop");
    std::fs::remove_dir_all(&folder).expect("removes its folder");
}

#[tokio::test]
async fn declared_gpus_have_no_figures() {
    let source: GpuSource = "2xA100-80GB".parse().expect("a declaration");
    let mut meter = Meter {
        host: Host::new().expect("Linux"),
        before: Host::new().expect("Linux").read(),
        probe: Probe::new(&source, "dev-1"),
        containers: Containers(Vec::new()),
        troubles: Troubles::default(),
    };
    let sample = meter.sample().await;
    let rows = sample.rows();
    let gauge = rows[0].to_json("dev-1", sample.t);
    assert!(gauge["gpu_load"].is_null() && gauge["gpu_mem"].is_null(), "{gauge}");
    let names: Vec<_> = rows.iter().map(|row| row.series.name).collect();
    assert_eq!(names, ["gauge", "memory", "gpumem", "diskio", "netio"]);
}
