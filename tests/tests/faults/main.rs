//! Whole Berths on real services, of which one after the other breaks, by chance from a seed.
//!
//! `make test` plays the schedules of [`SEEDS`]; `make faults N=20` plays twenty new ones, and
//! `make faults SEED=7` one of them again. A schedule is the same every time; what meets what at
//! which millisecond is not.

#![allow(clippy::print_stderr, reason = "a test speaks to whoever runs it")]

mod api;
mod audit;
mod breaking;
mod chance;
mod cluster;
mod evidence;
mod lives;
mod load;
mod plan;
mod report;
mod settling;

use std::path::PathBuf;
use std::sync::Arc;

use berth_tests::berth::{folder_of_tests, name_in_run};
use berth_tests::recording::Recording;
use berth_tests::services::Services;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::plan::Plan;
use crate::report::Report;

/// Those of `make test`.
const SEEDS: [u64; 1] = [1];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_runs_twice_whatever_breaks() {
    assert!(
        Services::possible(),
        "a dockerd of the test's own needs root and namespaces: sudo -E env PATH=\"$PATH\" make test"
    );
    let mut bad = Vec::new();
    for seed in seeds() {
        let report = play(&Plan::from_seed(seed)).await;
        if !report.is_good() {
            bad.push(seed);
        }
    }
    assert!(bad.is_empty(), "schedules that went wrong (make faults SEED=…): {bad:?}");
}

/// `BERTH_FAULTS_SEED`: this one. `BERTH_FAULTS_N`: so many that nobody has seen.
fn seeds() -> Vec<u64> {
    let number = |name| {
        let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
        Some(text.parse::<u64>().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
    };
    match (number("BERTH_FAULTS_SEED"), number("BERTH_FAULTS_N")) {
        (Some(seed), _) => vec![seed],
        // Small enough to be typed again.
        (None, Some(n)) => (0..n).map(|_| u64::from(uuid::Uuid::new_v4().as_fields().0)).collect(),
        (None, None) => SEEDS.to_vec(),
    }
}

/// One schedule: break, mend, wait, look.
async fn play(plan: &Plan) -> Report {
    let name = name_in_run();
    let folder = Folder::new(folder_of_tests().join(format!("berth-test-{name}")));
    eprintln!(
        "seed {}: {} faults, {} jobs, dockerd with live-restore {:?}",
        plan.seed,
        plan.faults.len(),
        plan.jobs.len(),
        plan.dockerd
    );
    let services = Arc::new(Services::start(&folder.path, plan.dockerd));
    let recording = Recording::start(&services.endpoints.docker_host);
    let cluster = Arc::new(Cluster::start(&services, &folder.path, &name).await);
    let stop = CancellationToken::new();
    let began = Instant::now();
    let (report, ()) = tokio::join!(
        async {
            let (submitted, faults) =
                tokio::join!(load::run(&cluster, plan, began), breaking::run(&cluster, plan, began));
            eprintln!("{:6.1} s  everything is mended and answered", began.elapsed().as_secs_f64());
            settling::settle(&cluster).await;
            eprintln!("{:6.1} s  everything has ended", began.elapsed().as_secs_f64());
            let sightings = recording.finish().await;
            let report = audit::look(&cluster, &submitted, &faults, &sightings, &folder.path).await;
            if !report.is_good() {
                evidence::keep(&cluster, &submitted, &sightings, &folder.path).await;
                folder.keep();
            }
            stop.cancel();
            report
        },
        cluster.revive(stop.clone())
    );
    eprintln!("seed {}:\n{report}", plan.seed);
    report
}

/// The folder of one schedule; it stays when something went wrong, with the logs of all programs.
struct Folder {
    path: PathBuf,
    keep: std::cell::Cell<bool>,
}

impl Folder {
    fn new(path: PathBuf) -> Self {
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Self { path, keep: std::cell::Cell::new(false) }
    }

    fn keep(&self) {
        self.keep.set(true);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.keep.get() || std::thread::panicking() {
            eprintln!("the logs are in {} (dev/test: .berth/test-failed-log)", self.path.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
