//! Telemetry: every few seconds a sample of the host, its GPUs and its containers, stored on the
//! device or on a server, published for whoever listens, and answered on demand.
//!
//! Three tasks, so that nothing waits for anything slower: one measures, one stores, one publishes.
//! What must always hold: no failure here reaches the jobs, and what was not measured is not told
//! as a number.

mod containers;
mod host;
mod postgres;
mod query;
mod sample;
mod sqlite;
mod store;
mod tables;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use berth_common::broker::{Message, Publisher, topology};
use berth_common::time;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use containers::{ContainerStats, ContainerUse, DockerStats};
pub use store::Store;

use crate::gpu::Probe;
use host::{Host, Reading};
use sample::Sample;

/// How often there is a sample, unless configured otherwise.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
/// How long samples are kept, unless configured otherwise.
pub const DEFAULT_KEEP_DAYS: u32 = 7;

/// AMQP's `type` of a published row.
const KIND: &str = "telemetry.v1";
/// A row that nobody took by then is old news.
const EXPIRES_MS: u64 = 60_000;
/// Between two rounds of deleting what is too old.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// After a failure the store is left alone for that many samples, so that a dead server costs little.
const RETRY_AFTER_SAMPLES: u32 = 3;
/// What is left is stored on the way out, if it can be done in that time.
const LAST_FLUSH: Duration = Duration::from_secs(3);

#[derive(Debug, Clone)]
pub struct Settings {
    /// None or `sqlite:` for `telemetry.db` in `state_dir`, `sqlite:PATH`, or `postgres://…`.
    pub url: Option<String>,
    pub state_dir: PathBuf,
    pub interval: Duration,
    pub keep_days: u32,
    pub device: String,
}

/// Why telemetry cannot start. A store that is away is no reason.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the telemetry URL: {0}")]
    Url(String),
    #[error("this host cannot be measured: {0}")]
    Host(sysinfo::Error),
}

/// The newest sample; what is missed in between does not matter to a publisher.
type Newest = watch::Receiver<Option<Arc<Sample>>>;

/// Starts measuring, storing and, with a publisher, publishing, until `stop`.
pub fn start<C: ContainerStats>(
    settings: &Settings,
    probe: Probe,
    containers: C,
    publisher: Option<Publisher>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<Arc<Store>, StartError> {
    let store =
        Store::new(settings.url.as_deref(), &settings.state_dir, &settings.device, settings.keep_days, tasks);
    let store = Arc::new(store.map_err(StartError::Url)?);
    let mut host = Host::new().map_err(StartError::Host)?;
    // The reading that the first sample is measured against.
    let before = host.read();
    let (newest, samples) = watch::channel(None);
    let meter = Meter { host, before, probe, containers, troubles: Troubles::default() };
    tasks.spawn(measure(meter, settings.interval, store.clone(), newest, stop.clone()));
    tasks.spawn(keep(store.clone(), samples.clone()));
    if let Some(publisher) = publisher {
        tasks.spawn(publish(publisher, settings.device.clone(), samples));
    }
    Ok(store)
}

struct Meter<C> {
    host: Host,
    before: Reading,
    probe: Probe,
    containers: C,
    troubles: Troubles,
}

/// What the log has already, so that it gets it once and not with every sample.
#[derive(Default)]
struct Troubles {
    gpus: Option<String>,
    containers: Option<String>,
}

impl<C: ContainerStats> Meter<C> {
    async fn sample(&mut self) -> Sample {
        let (gpus, containers) = tokio::join!(self.probe.samples(), self.containers.list());
        let gpus = told_once(gpus.map_err(|error| error.to_string()), &mut self.troubles.gpus, "GPUs");
        let containers = told_once(containers, &mut self.troubles.containers, "containers");
        let now = self.host.read();
        let sample = Sample::new(time::now(), &self.before, &now, gpus, containers);
        self.before = now;
        sample
    }
}

/// What could be measured; what not is logged when it begins and when it ends.
fn told_once<T>(measured: Result<Vec<T>, String>, told: &mut Option<String>, what: &str) -> Vec<T> {
    match measured {
        Ok(values) => {
            if told.take().is_some() {
                tracing::info!("{what} can be measured again");
            }
            values
        }
        Err(error) => {
            if told.replace(error.clone()).is_none() {
                tracing::warn!(%error, "{what} cannot be measured; samples go on without them");
            }
            Vec::new()
        }
    }
}

/// A sample each interval. Its end closes the channel, which ends the others.
async fn measure<C: ContainerStats>(
    mut meter: Meter<C>,
    interval: Duration,
    store: Arc<Store>,
    newest: watch::Sender<Option<Arc<Sample>>>,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let sample = tokio::select! {
            () = stop.cancelled() => return,
            sample = meter.sample() => Arc::new(sample),
        };
        store.push(sample.clone());
        newest.send_replace(Some(sample));
    }
}

/// Stores what was measured, and deletes what is too old.
async fn keep(store: Arc<Store>, mut samples: Newest) {
    let mut prune_at = Instant::now();
    let mut pause = 0;
    while samples.changed().await.is_ok() {
        if pause > 0 {
            pause -= 1;
            continue;
        }
        if !store.flush().await {
            pause = RETRY_AFTER_SAMPLES;
            continue;
        }
        if Instant::now() >= prune_at {
            prune_at = Instant::now() + PRUNE_EVERY;
            if let Err(error) = store.prune(time::now()).await {
                tracing::warn!(%error, "old telemetry cannot be deleted; it is tried again in 10 minutes");
            }
        }
    }
    if tokio::time::timeout(LAST_FLUSH, store.flush()).await.is_err() {
        tracing::warn!("the last samples of telemetry were not stored in time");
    }
    store.close();
}

/// Publishes the newest sample, table by table, for whoever has bound a queue. Nobody may have, and
/// the broker may be away: neither matters here.
async fn publish(publisher: Publisher, device: String, mut samples: Newest) {
    while samples.changed().await.is_ok() {
        let Some(sample) = samples.borrow_and_update().clone() else { continue };
        let messages: Vec<Message> = sample
            .rows()
            .iter()
            .map(|row| {
                let key = format!("{device}.{}", row.series.name);
                let body = row.to_json(&device, sample.t).to_string().into_bytes();
                let id = uuid::Uuid::new_v4().to_string();
                let mut message = Message::new(topology::TELEMETRY, key, KIND, id, body);
                message.mandatory = false;
                message.expires_ms = Some(EXPIRES_MS);
                message
            })
            .collect();
        for result in join_all(messages.into_iter().map(|message| publisher.publish(message))).await {
            if let Err(error) = result {
                tracing::debug!(%error, "a row of telemetry was not published");
                break;
            }
        }
    }
}

#[cfg(test)]
#[path = "telemetry/tests.rs"]
mod tests;
