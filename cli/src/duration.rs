//! Lengths of time as people write and read them: `90`, `2h`, `1d12h`; and points in time relative to now.

use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;

/// Reads `3600`, `90s`, `2h`, `1h30m`, `7d`, `1w`. A bare number is seconds.
///
/// # Errors
/// The form, when `text` has another, or is too long for 64 bits of seconds.
pub fn parse(text: &str) -> Result<Duration, String> {
    let form = || format!("{text:?}: write seconds, or a number and a unit, e.g. 90, 15m, 2h, 1h30m, 7d");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(form());
    }
    let mut seconds: u64 = 0;
    let mut first = true;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().map_err(|_| form())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "" if first => 1,
            "s" => 1,
            "m" | "min" => MINUTE,
            "h" => HOUR,
            "d" => DAY,
            "w" => WEEK,
            _ => return Err(form()),
        };
        seconds = number.checked_mul(unit).and_then(|more| seconds.checked_add(more)).ok_or_else(form)?;
        rest = &rest[letters..];
        first = false;
    }
    Ok(Duration::from_secs(seconds))
}

/// `5s`, `3m12s`, `2h05m`, `4d03h`: two units at most.
#[must_use]
pub fn format(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    match seconds {
        0..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => format!("{}m{:02}s", seconds / MINUTE, seconds % MINUTE),
        HOUR..DAY => format!("{}h{:02}m", seconds / HOUR, seconds % HOUR / MINUTE),
        DAY.. => format!("{}d{:02}h", seconds / DAY, seconds % DAY / HOUR),
    }
}

/// From `earlier` to `later`; `0s` when clocks differ the wrong way.
#[must_use]
pub fn between(earlier: Timestamp, later: Timestamp) -> String {
    format(later.duration_since(earlier).as_secs())
}

/// A point in time: so long ago, or RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    Ago(Duration),
    At(Timestamp),
}

impl Since {
    #[must_use]
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(ago) => before(now, ago),
            Self::At(time) => time,
        }
    }
}

/// `now` less `ago`, as far back as times go.
#[must_use]
pub fn before(now: Timestamp, ago: Duration) -> Timestamp {
    SignedDuration::try_from(ago)
        .ok()
        .and_then(|ago| now.checked_sub(ago).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse() {
            return Ok(Self::At(time));
        }
        parse(text)
            .map(Self::Ago)
            .map_err(|_| format!("{text:?}: write how long ago (10m, 2h) or a time (2027-01-01T00:00:00Z)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_or_refused_with_the_form() {
        for (text, seconds) in [
            ("0", 0),
            ("3600", 3600),
            ("90s", 90),
            ("2h", 7200),
            ("1h30m", 5400),
            ("7d", 604_800),
            ("1w", 604_800),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in
            ["", " ", "h", "-1", "1.5h", "2x", "2h30", "99999999999999999999", "9999999999999999d", "ü"]
        {
            assert!(parse(bad).expect_err("refused").contains("2h"), "{bad}");
        }
    }

    #[test]
    fn lengths_are_written_with_two_units() {
        for (seconds, text) in
            [(-3, "0s"), (0, "0s"), (59, "59s"), (61, "1m01s"), (7500, "2h05m"), (100_000, "1d03h")]
        {
            assert_eq!(format(seconds), text);
        }
    }

    #[test]
    fn since_is_relative_or_absolute() {
        let now: Timestamp = "2027-01-02T00:00:00Z".parse().expect("a time");
        let at = |text: &str| text.parse::<Since>().expect("reads").at(now).to_string();
        assert_eq!(at("1d"), "2027-01-01T00:00:00Z");
        assert_eq!(at("2026-12-31T00:00:00+01:00"), "2026-12-30T23:00:00Z");
        assert_eq!(at("900000000w"), "1970-01-01T00:00:00Z");
        assert!("yesterday".parse::<Since>().is_err());
    }
}
