//! A wire to the broker or to Docker that can be cut and mended.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// What is at the far end.
#[derive(Debug, Clone)]
pub enum Far {
    Tcp(String),
    Unix(String),
}

impl Far {
    /// Docker, where this machine's tests find it.
    pub fn docker() -> Self {
        let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
        match host.split_once("://") {
            Some(("unix", path)) => Self::Unix(path.to_owned()),
            Some((_, address)) => Self::Tcp(address.to_owned()),
            None => panic!("DOCKER_HOST={host}"),
        }
    }
}

pub struct Wire {
    pub port: u16,
    whole: Arc<watch::Sender<bool>>,
}

impl Wire {
    pub async fn to(far: Far) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let whole = Arc::new(watch::Sender::new(true));
        let state = Arc::clone(&whole);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(connect(near, far.clone(), state.subscribe()));
            }
        });
        Self { port, whole }
    }

    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn connect(near: TcpStream, far: Far, whole: watch::Receiver<bool>) {
    if !*whole.borrow() {
        return;
    }
    match far {
        Far::Tcp(address) => {
            if let Ok(far) = TcpStream::connect(address).await {
                carry(near, far, whole).await;
            }
        }
        Far::Unix(path) => {
            if let Ok(far) = UnixStream::connect(path).await {
                carry(near, far, whole).await;
            }
        }
    }
}

async fn carry(
    mut near: TcpStream,
    mut far: impl AsyncRead + AsyncWrite + Unpin,
    mut whole: watch::Receiver<bool>,
) {
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        _ = whole.wait_for(|whole| !whole) => {}
    }
}
