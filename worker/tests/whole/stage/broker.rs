//! A virtual host of the test's own, and a way to it that can be cut.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

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

    fn address(&self) -> String {
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

/// A wire to the broker.
pub struct Wire {
    pub port: u16,
    whole: Arc<watch::Sender<bool>>,
}

impl Wire {
    pub async fn to(vhost: &Vhost) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let whole = Arc::new(watch::Sender::new(true));
        let (state, address) = (Arc::clone(&whole), vhost.address());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, address.clone(), state.subscribe()));
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

async fn carry(mut near: TcpStream, address: String, mut whole: watch::Receiver<bool>) {
    if !*whole.borrow() {
        return;
    }
    let Ok(mut far) = TcpStream::connect(address).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        _ = whole.wait_for(|whole| !whole) => {}
    }
}
