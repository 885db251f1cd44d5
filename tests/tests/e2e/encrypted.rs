//! A broker that is reached by `amqps://`: scheduler and worker go through TLS, and ask whose
//! certificate it is.
//!
//! TLS is taken off in the test, in front of the broker of all tests, which has none.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use berth_tests::berth::{Berth, SHORT, START};
use berth_tests::port::free_port;
use berth_tests::process::Process;
use berth_tests::until::until;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Of the broker on this host, by no authority: whoever is to believe it has to be told.
const CERTIFICATE: &str = "[req]\ndistinguished_name = name\nx509_extensions = more\nprompt = no\n\
    [name]\nCN = broker\n[more]\nsubjectAltName = IP:127.0.0.1\n";
/// More than a frame of AMQP, and more than TLS has in one record.
const LINES: usize = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_where_the_broker_is_reached_by_tls_and_no_stranger_is_believed() {
    let mut berth = Berth::start().await;
    let (certificate, key) = make_certificate(&berth.folder);
    let acceptor = acceptor(&certificate, &key);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let mut ends = JoinSet::new(); // they end with it
    ends.spawn(take_tls_off(listener, acceptor, broker_of(&berth.vhost.url)));
    let amqps = by_tls(&berth.vhost.url, port);
    let believed = ("SSL_CERT_FILE", certificate.display().to_string());

    let url = format!("http://127.0.0.1:{}", free_port());
    let mut variables = berth.scheduler_variables();
    variables.push(("BERTH_AMQP_URL", amqps.clone()));
    variables.push(("BERTH_LISTEN", url.trim_start_matches("http://").to_owned()));
    let log = berth.folder.join("stranger.log");
    let stranger = Process::start("berth-scheduler", &["serve"], &variables, &log);
    until(START, "a broker whose certificate nobody knows is refused", async || {
        refused(&url).await.map_err(|seen| (seen, stranger.output()))
    })
    .await;
    drop(stranger);

    // From here on nobody knows another way to the broker.
    berth.schedulers.clear();
    variables = berth.scheduler_variables();
    variables.extend([("BERTH_AMQP_URL", amqps.clone()), believed.clone()]);
    let scheduler = berth.scheduler_with(&variables);
    berth.schedulers.push(scheduler);
    berth.ready().await;
    berth.add_worker("1xT4", &[("BERTH_AMQP_URL", amqps), believed]).await;
    let script = format!("i=0; while [ $i -lt {LINES} ]; do echo \"line $i of many\"; i=$((i+1)); done");
    let id = berth.submit_script(&script, 1).await;
    berth.job_ends(&id, "succeeded", SHORT).await;
    let log = berth.log(&id).await;
    assert_eq!(log.lines().count(), LINES, "{}", berth.logs());
    assert!(log.lines().last().is_some_and(|line| line.contains(&format!("line {} of", LINES - 1))));
}

/// Its certificate and its key.
fn make_certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let file = |name: &str| folder.join(name);
    std::fs::write(file("tls.cnf"), CERTIFICATE).expect("a file in the test's folder");
    let made = Command::new("openssl")
        .current_dir(folder)
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-config", "tls.cnf", "-keyout", "tls-key.pem", "-out", "tls.pem"])
        .output()
        .expect("openssl, which comes with PostgreSQL's package");
    assert!(made.status.success(), "{made:?}");
    (file("tls.pem"), file("tls-key.pem"))
}

fn acceptor(certificate: &Path, key: &Path) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
    TlsAcceptor::from(Arc::new(config.expect("they belong together")))
}

/// Until the test ends; connections that fail are their clients' affair.
async fn take_tls_off(listener: TcpListener, acceptor: TlsAcceptor, broker: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            let mut client = acceptor.accept(client).await?;
            let mut broker = TcpStream::connect(broker).await?;
            tokio::io::copy_bidirectional(&mut client, &mut broker).await
        });
    }
}

fn broker_of(url: &str) -> SocketAddr {
    let (_, rest) = url.split_once('@').expect("an account");
    let address = rest.split(['/', '?']).next().expect("an address");
    address.parse().expect("the broker of the tests is given by its address")
}

/// The same account and vhost on another port, by TLS.
fn by_tls(url: &str, port: u16) -> String {
    let (account, rest) = url.split_once('@').expect("an account");
    let account = account.strip_prefix("amqp://").expect("the broker of the tests has no TLS");
    let path = rest.find(['/', '?']).map_or("", |end| &rest[end..]);
    format!("amqps://{account}@127.0.0.1:{port}{path}")
}

/// Whether a scheduler says that it does not believe the broker.
async fn refused(url: &str) -> Result<(), String> {
    let answer = reqwest::get(format!("{url}/readyz")).await.map_err(|error| error.to_string())?;
    let status = answer.status().as_u16();
    let report: Value = answer.json().await.map_err(|error| error.to_string())?;
    let says = |part: &Value| part["problem"].as_str().is_some_and(|text| text.contains("certificate"));
    let said = report["missing"].as_array().is_some_and(|missing| missing.iter().any(says));
    if status == 503 && said { Ok(()) } else { Err(report.to_string()) }
}
