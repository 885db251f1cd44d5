//! The harness of the end-to-end tests: a Berth of its own per test, on real services.
//!
//! RabbitMQ, the database and Docker are those that `make test` started and names in
//! `BERTH_TEST_*`. Each test has its own vhost, its own database, its own processes and its own
//! device names, and removes all of them when it ends, also when it fails. What a test that was
//! killed leaves, `dev/test` finds by the run's name and removes.

#![allow(clippy::print_stderr, reason = "a test speaks to whoever runs it")]

pub mod accounts;
pub mod berth;
pub mod broker;
pub mod database;
pub mod own_broker;
pub mod port;
pub mod process;
pub mod proxy;
pub mod recording;
pub mod services;
pub mod until;

/// A setting that `make test` gives.
///
/// # Panics
/// When it is missing: a test that cannot run has failed.
#[must_use]
pub fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: run `make test`, which starts RabbitMQ, PostgreSQL and Docker for the tests"
        )
    })
}
