//! The one writer: takes the lease, loads the state, and then batch by batch
//! *read → decide → commit → answer, publish, acknowledge*.
//!
//! Nothing is told to anybody before it is committed. Any doubt is answered in one way: drop the
//! memory, take the lease anew, load, go on. There is no other repair, and this one runs at every
//! start.

mod batch;
mod campaign;
mod ear;
mod refusals;
mod reign;

use std::time::Duration;

use berth_common::broker::{Broker, Publisher};
use berth_common::database::Database;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::core::Limits;
use crate::health::{Health, Leading};
use crate::http::ensure_admin;
use crate::metrics::LeaderMetrics;
use crate::store::{ensure_cell, migrate};

/// First and last pause after something went wrong.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// What a leader, or one who waits to be it, works with.
pub struct Leader {
    pub database: Database,
    pub broker: Broker,
    pub publisher: Publisher,
    pub health: Health,
    pub metrics: LeaderMetrics,
    pub limits: Limits,
    pub admin_token: Option<String>,
    pub migrate: bool,
    /// Distinguishes this process from every other one that ever led.
    pub holder: String,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
}

/// Why a reign, or the way to it, ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error(transparent)]
    Connect(#[from] berth_common::database::ConnectError),
    #[error("the schema cannot be brought up to date")]
    Migrate(#[from] crate::store::MigrateError),
    #[error("the first admin cannot be made: {0}")]
    Admin(String),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

impl Leader {
    /// Leads whenever it can, until the program stops.
    pub async fn run(mut self) {
        let mut pause = BACKOFF.0;
        while !self.stop.is_cancelled() {
            let began = tokio::time::Instant::now();
            let Err(error) = self.once().await else { continue };
            self.health.set_leading(Leading::Unknown);
            // What had gone well for a while begins to wait anew.
            if began.elapsed() > BACKOFF.1 {
                pause = BACKOFF.0;
            }
            let wait = match &error {
                Ended::Connect(error) => {
                    self.health.set_database(Err(error.to_string()));
                    pause.max(error.retry_after())
                }
                Ended::Migrate(_) | Ended::Admin(_) | Ended::Store(_) => pause,
            };
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                retry_in_s = wait.as_secs_f32(),
                "this scheduler does not lead now; trying again"
            );
            self.stop.run_until_cancelled(tokio::time::sleep(wait)).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    /// From connecting to the end of the reign. `Ok`: the program stops.
    async fn once(&mut self) -> Result<(), Ended> {
        self.prepare().await?;
        self.health.set_database(Ok(()));
        let Some(lead) = campaign::win(self).await? else { return Ok(()) };
        reign::reign(self, lead).await
    }

    /// Schema, cell, first user: made where they are not there. Once, then not again.
    async fn prepare(&mut self) -> Result<(), Ended> {
        let session = berth_common::database::Session::Ordinary;
        let mut connected = self.database.connect(session, &self.tasks).await?;
        if std::mem::take(&mut self.migrate) {
            match migrate(&mut connected.client, connected.engine).await {
                Ok(applied) if applied.is_empty() => {}
                Ok(applied) => tracing::info!(?applied, "the schema was brought up to date"),
                Err(error) => {
                    self.migrate = true;
                    return Err(error.into());
                }
            }
        }
        ensure_cell(&connected.client, berth_common::id::CELL, berth_common::time::now()).await?;
        let made = ensure_admin(&connected.into(), self.admin_token.as_deref()).await;
        if let Some(token) = made.map_err(|error| Ended::Admin(error.to_string()))? {
            // The only time that it is shown: the database keeps its hash.
            println!("The first start made the user `admin`. Its token, shown this once: {token}");
        }
        Ok(())
    }
}
