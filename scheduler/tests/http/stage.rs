//! A database and a vhost of a test's own, and the shim before them.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use berth_common::broker::{Broker, LinkState, topology};
use berth_common::database::{Database, Session};
use berth_scheduler::ask::Asker;
use berth_scheduler::core::rows::Rows;
use berth_scheduler::health::{Health, Leading};
use berth_scheduler::http::{self, Shim, ensure_admin};
use berth_scheduler::store::read::Reads;
use berth_scheduler::store::{ensure_cell, migrate, read_lease, take_lease};
use futures_util::FutureExt;
use jiff::Timestamp;
use lapin::{Channel, Connection, ConnectionProperties};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// The administrator's token on every stage.
pub const ADMIN: &str = "berth_an-administrator-of-the-tests";
const CELL: i32 = 0;
/// Whatever is waited for is there within it, or never.
pub const LIMIT: Duration = Duration::from_secs(20);

pub struct Stage {
    pub address: String,
    pub client: reqwest::Client,
    pub database: Database,
    pub broker: Broker,
    pub health: Health,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    /// Of its database and its vhost.
    name: String,
}

/// Runs `test` on a stage of its own, which is taken down however it ends.
pub async fn with_stage<F: Future<Output = ()>>(test: impl FnOnce(&'static Stage) -> F) {
    // A second test of the same process finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let name = format!("berth_http_{}", Uuid::new_v4().simple());
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let server = Database::new(&setting("BERTH_TEST_DATABASE_URL"), "berth-test").expect("a good URL");
    let server = server.connect(Session::Ordinary, &TaskTracker::new()).await.expect("the server answers");
    let create = format!("CREATE DATABASE {name} TEMPLATE template0");
    server.client.batch_execute(&create).await.expect("a database");
    vhost(Method::PUT, &name).await;
    let built = AssertUnwindSafe(async {
        let stage = Box::leak(Box::new(build(&name, &stop, &tasks).await));
        test(stage).await;
    });
    let ended = built.catch_unwind().await;
    stop.cancel();
    tasks.close();
    let gone = async {
        tasks.wait().await;
        let drop = format!("DROP DATABASE {name} WITH (FORCE)");
        server.client.batch_execute(&drop).await.expect("the database can be dropped");
        vhost(Method::DELETE, &name).await;
    };
    tokio::time::timeout(LIMIT, gone).await.expect("the stage is taken down");
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

async fn build(name: &str, stop: &CancellationToken, tasks: &TaskTracker) -> Stage {
    let url = at(&setting("BERTH_TEST_DATABASE_URL"), name);
    let database = Database::new(&url, "berth-test").expect("only the name differs");
    let mut connected = database.connect(Session::Ordinary, tasks).await.expect("the database answers");
    migrate(&mut connected.client, connected.engine).await.expect("migrates");
    ensure_cell(&connected.client, CELL, at_ms(0)).await.expect("the cell is made");
    ensure_admin(&connected.into(), Some(ADMIN)).await.expect("an administrator is made");

    declare(name).await;
    let url = at(&setting("BERTH_TEST_AMQP_URL"), name);
    let broker =
        Broker::new(&url, "berth-test", stop.clone(), tasks.clone()).expect("only the vhost differs");
    let asker = Asker::start(&broker);
    let (mut publishing, mut consuming) = asker.links();
    publishing.wait_for(|state| *state == LinkState::Up).await.expect("it publishes");
    consuming.wait_for(|state| *state == LinkState::Up).await.expect("it consumes");
    let health = Health::new(&database.to_string(), &broker.location(), asker.links());
    health.set_leading(Leading::Standby { holder: "a script".into() });
    let shim = Shim {
        database: Reads::new(&database, tasks),
        asker,
        health: health.clone(),
        registry: prometheus::Registry::new(),
        stop: stop.clone(),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("it is bound"));
    tasks.spawn(http::serve(listener, http::router(shim), stop.clone()));
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("a client");
    let (stop, tasks, name) = (stop.clone(), tasks.clone(), name.to_owned());
    Stage { address, client, database, broker, health, stop, tasks, name }
}

async fn declare(vhost: &str) {
    topology::declare(&channel(vhost).await, CELL).await.expect("the topology is declared");
}

async fn channel(vhost: &str) -> Channel {
    let url = at(&setting("BERTH_TEST_AMQP_URL"), vhost);
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.expect("a broker");
    connection.create_channel().await.expect("a channel")
}

impl Stage {
    /// Cuts all connections to the database, and lets nobody in.
    pub async fn break_database(&self) {
        self.on_server(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", self.name)).await;
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname";
        self.on_server(&format!("{cut} = '{}'", self.name)).await;
    }

    pub async fn restore_database(&self) {
        self.on_server(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name)).await;
    }

    /// The broker loses the vhost, and with it every connection and queue.
    pub async fn break_broker(&self) {
        vhost(Method::DELETE, &self.name).await;
    }

    pub async fn restore_broker(&self) {
        self.virgin_broker().await;
        declare(&self.name).await;
    }

    /// After [`Self::break_broker`]: the vhost as it is before any leader has declared anything.
    pub async fn virgin_broker(&self) {
        vhost(Method::PUT, &self.name).await;
    }

    /// A channel on a connection of its own.
    pub async fn channel(&self) -> Channel {
        channel(&self.name).await
    }

    async fn on_server(&self, sql: &str) {
        let server = Database::new(&setting("BERTH_TEST_DATABASE_URL"), "berth-test").expect("a good URL");
        let server = server.connect(Session::Ordinary, &TaskTracker::new()).await.expect("it answers");
        server.client.batch_execute(sql).await.expect("it is done");
    }

    /// `/readyz`, asked again until it has this status.
    pub async fn until_ready_is(&self, expected: u16) -> Value {
        let end = tokio::time::Instant::now() + LIMIT;
        loop {
            let response = self.send(Method::GET, "/readyz", |request| request).await;
            let status = response.status().as_u16();
            let report: Value = response.json().await.expect("JSON");
            if status == expected {
                return report;
            }
            assert!(tokio::time::Instant::now() < end, "still {status}, not {expected}: {report}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A request with everything that `change` adds; the status and the body as JSON.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        change: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Response {
        let request = self.client.request(method, format!("{}{path}", self.address));
        change(request).send().await.expect("the shim answers")
    }

    pub async fn get(&self, token: &str, path: &str) -> (u16, Value) {
        read(self.send(Method::GET, path, |request| request.bearer_auth(token)).await).await
    }

    pub async fn post(&self, token: &str, path: &str, body: Value) -> (u16, Value) {
        read(self.send(Method::POST, path, |request| request.bearer_auth(token).json(&body)).await).await
    }

    pub async fn delete(&self, token: &str, path: &str) -> (u16, Value) {
        read(self.send(Method::DELETE, path, |request| request.bearer_auth(token)).await).await
    }

    /// A new user's token.
    pub async fn user(&self, name: &str) -> String {
        let (status, user) = self.post(ADMIN, "/v1/users", json!({"name": name})).await;
        assert_eq!(status, 201, "{user}");
        let (status, token) = self.post(ADMIN, &format!("/v1/users/{name}/tokens"), json!({})).await;
        assert_eq!(status, 201, "{token}");
        token["token"].as_str().expect("a token").to_owned()
    }

    /// Writes rows as the leader would.
    pub async fn commit(&self, rows: &Rows) {
        let connected = self.database.connect(Session::Leader, &self.tasks).await.expect("it answers");
        let seen = read_lease(&connected, CELL).await.expect("there is a lease");
        let holder = Uuid::new_v4().to_string();
        let lead = take_lease(connected, CELL, &seen, &holder, at_ms(1)).await.expect("it answers");
        lead.expect("nobody else leads").commit(rows, &[], at_ms(2)).await.expect("it is committed");
    }
}

/// The status and the body, which is JSON or empty.
pub async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    if status >= 400 {
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok());
        assert_eq!(kind, Some("application/problem+json"), "{status}");
    }
    let text = response.text().await.expect("the body is complete");
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect(&text) };
    (status, body)
}

/// A time that is the same in all tests, plus so many milliseconds.
pub fn at_ms(ms: i64) -> Timestamp {
    let start: Timestamp = "2027-01-01T00:00:00.123456Z".parse().expect("a time");
    berth_common::time::plus_ms(start, ms)
}

fn setting(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run `make test`, which starts the services"))
}

async fn vhost(method: Method, name: &str) {
    let api = setting("BERTH_TEST_RABBITMQ_API");
    let client = reqwest::Client::new();
    let send = async |method: Method, path: String, body: &'static str| {
        let request = client.request(method, format!("{api}/api/{path}"));
        let answer = request.header("content-type", "application/json").body(body).send().await;
        let status = answer.expect("the management API answers").status();
        assert!(status.is_success(), "{path}: {status}");
    };
    send(method.clone(), format!("vhosts/{name}"), "{}").await;
    if method == Method::PUT {
        let url = setting("BERTH_TEST_AMQP_URL");
        let user = url.split(['/', ':', '@']).find(|part| !part.is_empty() && !part.starts_with("amqp"));
        let rights = r#"{"configure":".*","write":".*","read":".*"}"#;
        send(method, format!("permissions/{name}/{}", user.expect("the URL names a user")), rights).await;
    }
}

/// `url` with another database or vhost.
fn at(url: &str, name: &str) -> String {
    let (address, options) = url.split_once('?').unwrap_or((url, ""));
    let (server, _) = address.rsplit_once('/').expect("the URL has a path");
    format!("{server}/{name}?{options}")
}
