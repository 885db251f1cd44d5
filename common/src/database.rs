//! Connections to openGauss and PostgreSQL: one URL in, sessions out that all have the same settings.
//!
//! What must always hold, on both engines: no statement runs for ever (a limit on the server, and
//! [`with_timeout`] for the case that the server is gone), no socket waits for ever for a peer that
//! died, times are UTC, and names are found only where they are written with their schema. A
//! password is never shown, and a refused one is not tried again for [`RETRY_REFUSED`]: openGauss
//! locks an account for a day after ten failures.

mod call;
mod error;
mod pool;
mod session;
mod tls;
mod url;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::{CancelToken, Client, Config};
use tokio_util::task::TaskTracker;

pub use call::{CANCEL_GRACE, Cancel, TimedOut, with_timeout};
pub use error::{ConnectError, describe, is_transient, sqlstate};
pub use pool::{Pool, PoolError, Pooled, SignIn};
pub use session::{Engine, STATEMENT_TIMEOUT, Session};

/// How long a refused sign-in stands before the server is asked again.
pub const RETRY_REFUSED: Duration = Duration::from_secs(300);

/// Beyond connecting to each host: encryption, sign-in and the settings of the session.
const SIGN_IN_LIMIT: Duration = Duration::from_secs(10);

/// A database as its URL names it. Clones share what is known about a refused password.
#[derive(Clone)]
pub struct Database {
    config: Config,
    tls: tls::Tls,
    /// The URL without its password.
    shown: Arc<str>,
    /// Held while signing in: one at a time, so that a wrong password fails once and not once per
    /// connection of a pool.
    refused: Arc<tokio::sync::Mutex<Option<Refusal>>>,
}

struct Refusal {
    since: Instant,
    error: ConnectError,
}

/// A connection whose session is set up.
pub struct Connected {
    pub client: Client,
    pub engine: Engine,
    /// Ends the statement that runs on it.
    pub cancel: Cancel,
    driver: tokio::task::JoinHandle<()>,
}

impl Database {
    /// Reads `postgres://USER:PASSWORD@HOST[:PORT][,HOST…]/DATABASE[?sslmode=…]`; `application` is
    /// the name under which the sessions are seen on the server. An error says what to write.
    ///
    /// `sslmode=disable` never encrypts; `prefer` (the default) encrypts where the server offers it
    /// without checking whose certificate it is, as libpq does; `require` and `verify-full` check
    /// certificate and host name against the system's roots, or those in `SSL_CERT_FILE`. With
    /// several hosts the first that takes writes is used.
    pub fn new(url: &str, application: &str) -> Result<Self, String> {
        let config = url::parse(url, application)?;
        let tls = tls::Tls::new(config.get_ssl_mode())?;
        let shown = url::without_password(&config).into();
        Ok(Self { config, tls, shown, refused: Arc::default() })
    }

    /// Connects, signs in and sets the session up. The task that drives the connection ends with
    /// the client, or with the connection.
    pub async fn connect(&self, session: Session, tasks: &TaskTracker) -> Result<Connected, ConnectError> {
        let mut refused = self.refused.lock().await;
        if let Some(refusal) = refused.as_ref().filter(|refusal| refusal.since.elapsed() < RETRY_REFUSED) {
            return Err(refusal.error.clone());
        }
        let result = tokio::time::timeout(self.connect_limit(), self.sign_in(session, tasks))
            .await
            .unwrap_or_else(|_| Err(ConnectError::silent(&self.shown, self.connect_limit())));
        *refused = match &result {
            Err(error @ ConnectError::WrongPassword { .. }) => {
                Some(Refusal { since: Instant::now(), error: error.clone() })
            }
            Ok(_) | Err(_) => None,
        };
        result
    }

    /// What ends the statement that runs on `client`, for [`with_timeout`].
    #[must_use]
    pub fn cancel(&self, client: &Client) -> Cancel {
        self.canceller(client.cancel_token())
    }

    async fn sign_in(&self, session: Session, tasks: &TaskTracker) -> Result<Connected, ConnectError> {
        let judge = |error| ConnectError::judge(&self.shown, &self.config, &error);
        let (client, driver) = match &self.tls {
            tls::Tls::Off => {
                let (client, connection) = self.config.connect(tokio_postgres::NoTls).await.map_err(judge)?;
                (client, tasks.spawn(drive(connection)))
            }
            tls::Tls::On(make) => {
                let (client, connection) = self.config.connect(make.clone()).await.map_err(judge)?;
                (client, tasks.spawn(drive(connection)))
            }
        };
        let engine = session::set_up(&client, session).await.map_err(judge)?;
        let cancel = self.canceller(client.cancel_token());
        Ok(Connected { client, engine, cancel, driver })
    }

    fn canceller(&self, token: CancelToken) -> Cancel {
        Cancel::new(token, self.tls.clone())
    }

    fn connect_limit(&self) -> Duration {
        let hosts = u32::try_from(self.config.get_hosts().len()).unwrap_or(u32::MAX);
        let each = self.config.get_connect_timeout().copied().unwrap_or(url::CONNECT_TIMEOUT);
        each.saturating_mul(hosts).saturating_add(SIGN_IN_LIMIT)
    }
}

/// The URL without its password.
impl std::fmt::Display for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Database").field(&self.shown).finish()
    }
}

/// Moves bytes until the connection ends. Whoever uses the client sees why it ended, as an error.
async fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(error = %error::describe(&error), "a database connection ended");
    }
}
