//! Ports for programs that a test starts: such a program gets its port as a setting and binds it later.

use std::net::TcpListener;

use uuid::Uuid;

/// Below the kernel's range for outgoing connections (32768–60999 on Linux): there, somebody's
/// connection could take the port before the program binds it, or while it is restarted.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;
/// More tries than a machine has busy ports in a row.
const TRIES: usize = 200;

/// A port of 127.0.0.1 that nobody listens on.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    (0..TRIES)
        .map(|_| drawn())
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("some port between 20000 and 32000 is free")
}

/// By chance, not in order: tests run at the same time.
fn drawn() -> u16 {
    let [high, low, ..] = *Uuid::new_v4().as_bytes();
    FIRST + u16::from_be_bytes([high, low]) % COUNT
}

/// A URL with an account, by another port of this machine.
///
/// # Panics
/// When it has no account.
#[must_use]
pub fn by_port(url: &str, port: u16) -> String {
    let (before, rest) = url.split_once('@').expect("an account");
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    format!("{before}@127.0.0.1:{port}{}", &rest[end..])
}
