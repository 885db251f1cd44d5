//! A migrated database per test, dropped at its end however it ends.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use berth_common::database::{Connected, Database, Session};
use berth_scheduler::store::{Lead, ensure_cell, migrate, read_lease, take_lease};
use futures_util::FutureExt;
use jiff::Timestamp;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// The cell that the tests lead.
pub const CELL: i32 = 0;
/// An ended session needs a moment until the server has noticed.
const DROP_LIMIT: Duration = Duration::from_secs(20);

pub struct Fresh {
    database: Database,
    tasks: TaskTracker,
}

/// Runs `test` with an empty database of its own.
pub async fn with_database<F: Future<Output = ()>>(test: impl FnOnce(Fresh) -> F) {
    let url = std::env::var("BERTH_TEST_DATABASE_URL")
        .expect("BERTH_TEST_DATABASE_URL is not set: run `make test`, which starts a database");
    let tasks = TaskTracker::new();
    let server = Database::new(&url, "berth-test").expect("the test URL is good");
    let server = server.connect(Session::Ordinary, &tasks).await.expect("the test server answers").client;
    let name = format!("berth_store_{}", Uuid::new_v4().simple());
    server.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0")).await.expect("a database");
    let database = Database::new(&at(&url, &name), "berth-test").expect("only the name differs");
    let ended = AssertUnwindSafe(test(Fresh { database, tasks: tasks.clone() })).catch_unwind().await;
    tokio::time::timeout(DROP_LIMIT, async {
        while let Err(error) = server.batch_execute(&format!("DROP DATABASE {name}")).await {
            assert_eq!(error.code().map(|c| c.code()), Some("55006"), "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("nobody uses the database any more");
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

impl Fresh {
    pub async fn connect(&self) -> Connected {
        self.database.connect(Session::Leader, &self.tasks).await.expect("the database answers")
    }

    /// A connection to the database with its schema and cell.
    pub async fn migrated(&self) -> Connected {
        let mut connected = self.connect().await;
        migrate(&mut connected.client, connected.engine).await.expect("migrates");
        ensure_cell(&connected.client, CELL, at_ms(0)).await.expect("the cell is made");
        connected
    }

    /// The leader of a migrated database.
    pub async fn lead(&self) -> Lead {
        self.take_over(self.migrated().await, "first", at_ms(1)).await
    }

    pub async fn take_over(&self, connected: Connected, holder: &str, now: Timestamp) -> Lead {
        let seen = read_lease(&connected, CELL).await.expect("there is a lease");
        take_lease(connected, CELL, &seen, holder, now)
            .await
            .expect("it answers")
            .expect("nobody else takes it")
    }
}

/// A time that is the same in all tests, plus so many milliseconds.
pub fn at_ms(ms: i64) -> Timestamp {
    let start: Timestamp = "2027-01-01T00:00:00.123456Z".parse().expect("a time");
    berth_common::time::plus_ms(start, ms)
}

/// `url` with another database's name.
fn at(url: &str, name: &str) -> String {
    let (address, options) = url.split_once('?').unwrap_or((url, ""));
    let (server, _) = address.rsplit_once('/').expect("the URL names a database");
    format!("{server}/{name}?{options}")
}
