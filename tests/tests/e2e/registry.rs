//! A registry of images that has none, so that a test can ask for one without any network.
//!
//! Docker speaks plain HTTP with registries on 127.0.0.0/8, once it has been refused TLS.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// More than Docker's requests have.
const REQUEST_LIMIT: usize = 16 * 1024;

/// What a registry says of an image that it does not have (OCI distribution, "Error Codes").
const UNKNOWN: &str = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;

pub struct EmptyRegistry {
    pub port: u16,
    _task: AbortOnDropHandle<()>,
}

impl EmptyRegistry {
    pub async fn open() -> Self {
        // Bound here and kept, so any port will do.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it has an address").port();
        let task = tokio::spawn(async move {
            // Docker may hold one open in which it asks for nothing.
            let mut answers = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                answers.spawn(answer(stream));
            }
        });
        Self { port, _task: AbortOnDropHandle::new(task) }
    }
}

/// One request a connection; who hangs up in the middle asks again or does not want to know. TLS's first message has no end of a header, and is told from it at once.
async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") && (request.is_empty() || request[0].is_ascii_uppercase()) {
        if request.len() > REQUEST_LIMIT || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let (status, body) =
        if request.starts_with(b"GET /v2/ ") { ("200 OK", "{}") } else { ("404 Not Found", UNKNOWN) };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    if !request.starts_with(b"HEAD ") {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}
