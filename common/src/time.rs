//! How times are written: RFC 3339 in UTC, always with six digits of the second.
//!
//! openGauss and PostgreSQL keep microseconds, so a time that has passed through [`now`] compares
//! equal before and after it was stored.

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Deserializer, Serializer};

/// The present time, cut to the microseconds that the database keeps.
#[must_use]
pub fn now() -> Timestamp {
    to_micros(Timestamp::now())
}

/// `time` cut to whole microseconds.
#[must_use]
pub fn to_micros(time: Timestamp) -> Timestamp {
    time.round(jiff::TimestampRound::new().smallest(Unit::Microsecond).mode(jiff::RoundMode::Trunc))
        .unwrap_or(time)
}

/// `time` plus whole milliseconds; the last representable time where that overflows.
#[must_use]
pub fn plus_ms(time: Timestamp, ms: i64) -> Timestamp {
    time.saturating_add(jiff::SignedDuration::from_millis(ms)).unwrap_or(Timestamp::MAX)
}

/// `later - earlier` in milliseconds, negative when they stand the other way round.
#[must_use]
pub fn ms_between(earlier: Timestamp, later: Timestamp) -> i64 {
    i64::try_from(later.duration_since(earlier).as_millis()).unwrap_or(i64::MAX)
}

/// Writes a time as `2027-01-01T00:00:00.000000Z`.
pub fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{time:.6}"))
}

/// Reads any RFC 3339 time.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    Timestamp::deserialize(from).map(to_micros)
}

/// The same for a time that may be absent (`null`).
pub mod option {
    use super::{Deserialize, Deserializer, Serializer, Timestamp, to_micros};

    pub fn serialize<S: Serializer>(time: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::serialize(time, to),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<Timestamp>::deserialize(from)?.map(to_micros))
    }
}
