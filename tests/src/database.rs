//! A database of its own per test, on the server of `BERTH_TEST_DATABASE_URL`.

use tokio_postgres::{Client, NoTls};

use crate::setting;

/// A database that is dropped with this value.
pub struct TestDatabase {
    pub url: String,
    name: String,
    server: String,
}

impl TestDatabase {
    /// # Panics
    /// When the server does not answer.
    pub async fn create() -> Self {
        Self::create_on(&setting("BERTH_TEST_DATABASE_URL")).await
    }

    /// On a server of the test's own.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn create_on(server: &str) -> Self {
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        let client = connect(server).await;
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a test database");
        Self { url: with_database(server, &name), name, server: server.to_owned() }
    }

    /// # Panics
    /// When the server does not answer.
    pub async fn client(&self) -> Client {
        connect(&self.url).await
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the test database answers");
    tokio::spawn(async move {
        // Ends with the client; an error shows at the client's next call.
        let _ = connection.await;
    });
    client
}

/// `url` with another database's name.
fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let (server, _) = base.rsplit_once('/').expect("a database URL has a path");
    query.map_or_else(|| format!("{server}/{name}"), |query| format!("{server}/{name}?{query}"))
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // A thread of its own: this may run inside a runtime, also while it panics.
        let (server, name) = (self.server.clone(), self.name.clone());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let client = connect(&server).await;
                client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await
            })
        });
        match dropped.join() {
            Ok(Ok(())) => {}
            problem => eprintln!("the test database {} was left over: {problem:?}", self.name),
        }
    }
}
