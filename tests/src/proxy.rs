//! A wire between a program and a server that a test can cut: a plain pump of bytes on a port of its own.
//!
//! Connections are made anew for each that comes in, and never reused; what was under way when the
//! wire was cut is lost, as on a real one.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::port::by_port;

/// Bytes in hand per direction: more than one frame of AMQP has no use here.
const BUFFER: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wire {
    /// Bytes pass.
    Whole,
    /// Connections are closed, and new ones too as soon as they are made.
    Cut,
    /// Connections stay, and nothing passes: what a firewall does that forgets, or a dead switch.
    Silent,
}

/// The wire; it ends with this value.
pub struct Proxy {
    pub port: u16,
    wire: watch::Sender<Wire>,
    stop: CancellationToken,
}

struct Ends {
    wire: watch::Receiver<Wire>,
    stop: CancellationToken,
}

impl Proxy {
    /// # Panics
    /// When there is no free port.
    pub async fn open(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let (wire, _) = watch::channel(Wire::Whole);
        let stop = CancellationToken::new();
        let ends = Arc::new(Ends { wire: wire.subscribe(), stop: stop.clone() });
        // Nobody waits for it: it ends with the token, and holds nothing that outlives the test.
        tokio::spawn(accept(listener, server, ends));
        Self { port, wire, stop }
    }

    /// To the server of a URL with an account.
    ///
    /// # Panics
    /// When there is no free port, or the URL has no account, address and port.
    pub async fn to_server_of(url: &str) -> Self {
        let (_, rest) = url.split_once('@').expect("an account");
        let server = rest.split(['/', '?']).next().and_then(|host| host.parse().ok());
        Self::open(server.expect("an address and a port")).await
    }

    /// The same URL by this wire.
    #[must_use]
    pub fn carrying(&self, url: &str) -> String {
        by_port(url, self.port)
    }

    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, ends: Arc<Ends>) {
    let connections = TaskTracker::new();
    connections.close();
    while let Some(Ok((client, _))) = ends.stop.run_until_cancelled(listener.accept()).await {
        let ends = Arc::clone(&ends);
        connections.spawn(async move {
            let mut wire = ends.wire.clone();
            tokio::select! {
                () = connect(client, server, &ends) => {}
                _ = wire.wait_for(|wire| *wire == Wire::Cut) => {}
                () = ends.stop.cancelled() => {}
            }
        });
    }
    connections.wait().await;
}

/// Until either side ends. A server that is away closes the client's connection.
async fn connect(client: TcpStream, server: SocketAddr, ends: &Ends) {
    let mut wire = ends.wire.clone();
    if wire.wait_for(|wire| *wire == Wire::Whole).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = pump(from_client, to_server, ends.wire.clone()) => {}
        () = pump(from_server, to_client, ends.wire.clone()) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut wire: watch::Receiver<Wire>) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let whole = wire.wait_for(|wire| *wire == Wire::Whole).await.is_ok();
        if !whole || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mut read, mut write) = stream.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut read, &mut write).await });
            }
        });
        at
    }

    async fn says(stream: &mut TcpStream, word: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(word).await?;
        let mut heard = vec![0; word.len()];
        stream.read_exact(&mut heard).await?;
        Ok(heard)
    }

    #[tokio::test]
    async fn a_wire_is_whole_cut_and_whole_again() {
        let proxy = Proxy::open(echo().await).await;
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).await.expect("open");
        assert_eq!(says(&mut stream, b"one").await.expect("heard"), b"one");
        proxy.set(Wire::Cut);
        assert!(says(&mut stream, b"two").await.is_err());
        let mut refused = TcpStream::connect(("127.0.0.1", proxy.port)).await.expect("open");
        assert!(says(&mut refused, b"three").await.is_err());
        proxy.set(Wire::Whole);
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).await.expect("open");
        assert_eq!(says(&mut stream, b"four").await.expect("heard"), b"four");
    }

    #[tokio::test]
    async fn a_silent_wire_holds_what_was_said() {
        let proxy = Proxy::open(echo().await).await;
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).await.expect("open");
        assert_eq!(says(&mut stream, b"one").await.expect("heard"), b"one");
        proxy.set(Wire::Silent);
        let mut saying = std::pin::pin!(says(&mut stream, b"two"));
        let soon = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, &mut saying).await.is_err());
        proxy.set(Wire::Whole);
        assert_eq!(saying.await.expect("heard"), b"two");
    }
}
