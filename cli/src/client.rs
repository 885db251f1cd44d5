//! The HTTP client: one place that knows how the API is asked and how it refuses.
//!
//! What must always hold: a request that was not safe to repeat is not repeated, and the token goes
//! to the configured server only (redirects are not followed).

use std::error::Error as _;
use std::time::Duration;

use berth_common::problem::Problem;
use reqwest::header::{ACCEPT, LOCATION, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use crate::output::escape;
use crate::request_error::RequestError;
use crate::settings::Settings;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The server gives its own parts 5 s to answer; the rest is a slow network.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// On a stream nothing at all, not even a keep-alive, came for so long: the connection is dead.
const STREAM_SILENCE: Duration = Duration::from_secs(60);
/// What a problem's text may add to the terminal when the server is not ours.
const FOREIGN_TEXT: usize = 200;

/// An answer other than a refusal.
#[derive(Debug)]
pub struct Answer {
    pub text: String,
    url: Url,
}

impl Answer {
    /// # Errors
    /// When it has another shape.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, RequestError> {
        serde_json::from_str(&self.text).map_err(|error| not_understood(&self.url, &error.to_string()))
    }
}

pub struct Client {
    http: reqwest::Client,
    settings: Settings,
}

/// A path's segments and a query.
pub type Path<'a> = &'a [&'a str];
pub type Query = Vec<(&'static str, String)>;

impl Client {
    /// # Errors
    /// When the system's certificates cannot be read.
    pub fn new(settings: Settings) -> Result<Self, Failure> {
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("berth/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        if settings.url.scheme() == "http" {
            // Not worth reading, and a machine without any is fine.
            http = http.tls_certs_only([]);
        }
        if is_loopback(&settings.url) {
            http = http.no_proxy();
        }
        let http = http
            .build()
            .map_err(|e| Failure::Unmet(format!("cannot start the HTTP client: {}", chain(&e))))?;
        Ok(Self { http, settings })
    }

    /// # Errors
    /// See [`RequestError`].
    pub async fn get(&self, path: Path<'_>, query: &Query) -> Result<Answer, RequestError> {
        self.answer(self.request(Method::GET, path).query(query).timeout(REQUEST_TIMEOUT)).await
    }

    /// # Errors
    /// See [`RequestError`].
    pub async fn post(
        &self,
        path: Path<'_>,
        body: &serde_json::Value,
        idempotency_key: Option<&str>,
    ) -> Result<Answer, RequestError> {
        let mut request = self.request(Method::POST, path).json(body).timeout(REQUEST_TIMEOUT);
        if let Some(key) = idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        self.answer(request).await
    }

    /// # Errors
    /// See [`RequestError`].
    pub async fn put(&self, path: Path<'_>, body: &serde_json::Value) -> Result<Answer, RequestError> {
        self.answer(self.request(Method::PUT, path).json(body).timeout(REQUEST_TIMEOUT)).await
    }

    /// # Errors
    /// See [`RequestError`].
    pub async fn delete(&self, path: Path<'_>) -> Result<Answer, RequestError> {
        self.answer(self.request(Method::DELETE, path).timeout(REQUEST_TIMEOUT)).await
    }

    /// An answer whose body is read as it comes. `accept` is its media type.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn stream(
        &self,
        path: Path<'_>,
        query: &Query,
        accept: &str,
    ) -> Result<Response, RequestError> {
        let request = self.request(Method::GET, path).query(query).header(ACCEPT, accept);
        let url = self.url();
        let response = match tokio::time::timeout(STREAM_SILENCE, request.send()).await {
            Ok(sent) => sent.map_err(|error| self.lost(&error))?,
            Err(_) => return Err(RequestError::Broken { url, cause: silence() }),
        };
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response).await) }
    }

    /// The next piece of a stream; `None` at its end.
    ///
    /// # Errors
    /// When the connection broke or went silent.
    pub async fn next_piece(&self, response: &mut Response) -> Result<Option<Vec<u8>>, RequestError> {
        match tokio::time::timeout(STREAM_SILENCE, response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece.map(|bytes| bytes.to_vec())),
            Ok(Err(error)) => Err(self.broken(&error)),
            Err(_) => Err(RequestError::Broken { url: self.url(), cause: silence() }),
        }
    }

    /// For a stream that ended in the middle.
    #[must_use]
    pub fn cut_off(&self, cause: &str) -> RequestError {
        RequestError::Broken { url: self.url(), cause: cause.to_owned() }
    }

    /// For an answer of another shape.
    #[must_use]
    pub fn nonsense(&self, cause: &str) -> RequestError {
        not_understood(&self.settings.url, cause)
    }

    fn request(&self, method: Method, path: Path<'_>) -> RequestBuilder {
        let mut url = self.settings.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let request = self.http.request(method, url);
        match &self.settings.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    fn url(&self) -> String {
        self.settings.url.to_string()
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Answer, RequestError> {
        let response = request.send().await.map_err(|error| self.lost(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(self.refused(response).await);
        }
        let url = response.url().clone();
        let text = response.text().await.map_err(|error| self.broken(&error))?;
        Ok(Answer { text, url })
    }

    fn lost(&self, error: &reqwest::Error) -> RequestError {
        if error.is_connect() {
            RequestError::Unreachable { url: self.url(), cause: chain(error) }
        } else {
            self.broken(error)
        }
    }

    fn broken(&self, error: &reqwest::Error) -> RequestError {
        RequestError::Broken { url: self.url(), cause: chain(error) }
    }

    async fn refused(&self, response: Response) -> RequestError {
        let (status, url) = (response.status(), response.url().clone());
        if status.is_redirection() {
            let to = header(&response, &LOCATION).unwrap_or_else(|| "another address".into());
            return not_understood(
                &url,
                &format!("it sends us to {to}; give that server's address as BERTH_URL"),
            );
        }
        let retry_after =
            header(&response, &RETRY_AFTER).and_then(|s| s.parse().ok()).map(Duration::from_secs);
        // A proxy between us and the scheduler answers HTML; its status still says something.
        let text = response.text().await.unwrap_or_default();
        let problem = serde_json::from_str(&text).unwrap_or_else(|_| {
            let start: String = text.chars().take(FOREIGN_TEXT).collect();
            Problem::new(status.as_u16(), format!("{url} answered {status}: {}", start.trim()))
        });
        let hint = (status == StatusCode::UNAUTHORIZED)
            .then(|| format!("{} (asked {})", self.settings.token_origin, self.settings.url));
        RequestError::Refused {
            problem: Box::new(Problem { status: status.as_u16(), ..problem }),
            hint,
            retry_after,
        }
    }
}

fn header(response: &Response, name: &reqwest::header::HeaderName) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

fn not_understood(url: &Url, cause: &str) -> RequestError {
    RequestError::NotUnderstood { url: url.to_string(), cause: escape(cause) }
}

fn silence() -> String {
    format!("nothing came for {} s", STREAM_SILENCE.as_secs())
}

/// A proxy for the outside world is no way to one's own machine.
fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

/// The innermost cause says most ("Connection refused"); reqwest's own words repeat the URL.
fn chain(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    if error.source().is_none() {
        return error.to_string();
    }
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_own_machine_is_known_by_name_and_number() {
        for (url, own) in [
            ("http://localhost:1", true),
            ("http://127.0.0.2:1", true),
            ("http://[::1]:1", true),
            ("http://berth.lab", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).expect("a URL")), own, "{url}");
        }
    }
}
