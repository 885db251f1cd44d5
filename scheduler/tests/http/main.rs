//! The shim against a real database and a real broker, with a leader and devices that the tests script.

mod commands;
mod devices;
mod document;
mod listing;
mod logs;
mod operation;
mod outbox;
mod queues;
mod refusals;
#[path = "../store/sample.rs"]
#[allow(dead_code)] // the store's tests use the rest
mod sample;
mod script;
mod sign_in;
mod stage;
mod submitting;
mod users;
mod why;

/// What the samples count their times from.
mod database {
    pub use crate::stage::at_ms;
}
