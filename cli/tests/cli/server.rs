//! A scheduler's HTTP side played by a script: each test says what is answered to what, and sees
//! what was asked. It is no scheduler; what the real one does is tested with the real one.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::Value;
use tokio::sync::watch;

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `GET /v1/jobs`
    pub what: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }
}

pub struct Server {
    pub url: String,
    asked: watch::Receiver<Vec<Asked>>,
}

impl Server {
    /// Serves until the test's end. `answer` gets each request and how many of the same `what` came before.
    pub async fn start(answer: impl FnMut(&Asked, usize) -> Response + Send + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (tell, asked) = watch::channel(Vec::new());
        let tell = Arc::new(tell);
        let answer = Arc::new(Mutex::new(answer));
        let app = Router::new().fallback(move |request: Request| {
            let (tell, answer) = (tell.clone(), answer.clone());
            async move {
                let asked = read(request).await;
                let before = tell.borrow().iter().filter(|a: &&Asked| a.what == asked.what).count();
                let response = answer.lock().unwrap_or_else(PoisonError::into_inner)(&asked, before);
                tell.send_modify(|all| all.push(asked));
                response
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.borrow().clone()
    }

    pub fn asked_for(&self, what: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.what == what).collect()
    }

    /// Returns when `what` has been asked for.
    pub async fn until_asked(&self, what: &str) {
        let mut asked = self.asked.clone();
        let seen = asked.wait_for(|all| all.iter().any(|asked| asked.what == what));
        let in_time = tokio::time::timeout(crate::berth::LIMIT, seen).await;
        assert!(in_time.is_ok(), "{what} was never asked for, but {:?}", self.asked());
    }
}

async fn read(request: Request) -> Asked {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    Asked {
        what: format!("{} {}", parts.method, parts.uri.path()),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    }
}

pub fn json(status: u16, body: &Value) -> Response {
    with(status, "application/json", body.to_string())
}

pub fn text(body: impl Into<Body>) -> Response {
    with(200, "text/plain; charset=utf-8", body)
}

pub fn events(body: impl Into<Body>) -> Response {
    with(200, "text/event-stream", body)
}

/// An event stream that gives `first`, and `rest` when `gate` opens.
pub fn events_gated(first: String, mut gate: watch::Receiver<bool>, rest: String) -> Response {
    let rest = async move {
        let _ = gate.wait_for(|open| *open).await;
        Ok::<_, std::io::Error>(Bytes::from(rest))
    };
    let first = futures_util::future::ready(Ok(Bytes::from(first)));
    let pieces: Vec<futures_util::future::BoxFuture<'static, _>> = vec![Box::pin(first), Box::pin(rest)];
    events(Body::from_stream(futures_util::stream::FuturesOrdered::from_iter(pieces)))
}

pub fn log_event(text: &str, cursor: u64) -> String {
    format!("event: log\ndata: {}\n\n", serde_json::json!({"text": text, "cursor": cursor}))
}

pub const END: &str = "event: end\ndata: {}\n\n";

/// A refusal; `503` and `429` ask to come again at once.
pub fn problem(status: u16, detail: &str) -> Response {
    let body = serde_json::json!({"type": "about:blank", "title": "No", "status": status, "detail": detail});
    let mut response = with(status, "application/problem+json", body.to_string());
    if matches!(status, 429 | 503) {
        response.headers_mut().insert("retry-after", "0".parse().expect("a header"));
    }
    response
}

pub fn no_content() -> Response {
    with(204, "application/json", Body::empty())
}

/// An answer that breaks off: whoever asked cannot know what was done.
pub fn lost() -> Response {
    let broken = futures_util::stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut")) });
    with(201, "application/json", Body::from_stream(broken))
}

fn with(status: u16, kind: &str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response.headers_mut().insert("content-type", kind.parse().expect("a header"));
    response
}
