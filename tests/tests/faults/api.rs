//! A client as patient as a script of a user should be: what was not answered is asked again, at the
//! other scheduler, with the same key.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

pub const ADMIN: &str = "berth_test_admin_token_0123456789abcdef";
/// Longer than the scheduler waits for its leader (5 s).
const PATIENCE: Duration = Duration::from_secs(7);
const AGAIN: Duration = Duration::from_millis(300);
/// Longer than all faults of a schedule together: then something is broken for good.
const GIVE_UP: Duration = Duration::from_secs(240);

pub struct Api {
    urls: Vec<String>,
    client: reqwest::Client,
    next: AtomicUsize,
}

impl Api {
    pub fn new(urls: Vec<String>) -> Self {
        Self { urls, client: reqwest::Client::new(), next: AtomicUsize::new(0) }
    }

    /// Once, at any scheduler.
    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.once(Method::GET, path, None).await
    }

    /// Until somebody answers it with what it is.
    pub async fn read(&self, path: &str) -> (StatusCode, Value) {
        self.until_answered(Method::GET, path, None).await
    }

    /// Until it is decided: done, or refused for what it is.
    pub async fn post(&self, path: &str, key: &str, body: &Value) -> (StatusCode, Value) {
        self.until_answered(Method::POST, path, Some((key, body))).await
    }

    async fn until_answered(
        &self,
        method: Method,
        path: &str,
        asked: Option<(&str, &Value)>,
    ) -> (StatusCode, Value) {
        let began = Instant::now();
        loop {
            let answer = self.once(method.clone(), path, asked).await;
            if is_decided(&answer) {
                return answer;
            }
            assert!(
                began.elapsed() < GIVE_UP,
                "{method} {path}: not answered within {GIVE_UP:?}; last: {answer:?}"
            );
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn once(&self, method: Method, path: &str, asked: Option<(&str, &Value)>) -> (StatusCode, Value) {
        let url = &self.urls[self.next.fetch_add(1, Ordering::Relaxed) % self.urls.len()];
        let mut request =
            self.client.request(method, format!("{url}{path}")).bearer_auth(ADMIN).timeout(PATIENCE);
        if let Some((key, body)) = asked {
            request = request.header("idempotency-key", key).header("content-type", "application/json");
            request = request.body(body.to_string());
        }
        let answer = async {
            let answer = request.send().await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((status, answer.text().await?))
        };
        match answer.await {
            Ok((status, text)) => (status, serde_json::from_str(&text).unwrap_or(Value::String(text))),
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, Value::String(format!("{error:?}"))),
        }
    }

    /// Which of the schedulers says that it leads.
    pub async fn leader(&self) -> Option<usize> {
        for (n, url) in self.urls.iter().enumerate() {
            let asked = self.client.get(format!("{url}/readyz")).timeout(Duration::from_secs(1)).send().await;
            let Ok(answer) = asked else { continue };
            if answer.text().await.is_ok_and(|text| text.contains(r#""role":"leader""#)) {
                return Some(n);
            }
        }
        None
    }
}

/// `accepted` says that a queue has it; 429, 5xx and silence that nobody has.
fn is_decided((status, body): &(StatusCode, Value)) -> bool {
    let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    let refused = status.is_client_error() && !later.contains(status);
    refused || (status.is_success() && body["status"] != "accepted")
}
