//! A virtual host of the test's own.

use super::environment;

pub struct Vhost {
    name: String,
    api: String,
    base: String,
}

impl Vhost {
    pub async fn make(name: &str) -> Self {
        let api = environment("BERTH_TEST_RABBITMQ_API");
        let base = environment("BERTH_TEST_AMQP_URL");
        let made =
            client().put(format!("{api}/api/vhosts/{name}")).send().await.expect("the broker's API answers");
        assert!(made.status().is_success(), "{}", made.status());
        Self { name: name.to_owned(), api, base }
    }

    pub fn url(&self) -> String {
        self.url_at(None)
    }

    /// The same virtual host by another port of this machine.
    pub fn url_at(&self, port: Option<u16>) -> String {
        let (before, _) = self.base.split_once('?').unwrap_or((&self.base, ""));
        let (authority, _) = before.rsplit_once('/').expect("an AMQP URL names a virtual host");
        let authority = match port {
            Some(port) => {
                let (host, _) = authority.rsplit_once(':').expect("a port");
                format!("{host}:{port}")
            }
            None => authority.to_owned(),
        };
        format!("{authority}/{}", self.name)
    }

    /// Host and port of the broker.
    pub fn address(&self) -> String {
        let (_, host) = self.base.rsplit_once('@').expect("an account");
        host.split(['/', '?']).next().expect("a host").to_owned()
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        let url = format!("{}/api/vhosts/{}", self.api, self.name);
        let delete = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                let _ = runtime.block_on(client().delete(url).send());
            }
        });
        let _ = delete.join();
    }
}

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}
