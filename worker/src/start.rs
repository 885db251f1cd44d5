//! Starting and ending the worker.
//!
//! What was taken before is looked after from the first moment; orders come later, by the same
//! tasks. At the first signal nothing new is begun and what is in hand is finished; at the second
//! the program leaves. Containers go on in both cases.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, anyhow};
use berth_common::broker::Broker;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::agent::Numbers;
use crate::attempt::look_after;
use crate::attempts::{Attempts, Permission};
use crate::config::Settings;
use crate::docker::Docker;
use crate::exec;
use crate::exec::Turns;
use crate::folders::Folders;
use crate::gpu::Probe;
use crate::guard::{self, Program};
use crate::health::Health;
use crate::inbox::Inbox;
use crate::lease::{Holder, Lease};
use crate::logs::Logs;
use crate::report::Reporter;
use crate::rpc::Questions;
use crate::survey::Declared;
use crate::worker::{Tasks, Worker, host_started_at, limits};
use crate::{link, listing, lock, survey, telemetry, tidy};

/// Says to others which installation this worker obeys.
pub const INSTANCE_FILE: &str = "instance";
/// At a signal, for the inbox, the logs and the reports in flight.
const FLUSH: Duration = Duration::from_secs(3);

/// How often a missing socket of Docker is looked for.
const DOCKER_AGAIN: Duration = Duration::from_secs(1);

/// Runs the worker until a signal.
///
/// # Errors
/// When the configuration cannot be used, or another worker uses the state folder.
pub async fn run(settings: Settings, guard: Program) -> anyhow::Result<()> {
    let tasks = Tasks::default();
    let links = TaskTracker::new();
    let device = settings.device()?;
    let declared =
        Declared { cpu_milli: settings.cpus, memory_mb: settings.memory_mb, labels: settings.labels()? };
    let broker = Broker::new(
        settings.amqp_url()?,
        &format!("berth-worker {device}"),
        tasks.leave.clone(),
        links.clone(),
    )
    .map_err(|error| anyhow!(error))?;
    wait_for_docker().await;
    let worker = assemble(&settings, device, &broker, &tasks)?;
    tracing::info!(
        device = worker.device, worker_id = %worker.worker_id, boot = %worker.reporter.boot(), broker = %broker.location(),
        "the worker starts"
    );
    // Before anything else: a signal that comes now must not kill it half way.
    let mut signals = Signals::new()?;
    // The guard goes by it. The inbox is ours already: nobody else wants this lock for longer than a look.
    let path = worker.state_dir.join(lock::WORKER);
    let _here = lock::hold(&path).with_context(|| format!("locking {}", path.display()))?;
    let guarded = guard::keep(guard, worker.state_dir.clone(), tasks.stop.clone());
    tasks.tracker.spawn(guarded);
    tasks.tracker.spawn(worker.lease.clone().keep_file(tasks.stop.clone()));
    adopt_taken(&worker).await?;
    start_tasks(&worker, &settings, declared, &broker)?;
    signals.next().await;
    tracing::info!("stopping; containers go on. Once more to leave at once");
    tokio::select! {
        () = finish(&tasks, &links) => {}
        () = signals.next() => tracing::warn!("left at once"),
    }
    Ok(())
}

/// A worker may be started before Docker is, or while it is away.
async fn wait_for_docker() {
    if Docker::has_socket() {
        return;
    }
    tracing::warn!("Docker's socket is not there: waiting for it; start Docker, or set DOCKER_HOST");
    while !Docker::has_socket() {
        tokio::time::sleep(DOCKER_AGAIN).await;
    }
}

