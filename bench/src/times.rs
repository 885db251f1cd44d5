//! Points in time, as Berth's API tells them, and what lies between two of them.

use anyhow::Context;
use jiff::Timestamp;
use serde_json::Value;

/// From one time to another, in milliseconds with a fraction.
#[must_use]
pub fn ms(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1000.0
}

/// A time in an answer of the API.
///
/// # Errors
/// When it is not there.
pub fn time(text: &Value) -> anyhow::Result<Timestamp> {
    text.as_str().context("a time is a text")?.parse().context("a time is RFC 3339")
}
