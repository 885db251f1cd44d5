//! Measures what the device has, again and again: a GPU can fall off the bus, Docker can be updated.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::gpu::Probe;
use crate::health::Part;
use crate::inventory::{self, Params};
use crate::worker::Worker;

const EVERY: Duration = Duration::from_secs(60);
/// After a measurement that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// What is configured instead of measured.
#[derive(Debug, Clone)]
pub struct Declared {
    pub cpu_milli: Option<i64>,
    pub memory_mb: Option<i64>,
    pub labels: BTreeMap<String, String>,
}

pub async fn run(worker: Arc<Worker>, probe: Probe, declared: Declared) {
    let mut engine = worker.engine.subscribe();
    loop {
        let known = engine.borrow_and_update().clone();
        // Docker's version of before is told while it is away: nothing of the device has changed.
        let before = worker.inventory.borrow().as_ref().map(|inventory| inventory.engine.clone());
        let params = Params {
            cpu_milli: declared.cpu_milli,
            memory_mb: declared.memory_mb,
            labels: &declared.labels,
            engine: known.map(|engine| format!("Docker {}", engine.version)).or(before).unwrap_or_default(),
            data_dir: &worker.folders.data,
            pub_dir: worker.folders.public.as_deref(),
        };
        let pause = match inventory::measure(&params, &probe).await {
            Ok(measured) => {
                worker.health.seen(Part::Gpus, Ok(()));
                worker.inventory.send_if_modified(|inventory| {
                    let news = inventory.as_ref() != Some(&measured);
                    *inventory = Some(measured);
                    news
                });
                EVERY
            }
            Err(error) => {
                worker.health.seen(Part::Gpus, Err(format!("the GPUs cannot be counted: {error}")));
                tracing::warn!(%error, "the GPUs cannot be counted; what was known before still counts");
                AGAIN
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = engine.changed() => {}
            () = worker.tasks.stop.cancelled() => return,
        }
    }
}