fn assemble(
    settings: &Settings,
    device: String,
    broker: &Broker,
    tasks: &Tasks,
) -> anyhow::Result<Arc<Worker>> {
    let state_dir = settings.state_dir()?;
    prepare_folder(&state_dir)?;
    let inbox = Inbox::open(&state_dir)?;
    let station = inbox.station()?;
    let data = settings.data_dir.clone().unwrap_or_else(|| state_dir.join("data"));
    std::fs::create_dir_all(&data).with_context(|| format!("making the data folder {}", data.display()))?;
    let docker = Docker::connect().map_err(|error| anyhow!("DOCKER_HOST cannot be used: {error}"))?;
    let boot = Uuid::now_v7();
    let holder = Holder {
        device: device.clone(),
        instance: station.instance,
        docker_host: std::env::var("DOCKER_HOST").ok(),
        fence_after: station.fence_after,
    };
    let lease = Lease::open(&state_dir, holder)
        .with_context(|| format!("writing the lease in {}", state_dir.display()))?;
    let reporter = Reporter::new(broker.publisher(), lease.clone(), &device, station.worker_id, boot);
    let (calls, pulls, execs) = limits();
    Ok(Arc::new(Worker {
        worker_id: station.worker_id,
        docker,
        inbox,
        logs: Logs::new(state_dir.join("log"), settings.log_limit_mb << 20),
        folders: Folders { data, public: settings.pub_dir.clone() },
        gang_network: settings.gang_network.clone(),
        health: Health::default(),
        attempts: Attempts::default(),
        reporter,
        lease,
        numbers: Mutex::new(Numbers {
            boot,
            instance: station.instance,
            session: None,
            greatest: station.session,
            last: station.last,
        }),
        engine: watch::Sender::new(None),
        inventory: watch::Sender::new(None),
        instance_file: state_dir.join(INSTANCE_FILE),
        state_dir,
        beat: Notify::new(),
        calls,
        pulls,
        execs,
        turns: Turns::default(),
        host_started_at: host_started_at(),
        tasks: tasks.clone(),
        device,
    }))
}

/// Makes the state folder, for nobody else to read, also where it was there before: orders hold
/// passwords.
///
/// # Errors
/// When it cannot be made, or belongs to somebody else.
pub fn prepare_folder(state_dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir);
    made.with_context(|| format!("making the state folder {}", state_dir.display()))?;
    let closed = std::fs::set_permissions(state_dir, std::fs::Permissions::from_mode(0o700));
    closed.with_context(|| format!("closing the state folder {} to others", state_dir.display()))
}

async fn adopt_taken(worker: &Arc<Worker>) -> anyhow::Result<()> {
    let taken = worker.inbox.open_attempts().await?;
    if !taken.is_empty() {
        tracing::info!(attempts = taken.len(), "looking after what was taken before");
    }
    for attempt in taken {
        look_after(worker, attempt, Permission::NotYet);
    }
    Ok(exec::settle(worker).await?)
}

fn start_tasks(
    worker: &Arc<Worker>,
    settings: &Settings,
    declared: Declared,
    broker: &Broker,
) -> anyhow::Result<()> {
    let tasks = &worker.tasks;
    let probe = Probe::new(&settings.gpus, &worker.device);
    let store = start_telemetry(worker, settings, probe.clone())?;
    let publisher = worker.reporter.publisher.clone();
    let questions = Questions::new(worker.logs.clone(), store, publisher, tasks.clone());
    tasks.tracker.spawn(survey::run(Arc::clone(worker), probe, declared));
    tasks.tracker.spawn(listing::run(Arc::clone(worker)));
    tasks.tracker.spawn(tidy::run(Arc::clone(worker), settings.logs_total_mb << 20));
    link::start(worker, broker, questions);
    Ok(())
}

fn start_telemetry(
    worker: &Arc<Worker>,
    settings: &Settings,
    probe: Probe,
) -> anyhow::Result<Arc<telemetry::Store>> {
    let state_dir = settings.state_dir()?;
    let about = telemetry::Settings {
        url: settings.telemetry_url.clone(),
        state_dir,
        interval: settings.telemetry_interval,
        keep_days: telemetry::DEFAULT_KEEP_DAYS,
        device: worker.device.clone(),
    };
    let containers = telemetry::DockerStats::new(worker.docker.api(), &worker.device);
    let publisher = Some(worker.reporter.publisher.clone());
    let tasks = &worker.tasks;
    Ok(telemetry::start(&about, probe, containers, publisher, &tasks.stop, &tasks.tracker)?)
}

async fn finish(tasks: &Tasks, links: &TaskTracker) {
    tasks.stop.cancel();
    tasks.tracker.close();
    // Reports in flight may take a moment; those that cannot be confirmed are sent by the next start.
    let _ = tokio::time::timeout(FLUSH, tasks.tracker.wait()).await;
    tasks.leave.cancel();
    links.close();
    let _ = tokio::time::timeout(FLUSH, links.wait()).await;
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_state_folder_is_closed_to_others_new_or_old() {
        let dir = Scratch::new();
        let old = dir.join("old");
        std::fs::create_dir(&old).expect("made");
        std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).expect("opened");
        for folder in [old, dir.join("new/deep")] {
            prepare_folder(&folder).expect("prepared");
            let mode = std::fs::metadata(&folder).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
        }
    }
}
