//! `berth-scheduler`: the HTTP API and the leader in one program.

use anyhow::{Context, anyhow};
use berth_common::broker::Broker;
use berth_common::database::{Database, Session};
use berth_common::id::CELL;
use berth_common::time::now;
use berth_scheduler::ask::Asker;
use berth_scheduler::config::{Config, DatabaseArgs, LogFormat, Run, Serve};
use berth_scheduler::health::Health;
use berth_scheduler::http::{self, Shim};
use berth_scheduler::leader::Leader;
use berth_scheduler::metrics::LeaderMetrics;
use berth_scheduler::store;
use berth_scheduler::store::read::Reads;
use clap::Parser;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Name of this program's connections at the broker and the database.
const NAME: &str = "berth-scheduler";
/// How long what is in hand may take when the program is asked to stop.
const FINISH: std::time::Duration = std::time::Duration::from_secs(10);

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    berth_common::logging::start(&config.log, config.log_format == LogFormat::Json);
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow!("a cryptography provider is installed already"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match config.run {
        Run::Serve(args) => runtime.block_on(serve(*args)),
        Run::Migrate(args) => runtime.block_on(migrate(&args)),
        Run::Recover(args) => runtime.block_on(recover(&args)),
    }
}

async fn migrate(args: &DatabaseArgs) -> anyhow::Result<()> {
    let database = database_of(args)?;
    let mut connected = database.connect(Session::Ordinary, &TaskTracker::new()).await?;
    let applied = store::migrate(&mut connected.client, connected.engine).await?;
    match applied.as_slice() {
        [] => println!("The schema is up to date."),
        applied => println!("Applied: {applied:?}"),
    }
    Ok(())
}

async fn recover(args: &DatabaseArgs) -> anyhow::Result<()> {
    let database = database_of(args)?;
    let mut connected = database.connect(Session::Ordinary, &TaskTracker::new()).await?;
    println!("Watching for {} s whether a scheduler leads …", store::WATCH.as_secs());
    let raised = store::recover(&mut connected, CELL, store::WATCH, now()).await?;
    println!("Recovered. Numbers go on from {}, attempts beyond {}.", raised.next_id, raised.attempt_floor);
    println!(
        "Now start the schedulers (berth-scheduler serve). Containers that this database does not know stand in \
         the notes of their devices (berth devices NAME) for the first --lost-after (300 s unless set), then they \
         are stopped. See docs/backup.md."
    );
    Ok(())
}

fn database_of(args: &DatabaseArgs) -> anyhow::Result<Database> {
    Database::new(&args.database_url, NAME).map_err(|error| anyhow!("BERTH_DATABASE_URL: {error}"))
}

async fn serve(args: Serve) -> anyhow::Result<()> {
    let limits = args.limits().map_err(|error| anyhow!(error))?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let database = database_of(&args.database)?;
    let broker =
        Broker::new(&args.amqp_url, NAME, stop.clone(), tasks.clone()).map_err(|error| anyhow!(error))?;
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}; choose another address with --listen", args.listen))?;
    let asker = Asker::start(&broker);
    let health = Health::new(&database.to_string(), &broker.location(), asker.links());
    let registry = prometheus::Registry::new();
    let metrics = LeaderMetrics::register(&registry);
    let reads = Reads::new(&database, &tasks);
    let shim = Shim { database: reads, asker, health: health.clone(), registry, stop: stop.clone() };
    let leader = Leader {
        publisher: broker.publisher(),
        database,
        broker,
        health,
        metrics,
        limits,
        admin_token: args.admin_token,
        migrate: !args.no_migrate,
        holder: format!("{}:{}", std::process::id(), uuid::Uuid::new_v4()),
        stop: stop.clone(),
        tasks: tasks.clone(),
    };
    let mut leading = tasks.spawn(leader.run());
    let router = http::router(shim);
    tracing::info!(address = %listener.local_addr()?, "the API listens");
    let mut serving = tasks.spawn(http::serve(listener, router, stop.clone()));
    let asked = asked_to_stop(wait_for_signal(), &mut leading, &mut serving).await;
    match &asked {
        Ok(()) => tracing::info!("finishing what is in hand; a second signal leaves at once"),
        Err(error) => tracing::error!("{error:#}; this scheduler stops, to be started anew"),
    }
    stop.cancel();
    tasks.close();
    tokio::select! {
        // A leader that ends gives its lease back, so that another takes over at once.
        () = tasks.wait() => {}
        _ = wait_for_signal() => {}
        () = tokio::time::sleep(FINISH) => {}
    }
    asked
}

/// Waits until the program is asked to stop. A scheduler that goes on with one half of it dead looks
/// alive and does nothing, so it is an error when a task ends before.
async fn asked_to_stop(
    signal: impl Future<Output = anyhow::Result<()>>,
    leading: &mut JoinHandle<()>,
    serving: &mut JoinHandle<()>,
) -> anyhow::Result<()> {
    tokio::select! {
        signal = signal => signal.context("no signal can be awaited"),
        ended = leading => Err(match ended {
            Ok(()) => anyhow!("the leader's task ended by itself"),
            Err(error) => anyhow!("the leader's task broke off: {error}"),
        }),
        ended = serving => Err(match ended {
            Ok(()) => anyhow!("the HTTP server ended by itself"),
            Err(error) => anyhow!("the HTTP server's task broke off: {error}"),
        }),
    }
}

async fn wait_for_signal() -> anyhow::Result<()> {
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = term.recv() => Ok(()),
        result = tokio::signal::ctrl_c() => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_half_that_dies_ends_the_whole() {
        let forever = || std::future::pending::<()>();
        let never = || async { std::future::pending().await };
        let tasks = TaskTracker::new();
        let mut serving = tasks.spawn(forever());
        let mut leading = tasks.spawn(async { panic!("a mistake") });
        let error = asked_to_stop(never(), &mut leading, &mut serving).await.expect_err("it broke off");
        assert!(error.to_string().contains("leader"), "{error}");

        let mut leading = tasks.spawn(forever());
        let mut ended = tasks.spawn(async {});
        let error = asked_to_stop(never(), &mut leading, &mut ended).await.expect_err("it ended");
        assert!(error.to_string().contains("HTTP"), "{error}");

        asked_to_stop(async { Ok(()) }, &mut leading, &mut serving).await.expect("somebody asked");
    }
}
