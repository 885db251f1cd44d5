//! Breaks what a schedule says, and mends it after its time.

use std::sync::Arc;

use berth_tests::proxy::Wire;
use berth_tests::services::{Part, run as run_command};
use tokio::sync::Mutex;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use crate::cluster::{Cluster, Program};
use crate::plan::{Fault, Plan, Planned};

/// Returns the faults when all of them are mended.
pub async fn run(cluster: &Arc<Cluster>, plan: &Plan, began: Instant) -> Vec<Fault> {
    let mut faults = JoinSet::new();
    for planned in plan.faults.clone() {
        faults.spawn(one(Arc::clone(cluster), planned, began));
    }
    faults.join_all().await
}

async fn one(cluster: Arc<Cluster>, planned: Planned, began: Instant) -> Fault {
    let Planned { at, fault, lasts, .. } = planned;
    sleep_until(began + at).await;
    let mended = began + at + lasts;
    say(began, &format!("{fault} for {lasts:?}"));
    match fault {
        Fault::KillLeader => kill(&cluster.schedulers[cluster.leader().await], mended).await,
        Fault::KillStandby => {
            let standby = (cluster.leader().await + 1) % cluster.schedulers.len();
            kill(&cluster.schedulers[standby], mended).await;
        }
        Fault::KillSchedulers => {
            tokio::join!(kill(&cluster.schedulers[0], mended), kill(&cluster.schedulers[1], mended));
        }
        Fault::StopLeader => stop(&cluster.schedulers[cluster.leader().await], mended).await,
        Fault::KillWorker(n) => kill(&cluster.workers[n], mended).await,
        Fault::StopWorker(n) => stop(&cluster.workers[n], mended).await,
        Fault::BreakWire(n, wire) => {
            cluster.wires[n].set(wire);
            sleep_until(mended).await;
            cluster.wires[n].set(Wire::Whole);
        }
        Fault::KillService(part) => kill_service(&cluster, part, mended).await,
    }
    say(began, &format!("{fault}: over"));
    fault
}

async fn kill(program: &Mutex<Program>, mended: Instant) {
    program.lock().await.kill();
    sleep_until(mended).await;
    program.lock().await.restart();
}

/// It is held all the while: a stopped program has not ended.
async fn stop(program: &Mutex<Program>, mended: Instant) {
    let program = program.lock().await;
    program.process.signal("STOP");
    sleep_until(mended).await;
    program.process.signal("CONT");
}

/// One that still starts, on a busy machine, is let come up before it is killed again.
async fn kill_service(cluster: &Cluster, part: Part, mended: Instant) {
    let _starts = cluster.starts(part).lock().await;
    let services = Arc::clone(&cluster.services);
    spawn_blocking(move || services.kill(part)).await.expect("it is killed");
    sleep_until(mended).await;
    let start = cluster.services.start_command(part);
    spawn_blocking(move || run_command(start)).await.expect("no panic").expect("the service starts again");
}

fn say(began: Instant, what: &str) {
    eprintln!("{:6.1} s  {what}", began.elapsed().as_secs_f64());
}
