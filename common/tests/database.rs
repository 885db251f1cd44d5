//! Signing in to a real database: settings of a session, kinds of refusal, timeouts, the pool.

use std::time::Duration;

use berth_common::database::{
    ConnectError, Database, Engine, PoolError, Session, is_transient, sqlstate, with_timeout,
};
use tokio_util::task::TaskTracker;

fn url() -> String {
    std::env::var("BERTH_TEST_DATABASE_URL")
        .expect("BERTH_TEST_DATABASE_URL is not set: run `make test`, which starts a database")
}

fn database() -> Database {
    Database::new(&url(), "berth-test").expect("the test URL is good")
}

async fn setting(client: &tokio_postgres::Client, name: &str) -> String {
    let row = client
        .query_one("SELECT setting FROM pg_catalog.pg_settings WHERE name = $1", &[&name])
        .await
        .expect("settings can be read");
    row.get(0)
}

#[tokio::test]
async fn a_session_is_set_up_before_anybody_uses_it() {
    let tasks = TaskTracker::new();
    let connected = database().connect(Session::Leader, &tasks).await.expect("connects");
    let client = connected.client;
    assert_eq!(setting(&client, "statement_timeout").await, "30000");
    assert_eq!(setting(&client, "search_path").await, "pg_catalog");
    assert_eq!(setting(&client, "application_name").await, "berth-test");
    assert!(["UTC", "Etc/UTC"].contains(&setting(&client, "TimeZone").await.as_str()));
    match connected.engine {
        Engine::Postgres => {
            assert_eq!(setting(&client, "idle_in_transaction_session_timeout").await, "5000");
        }
        Engine::OpenGauss => assert_eq!(setting(&client, "session_timeout").await, "0"),
    }
    drop(client);
    tasks.close();
    tokio::time::timeout(Duration::from_secs(5), tasks.wait())
        .await
        .expect("the driver ends with its client");
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_cancelled_and_the_connection_stays_good() {
    let tasks = TaskTracker::new();
    let connected = database().connect(Session::Ordinary, &tasks).await.expect("connects");
    let slow = connected.client.batch_execute("SELECT pg_catalog.pg_sleep(20)");
    let error = with_timeout(&connected.cancel, Duration::from_millis(100), slow)
        .await
        .expect("the server obeys the cancel")
        .expect_err("cancelled");
    assert_eq!(sqlstate(&error), Some("57014"));
    assert!(is_transient(&error));
    connected.client.batch_execute("SELECT 1").await.expect("the connection is still good");
}

#[tokio::test]
async fn a_pool_hands_out_sessions_and_makes_new_ones_for_those_that_ended() {
    let tasks = TaskTracker::new();
    let pool = database().pool(1, &tasks);
    let client = pool.get().await.expect("a session");
    assert_eq!(setting(&client, "statement_timeout").await, "30000");
    client
        .batch_execute("SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())")
        .await
        .expect_err("it ended its own session");
    tokio::time::timeout(Duration::from_secs(5), async {
        while !client.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the end of the connection is noticed");
    drop(client);
    let client = pool.get().await.expect("another session");
    assert_eq!(client.query_one("SELECT 1", &[]).await.expect("it works").get::<_, i32>(0), 1);
}

#[tokio::test]
async fn a_refused_password_is_not_tried_again() {
    let (before, after) = url().split_once("://").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a URL");
    let host = after.split_once('@').map_or(after.as_str(), |(_, host)| host).to_owned();
    let wrong = format!("{before}://berth_nobody:wrong@{host}");
    let database = Database::new(&wrong, "berth-test").expect("a URL");
    let tasks = TaskTracker::new();
    let first = database.connect(Session::Ordinary, &tasks).await.err().expect("refused");
    assert!(matches!(first, ConnectError::WrongPassword { .. }), "{first}");
    let text = first.to_string();
    assert!(text.contains("berth_nobody@") && text.contains("password_encryption_type"), "{text}");
    assert!(!text.contains("wrong@"), "{text}");
    // The pool knows of it as well.
    match database.pool(1, &tasks).get().await {
        Err(PoolError::Backend(ConnectError::WrongPassword { .. })) => {}
        other => panic!("{:?}", other.map(|_| "a session")),
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_and_a_server_that_is_not_there_are_told_apart() {
    let tasks = TaskTracker::new();
    let url = url();
    let (server, _) = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).expect("a path");
    let missing = Database::new(&format!("postgres://{server}/berth_missing"), "berth-test").expect("a URL");
    let error = missing.connect(Session::Ordinary, &tasks).await.err().expect("refused");
    assert!(matches!(&error, ConnectError::NoDatabase { name, .. } if name == "berth_missing"), "{error}");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let away = Database::new(&format!("postgres://u:p@127.0.0.1:{port}/d"), "berth-test").expect("a URL");
    let error = away.connect(Session::Ordinary, &tasks).await.err().expect("refused");
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&format!("u@127.0.0.1:{port}/d")), "{error}");
}

/// openGauss's SHA-256 sign-in (code 10 with its own body) is told as what it is: a matter of the
/// server's `password_encryption_type`, not to be tried again and again.
#[tokio::test]
async fn a_sign_in_that_the_client_does_not_know_is_told_as_such() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let tasks = TaskTracker::new();
    tasks.spawn(async move {
        let (mut peer, _) = listener.accept().await.expect("a client");
        let mut startup = [0u8; 1024];
        assert!(peer.read(&mut startup).await.expect("the startup message") > 0);
        // R, length, code 10, password stored method 2, then salt and token as openGauss sends them.
        let body =
            [&10i32.to_be_bytes()[..], &2i32.to_be_bytes(), &[b'a'; 72], &10_000i32.to_be_bytes()].concat();
        let length = i32::try_from(body.len() + 4).expect("short").to_be_bytes();
        peer.write_all(&[b"R", &length[..], &body].concat()).await.expect("sends");
        // Until the client leaves.
        let _ = peer.read(&mut startup).await;
    });
    let url = format!("postgres://u:p@127.0.0.1:{port}/d?sslmode=disable");
    let database = Database::new(&url, "berth-test").expect("a URL");
    let error = database.connect(Session::Ordinary, &tasks).await.err().expect("refused");
    assert!(matches!(error, ConnectError::WrongPassword { .. }), "{error}");
}
