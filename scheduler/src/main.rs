//! `berth-scheduler`: the HTTP API and the leader in one program.

use anyhow::{Context, anyhow};
use berth_common::broker::Broker;
use berth_common::database::{Database, Session};
use berth_scheduler::ask::Asker;
use berth_scheduler::config::{Config, DatabaseArgs, LogFormat, Run, Serve};
use berth_scheduler::health::Health;
use berth_scheduler::http::{self, Shim};
use berth_scheduler::leader::Leader;
use berth_scheduler::metrics::LeaderMetrics;
use berth_scheduler::store;
use berth_scheduler::store::read::Reads;
use clap::Parser;
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
    let leading = tasks.spawn(leader.run());
    let router = http::router(shim);
    tracing::info!(address = %listener.local_addr()?, "the API listens");
    let serving = {
        let stop = stop.clone();
        tasks.spawn(async move {
            axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
        })
    };
    wait_for_signal().await?;
    tracing::info!("finishing what is in hand; a second signal leaves at once");
    stop.cancel();
    tasks.close();
    let finished = async {
        // A leader that ends gives its lease back, so that another takes over at once.
        let _ = leading.await;
        let _ = serving.await;
        tasks.wait().await;
    };
    tokio::select! {
        () = finished => {}
        _ = wait_for_signal() => {}
        () = tokio::time::sleep(FINISH) => {}
    }
    Ok(())
}

async fn wait_for_signal() -> anyhow::Result<()> {
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = term.recv() => Ok(()),
        result = tokio::signal::ctrl_c() => Ok(result?),
    }
}
