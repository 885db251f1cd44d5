//! What `berth-scheduler` can be told: by flags, or by the variables that `--help` shows.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand};

use crate::core::Limits;

/// Berth's scheduler: takes jobs from RabbitMQ, reserves GPUs, sends containers to devices.
#[derive(Debug, Parser)]
#[command(name = "berth-scheduler", version)]
pub struct Config {
    #[command(subcommand)]
    pub run: Run,
    /// What to log: error, warn, info, debug, or tracing's filter syntax.
    #[arg(long, global = true, env = "BERTH_LOG", default_value = "info")]
    pub log: String,
    /// `text` for people, `json` for machines.
    #[arg(long, global = true, env = "BERTH_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Run {
    /// Serves the API and leads the cell, or stands by while another one leads.
    Serve(Box<Serve>),
    /// Brings the database's schema up to date and ends.
    Migrate(DatabaseArgs),
    /// After the database was restored from a backup, before any scheduler starts: raises every number,
    /// so that none is given out twice, and has the next leader look at what runs before it stops
    /// anything. Refuses while a scheduler leads.
    Recover(DatabaseArgs),
}

#[derive(Debug, Args)]
pub struct DatabaseArgs {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE` of an openGauss or PostgreSQL.
    #[arg(long, env = "BERTH_DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
}

#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// `amqp://USER:PASSWORD@HOST:PORT/VHOST` of a RabbitMQ.
    #[arg(long, env = "BERTH_AMQP_URL", hide_env_values = true)]
    pub amqp_url: String,
    /// Where the HTTP API listens.
    #[arg(long, env = "BERTH_LISTEN", default_value = "127.0.0.1:7300")]
    pub listen: SocketAddr,
    /// On a database without users it becomes the token of the user `admin`; without it one is made
    /// and printed once.
    #[arg(long, env = "BERTH_ADMIN_TOKEN", hide_env_values = true)]
    pub admin_token: Option<String>,
    /// Leave the schema as it is.
    #[arg(long)]
    pub no_migrate: bool,
    /// Seconds without a confirm of the broker after which a worker stops what may be started
    /// elsewhere.
    #[arg(long, env = "BERTH_FENCE_AFTER", default_value_t = Limits::default().fence_after_s)]
    pub fence_after: u64,
    /// Seconds without a heartbeat after which a device is lost; at least ten more than
    /// `--fence-after`.
    #[arg(long, env = "BERTH_LOST_AFTER", default_value_t = Limits::default().lost_after_s)]
    pub lost_after: u64,
}

/// The fence must have ended before anything is started elsewhere.
const FENCE_MARGIN_S: u64 = 10;

impl Serve {
    /// The limits of the exchange with devices.
    ///
    /// # Errors
    /// A sentence that says which flag to change, where they contradict each other.
    pub fn limits(&self) -> Result<Limits, String> {
        if self.fence_after == 0 || self.lost_after < self.fence_after + FENCE_MARGIN_S {
            return Err(format!(
                "--lost-after ({}) must be at least {FENCE_MARGIN_S} s larger than --fence-after ({}), which is at \
                 least 1: what ran on a lost device must be stopped before it starts elsewhere",
                self.lost_after, self.fence_after
            ));
        }
        Ok(Limits { fence_after_s: self.fence_after, lost_after_s: self.lost_after })
    }
}
