//! Connections: how many there may be, and how long a silent one is kept.
//!
//! `axum::serve` knows neither limit. What must always hold: a client that connects and says nothing,
//! or its headers byte by byte, does not keep a place for ever; and when the program stops, requests
//! in hand are answered.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at one moment; each is a file descriptor and some kilobytes, and whoever follows a log
/// keeps one. More wait in the kernel's queue until one ends.
const MAX_CONNECTIONS: usize = 4096;
/// From connecting, or from the last answer, to the end of the next request's headers. Whole headers
/// are sent at once by everybody who means it.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves `router` until `stop`, and then what is in hand to its end.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    serve_limited(listener, router, stop, MAX_CONNECTIONS, HEADER_TIMEOUT).await;
}

async fn serve_limited(
    mut listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    max_connections: usize,
    header_timeout: Duration,
) {
    let places = Arc::new(Semaphore::new(max_connections));
    let connections = TaskTracker::new();
    let mut next = async || {
        let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
        // Axum's: it waits a moment where the process has no more files.
        (place, Listener::accept(&mut listener).await.0)
    };
    while let Some((place, stream)) = stop.run_until_cancelled(next()).await {
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            converse(stream, router, stop, header_timeout).await;
            drop(place);
        });
    }
    connections.close();
    connections.wait().await;
}

async fn converse(stream: TcpStream, router: Router, stop: CancellationToken, header_timeout: Duration) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(header_timeout);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const LIMIT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_silent_client_loses_its_place_and_the_next_one_is_served() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let stop = CancellationToken::new();
        let router = Router::new().route("/", get(async || "here"));
        let serving = serve_limited(listener, router, stop.clone(), 1, Duration::from_millis(200));
        let asking = async {
            let mut answer = String::new();
            for silence in ["", "GET / HTTP/1.1\r\nHost: x\r\n"] {
                let mut silent = TcpStream::connect(address).await.expect("connects");
                silent.write_all(silence.as_bytes()).await.expect("is taken");
                let mut other = TcpStream::connect(address).await.expect("connects");
                let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
                other.write_all(request.as_bytes()).await.expect("is taken");
                answer.clear();
                other.read_to_string(&mut answer).await.expect("an answer");
                assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"), "{answer}");
            }
            stop.cancel();
        };
        let both = async { tokio::join!(serving, asking) };
        tokio::time::timeout(LIMIT, both).await.expect("the silent ones were cut off, and it stopped");
    }
}
