//! The database's URL: read by tokio-postgres, completed with limits, refused with what to write.
//!
//! No message here repeats a part of the URL that could be a piece of a password in disguise, such
//! as what follows an `@` that was not escaped.

use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, TargetSessionAttrs};

/// A host that is there takes a connection within milliseconds; a dead one must not delay the next.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Written data that nobody acknowledged for so long means that the peer is gone.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection that is silent for so long is probed (the system's default is two hours).
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

const FORM: &str = "write postgres://USER:PASSWORD@HOST:5432/DATABASE";

/// Reads `url` and fills in what it leaves open.
pub(super) fn parse(url: &str, application: &str) -> Result<Config, String> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(format!("the database's URL must begin with postgres://: {FORM}"));
    }
    // libpq's name for what `require` does here: check the certificate and the host's name.
    let url = url.replace("sslmode=verify-full", "sslmode=require");
    let mut config: Config = url.parse().map_err(|error| explain(&url, &error))?;
    complete(&mut config, application);
    check(&config)?;
    Ok(config)
}

fn complete(config: &mut Config, application: &str) {
    if config.get_application_name().is_none() {
        config.application_name(application);
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    if config.get_keepalives_idle() > KEEPALIVE_IDLE {
        config.keepalives_idle(KEEPALIVE_IDLE);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(KEEPALIVE_RETRIES);
    }
    if config.get_hosts().len() > 1 && config.get_target_session_attrs() == TargetSessionAttrs::Any {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
}

fn check(config: &Config) -> Result<(), String> {
    let hosts = config.get_hosts();
    let named = |host: &Host| match host {
        Host::Tcp(name) => !name.is_empty(),
        Host::Unix(_) => true,
    };
    if config.get_user().is_none_or(str::is_empty) {
        return Err(format!("the database's URL names no user: {FORM}"));
    }
    if hosts.is_empty() || !hosts.iter().all(named) {
        return Err(format!("the database's URL names no host: {FORM}"));
    }
    if hosts.iter().any(|host| matches!(host, Host::Tcp(name) if name.contains('@'))) {
        return Err("the database's URL has a second @: write one in a password as %40".into());
    }
    if config.get_dbname().is_none_or(str::is_empty) {
        return Err(format!("the database's URL names no database: {FORM}"));
    }
    if config.get_ports().len() > 1 && config.get_ports().len() != hosts.len() {
        return Err("the database's URL has another number of ports than of hosts".into());
    }
    Ok(())
}

/// What is wrong with `url`, as far as it can be said without repeating it.
fn explain(url: &str, error: &tokio_postgres::Error) -> String {
    let reason = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    if reason.contains("sslmode") {
        return "the database's URL: sslmode is disable, prefer, require or verify-full".into();
    }
    if url.contains("sslrootcert=") {
        return "the database's URL: instead of sslrootcert name the file in SSL_CERT_FILE".into();
    }
    let known = ["port", "host", "hostaddr", "connect_timeout", "tcp_user_timeout", "target_session_attrs"];
    if let Some(name) = known.iter().find(|name| reason.contains(&format!("`{name}`"))) {
        return format!("the database's URL: the value of {name} cannot be read. {FORM}");
    }
    format!(
        "the database's URL cannot be read: {FORM}, a password's special characters as %XX; options that \
         are understood: sslmode, connect_timeout, tcp_user_timeout, keepalives_idle, \
         target_session_attrs, application_name, options"
    )
}

/// Where the database is and who signs in there, without the password.
pub(super) fn without_password(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(i, host)| {
            let port = ports.get(i).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) if name.contains(':') => format!("[{name}]:{port}"),
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        })
        .collect();
    let user = config.get_user().unwrap_or_default();
    let database = config.get_dbname().unwrap_or_default();
    format!("postgres://{user}@{}/{database}", hosts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> Result<String, String> {
        parse(url, "berth-test").map(|config| without_password(&config))
    }

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, expected) in [
            ("postgres://berth:s3cret@db/berth", "postgres://berth@db:5432/berth"),
            ("postgresql://berth:s3%40ret@db:6000/b?sslmode=require", "postgres://berth@db:6000/b"),
            ("postgres://u:s3cret@a:1,b:2/d", "postgres://u@a:1,b:2/d"),
            ("postgres://u:s3cret@[::1]:9/d", "postgres://u@[::1]:9/d"),
            ("postgres://u:s3cret@%2Frun%2Fpg/d", "postgres://u@/run/pg:5432/d"),
            ("postgres://u@h/d?sslmode=verify-full", "postgres://u@h:5432/d"),
        ] {
            assert_eq!(shown(url).as_deref(), Ok(expected), "{url}");
        }
    }

    #[test]
    fn a_url_that_cannot_work_is_refused_with_what_to_write() {
        for (url, hint) in [
            ("", "postgres://"),
            ("mysql://u:s3cret@h/d", "must begin with postgres://"),
            ("postgres://:s3cret@h/d", "names no user"),
            ("postgres://h/d", "names no user"),
            ("postgres://u:s3cret@/d", "names no host"),
            ("postgres://u:s3cret@h", "names no database"),
            ("postgres://u:s3cret@h:port/d", "value of port"),
            ("postgres://u:s3cr@et@h/d", "%40"),
            ("postgres://u:s3cret@h/d?sslmode=allow", "sslmode is disable"),
            ("postgres://u:s3cret@h/d?sslrootcert=ca.pem", "SSL_CERT_FILE"),
            ("postgres://u:x@y?s3cret=z@h/d", "cannot be read"),
            ("postgres://u:s3cret@h/d?connect_timeout=soon", "connect_timeout"),
        ] {
            let refusal = shown(url).expect_err(url);
            assert!(refusal.contains(hint), "{url}: {refusal}");
            assert!(!refusal.contains("s3c"), "{url}: {refusal}");
        }
    }

    #[test]
    fn several_hosts_mean_the_one_that_takes_writes() {
        let one = parse("postgres://u@a/d", "t").expect("one host");
        assert_eq!(one.get_target_session_attrs(), TargetSessionAttrs::Any);
        let two = parse("postgres://u@a,b/d", "t").expect("two hosts");
        assert_eq!(two.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    }

    #[test]
    fn nothing_waits_for_ever_and_the_url_may_say_how_long() {
        let config = parse("postgres://u@a/d", "t").expect("a url");
        assert_eq!(config.get_connect_timeout(), Some(&CONNECT_TIMEOUT));
        assert_eq!(config.get_tcp_user_timeout(), Some(&TCP_USER_TIMEOUT));
        assert_eq!(config.get_keepalives_idle(), KEEPALIVE_IDLE);
        let config = parse("postgres://u@a/d?connect_timeout=2&keepalives_idle=7", "t").expect("a url");
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(2)));
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(7));
    }
}
