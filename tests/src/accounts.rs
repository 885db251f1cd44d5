//! Accounts of the broker with exactly the rights that `dev/broker-definitions` gives them, in one
//! test's vhost.
//!
//! Scheduler and workers of every test use them, so that a right that is missing shows in all tests
//! and not first on somebody's cluster.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::process::install_crypto;

/// They are deleted with this value; their vhost is not its affair.
pub struct Accounts {
    api: String,
    /// An AMQP URL whose account is replaced.
    url: String,
    client: reqwest::Client,
    made: Mutex<Vec<String>>,
}

impl Accounts {
    /// `api` is the broker's management API, `url` an AMQP URL that ends with the vhost.
    #[must_use]
    pub fn new(api: &str, url: &str) -> Self {
        install_crypto();
        let api = api.trim_end_matches('/');
        let api = api.strip_suffix("/api").unwrap_or(api).to_owned();
        Self { api, url: url.to_owned(), client: reqwest::Client::new(), made: Mutex::default() }
    }

    /// Makes the account and gives its URL. What it may do follows from its name: `device-<name>` is
    /// that device's worker, any other one may do everything.
    ///
    /// # Panics
    /// When the broker does not take it.
    pub async fn make(&self, account: &str) -> String {
        let password = uuid::Uuid::new_v4().simple().to_string();
        let mut definitions = self.definitions(account, &password, self.major().await);
        let vhost = self.vhost();
        for kind in ["permissions", "topic_permissions", "policies"] {
            for entry in definitions[kind].as_array_mut().expect("a list") {
                entry["vhost"] = json!(vhost);
            }
        }
        definitions["vhosts"] = json!([]);
        let request = self.client.post(format!("{}/api/definitions", self.api)).json(&definitions);
        let answer = request.send().await.expect("the management API answers");
        assert!(answer.status().is_success(), "{account}: {:?}", answer.text().await);
        self.made.lock().expect("nobody panicked").push(account.to_owned());
        let (scheme, rest) = self.url.split_once("://").expect("an AMQP URL has a scheme");
        let (_, place) = rest.split_once('@').expect("an AMQP URL names an account");
        format!("{scheme}://{account}:{password}@{place}")
    }

    fn vhost(&self) -> &str {
        let path = self.url.split('?').next().and_then(|url| url.rsplit('/').next());
        path.expect("an AMQP URL ends with the vhost")
    }

    /// RabbitMQ's major version.
    async fn major(&self) -> String {
        let request = self.client.get(format!("{}/api/overview", self.api));
        let overview: Value =
            request.send().await.expect("the management API answers").json().await.expect("JSON");
        let version = overview["rabbitmq_version"].as_str().expect("a version");
        version.split('.').next().expect("it begins with the major one").to_owned()
    }

    fn definitions(&self, account: &str, password: &str, major: String) -> Value {
        let secrets = Secrets::new();
        std::fs::write(secrets.0.join(format!("broker-{account}")), password).expect("a password's file");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dev/broker-definitions");
        let output = Command::new(script).arg(&secrets.0).args([&major, account]).output();
        let output = output.expect("python3 is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("definitions are JSON")
    }
}

/// A folder with passwords, gone with this value.
struct Secrets(PathBuf);

impl Secrets {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("berth-secrets-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&folder).expect("a folder for passwords");
        Self(folder)
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} was left over: {error}", self.0.display());
        }
    }
}

impl Drop for Accounts {
    fn drop(&mut self) {
        let made = std::mem::take(self.made.get_mut().expect("nobody panicked"));
        let api = self.api.clone();
        // A thread of its own: this may run inside a runtime, also while it panics.
        let gone = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let client = reqwest::Client::new();
                for account in made {
                    let answer = client.delete(format!("{api}/api/users/{account}")).send().await;
                    if let Err(error) = answer {
                        eprintln!("the account {account} was left over: {error}");
                    }
                }
            });
        });
        if gone.join().is_err() {
            eprintln!("accounts were left over");
        }
    }
}
