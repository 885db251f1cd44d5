//! lapin's way to the broker, with two things that lapin does not do.
//!
//! Everything that is read passes through [`Frames`]; and a connection that nobody wants any more
//! ends, whatever the broker does: lapin serves each one in a thread of its own, which without that
//! waits for a broker that has accepted the connection and says nothing, for ever.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use lapin::tcp::{AMQPUriTcpExt, OwnedTLSConfig};
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use super::frames::Frames;

/// Read from the socket at once: lapin asks for more than that.
const READ: usize = 16 << 10;

type Socket = AsyncTcpStream<<Tokio as Reactor>::TcpStream>;

/// A connection that ends when it is dropped.
pub(super) struct Wire {
    pub connection: Connection,
    _ends: DropGuard,
}

impl Wire {
    pub async fn connect(uri: AMQPUri, properties: ConnectionProperties) -> Result<Self, lapin::Error> {
        let ended = CancellationToken::new();
        // Also when this future is dropped half way.
        let ends = ended.clone().drop_guard();
        let (tokio, tls) = (Runtime::new(Tokio::current()), OwnedTLSConfig::default());
        let open = async move |uri: AMQPUri, _| {
            let opening = uri.connect_with_config_async(tls.as_ref(), &tokio);
            let opened = ended.run_until_cancelled(opening).await.ok_or(io::ErrorKind::ConnectionAborted);
            let socket = opened.map_err(io::Error::from)??;
            Ok(AsyncTcpStream::Plain(Readable::new(socket, ended.clone())))
        };
        let kit = RuntimeParts::new(Tokio::current(), Readables(Tokio::current()));
        let connection = Connection::connector(uri, Runtime::new(kit), open, properties).await?;
        Ok(Self { connection, _ends: ends })
    }
}

/// A socket that gives frames which lapin can read, until it is ended.
struct Readable {
    socket: Socket,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    frames: Frames,
    read: Box<[u8]>,
    /// To be handed on, from `at` on.
    ready: Vec<u8>,
    at: usize,
}

impl Readable {
    fn new(socket: Socket, ended: CancellationToken) -> Self {
        let (read, ready) = (vec![0; READ].into_boxed_slice(), Vec::with_capacity(READ));
        Self {
            socket,
            ended: Box::pin(ended.cancelled_owned()),
            frames: Frames::default(),
            read,
            ready,
            at: 0,
        }
    }
}

impl AsyncRead for Readable {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        while this.at == this.ready.len() {
            (this.at, this.ready) = (0, Vec::with_capacity(READ));
            let n = ready!(Pin::new(&mut this.socket).poll_read(cx, &mut this.read))?;
            if n == 0 {
                return Poll::Ready(Ok(0));
            }
            this.frames.take(&this.read[..n], &mut this.ready);
        }
        let n = to.len().min(this.ready.len() - this.at);
        to[..n].copy_from_slice(&this.ready[this.at..this.at + n]);
        this.at += n;
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for Readable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

/// Tokio, as far as lapin needs it, for connections that are [`Readable`]. They are opened above and
/// nowhere else.
#[derive(Debug, Clone)]
struct Readables(Tokio);

fn not_here<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Reactor for Readables {
    type TcpStream = Readable;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: io::Read + io::Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        not_here::<Readable>()
    }

    fn sleep(&self, time: Duration) -> Self::Sleep {
        self.0.sleep(time)
    }

    fn interval(&self, time: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(time)
    }

    fn tcp_connect_addr(
        &self,
        _: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        std::future::ready(not_here())
    }
}
