//! A pool of sessions, all set up alike. They are made by [`Database::connect`] and by nothing
//! else, so what holds for signing in holds here too.
//!
//! deadpool does not reset a session between two users: begin transactions with
//! `client.transaction()` only, which rolls back when it is dropped.

use std::time::Duration;

use deadpool::managed::{Manager, Metrics, Object, PoolConfig, RecycleError, RecycleResult, Timeouts};
use deadpool_postgres::ClientWrapper;
use tokio_util::task::TaskTracker;

use super::{ConnectError, Connected, Database, Session};

/// Waiting for a free session, and checking one: longer means that the database does not keep up,
/// and whoever asks is better told so.
const GET_TIMEOUT: Duration = Duration::from_secs(5);

pub type Pool = deadpool::managed::Pool<SignIn>;
/// A session of a [`Pool`]; it has `prepare_cached` and `transaction`, and is a
/// [`tokio_postgres::Client`] otherwise.
pub type Pooled = Object<SignIn>;
pub type PoolError = deadpool::managed::PoolError<ConnectError>;

/// Makes the sessions of a [`Pool`].
#[derive(Debug)]
pub struct SignIn {
    database: Database,
    tasks: TaskTracker,
}

impl Database {
    /// A pool of at most `size` sessions, made as they are needed; nothing is connected yet. `get`
    /// fails after 5 s, it never waits for ever. Close the pool before waiting for `tasks` to end:
    /// its connections are among them.
    #[must_use]
    pub fn pool(&self, size: usize, tasks: &TaskTracker) -> Pool {
        let timeouts =
            Timeouts { wait: Some(GET_TIMEOUT), create: Some(GET_TIMEOUT), recycle: Some(GET_TIMEOUT) };
        Pool::builder(SignIn { database: self.clone(), tasks: tasks.clone() })
            .config(PoolConfig { max_size: size, timeouts, ..PoolConfig::default() })
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .expect("a runtime is given, and nothing else is needed")
    }
}

impl Manager for SignIn {
    type Type = ClientWrapper;
    type Error = ConnectError;

    async fn create(&self) -> Result<ClientWrapper, ConnectError> {
        let Connected { client, driver, .. } = self.database.connect(Session::Ordinary, &self.tasks).await?;
        Ok(ClientWrapper::new(client, driver))
    }

    /// Fast: a connection that is known to have ended goes. Asking the server as well would cost
    /// every caller a round trip, and the next statement asks it anyway.
    async fn recycle(&self, client: &mut ClientWrapper, _: &Metrics) -> RecycleResult<ConnectError> {
        if client.is_closed() { Err(RecycleError::message("the connection has ended")) } else { Ok(()) }
    }
}
