//! What an operator, or a mishap, does to the broker while everything runs: by its management API.

use std::time::Duration;

use berth_tests::berth::Berth;
use berth_tests::until::until;
use reqwest::Method;
use serde_json::{Value, json};

/// The API lists a connection some seconds after it was made.
const LISTED: Duration = Duration::from_secs(20);

pub struct Management {
    api: String,
    vhost: String,
    client: reqwest::Client,
}

impl Management {
    pub fn of(berth: &Berth) -> Self {
        let path = berth.vhost.url.split('?').next().and_then(|url| url.rsplit('/').next());
        let vhost = path.expect("the URL ends with the vhost").to_owned();
        Self { api: berth.site.api.trim_end_matches('/').to_owned(), vhost, client: reqwest::Client::new() }
    }

    pub async fn delete_queue(&self, name: &str) {
        self.call(Method::DELETE, &format!("queues/{}/{name}", self.vhost), json!({})).await;
    }

    pub async fn delete_exchange(&self, name: &str) {
        self.call(Method::DELETE, &format!("exchanges/{}/{name}", self.vhost), json!({})).await;
    }

    /// Whatever is published so is refused (nacked): among the queues that it goes to is one that takes
    /// nothing. The others may have taken it, which no publisher can know.
    pub async fn refuse(&self, exchange: &str, key: &str) {
        let arguments = json!({"x-max-length": 0, "x-overflow": "reject-publish"});
        let queue = json!({"durable": true, "arguments": arguments});
        self.call(Method::PUT, &format!("queues/{}/full", self.vhost), queue).await;
        let path = format!("bindings/{}/e/{exchange}/q/full", self.vhost);
        self.call(Method::POST, &path, json!({"routing_key": key})).await;
    }

    pub async fn take_again(&self) {
        self.delete_queue("full").await;
    }

    /// Closes every connection to the vhost, of which there are so many at least.
    pub async fn close_connections(&self, enough: usize) {
        let path = format!("vhosts/{}/connections", self.vhost);
        let names = until(LISTED, "the connections are listed", async || {
            let list = self.call(Method::GET, &path, json!({})).await;
            let list = list.as_array().expect("a list");
            let names: Vec<String> =
                list.iter().filter_map(|connection| connection["name"].as_str().map(str::to_owned)).collect();
            if names.len() >= enough { Ok(names) } else { Err(names) }
        })
        .await;
        for name in names {
            let mut url = reqwest::Url::parse(&format!("{}/api/connections/", self.api)).expect("a URL");
            url.path_segments_mut().expect("it has a path").pop_if_empty().push(&name);
            // One that ended by itself is 404.
            self.client.delete(url).send().await.expect("the management API answers");
        }
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let request = self.client.request(method, format!("{}/api/{path}", self.api)).json(&body);
        let answer = request.send().await.expect("the management API answers");
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }
}
