//! One field of a trace: a number within its bounds, or what is wrong with it and how to set it right.

use berth_policy::Time;

use crate::SECOND;
use crate::source::Fault;

/// Ten thousand years: whatever is later is a mistake, and sums of them stay far from the end of an i64.
const LATEST_S: f64 = 3.2e11;
/// More GPUs than a cluster of this kind can have.
const MOST_GPUS: u32 = 1_000_000;
/// CPUs of one job.
const MOST_CPUS: f64 = 1e8;

/// Seconds, with decimals if need be; absent where the field is empty.
///
/// # Errors
/// When it is not a number, or negative.
pub fn seconds(column: &str, text: &str) -> Result<Option<Time>, Fault> {
    let Some(number) = number(column, text, "write seconds, e.g. 3600 or 0.5")? else { return Ok(None) };
    if number < 0.0 {
        return Err(Fault::new(column, format!("{text} is negative"), "times are seconds from 0 on"));
    }
    if number > LATEST_S {
        return Err(Fault::new(
            column,
            format!("{text} is too large"),
            "times are seconds, not milliseconds",
        ));
    }
    Ok(Some((number * SECOND as f64).round() as Time))
}

/// As [`seconds`], where a job cannot do without.
///
/// # Errors
/// As [`seconds`], and when it is empty.
pub fn needed_seconds(column: &str, text: &str) -> Result<Time, Fault> {
    seconds(column, text)?.ok_or_else(|| Fault::new(column, "is empty", "write seconds, e.g. 3600"))
}

/// # Errors
/// When it is not a whole number of GPUs.
pub fn gpus(column: &str, text: &str) -> Result<u32, Fault> {
    let fix = "write a whole number of GPUs, e.g. 8";
    match text.parse::<u32>() {
        Ok(gpus) if gpus <= MOST_GPUS => Ok(gpus),
        Ok(_) => Err(Fault::new(column, format!("{text} is too large"), fix)),
        Err(_) if text.is_empty() => Err(Fault::new(column, "is empty", fix)),
        Err(_) => Err(Fault::new(column, format!("{text:?} is not a whole number"), fix)),
    }
}

/// A whole number from `least` to `most`; absent where the field is empty.
///
/// # Errors
/// When it is something else.
pub fn whole(column: &str, text: &str, least: i64, most: i64) -> Result<Option<i64>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    let fix = || format!("write a whole number from {least} to {most}");
    match text.parse::<i64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
        Ok(_) => Err(Fault::new(column, format!("{text} is out of bounds"), fix())),
        Err(_) => Err(Fault::new(column, format!("{text:?} is not a whole number"), fix())),
    }
}

/// CPUs in thousandths; absent where the field is empty.
///
/// # Errors
/// When it is not a number, or negative.
pub fn cpus(column: &str, text: &str) -> Result<Option<i64>, Fault> {
    let fix = "write a number of CPUs, e.g. 4 or 0.5";
    match number(column, text, fix)? {
        None => Ok(None),
        Some(cpus) if (0.0..=MOST_CPUS).contains(&cpus) => Ok(Some((cpus * 1000.0).round() as i64)),
        Some(_) => Err(Fault::new(column, format!("{text} is out of bounds"), fix)),
    }
}

/// # Errors
/// When it is neither yes nor no.
pub fn yes(column: &str, text: &str) -> Result<bool, Fault> {
    match text.to_ascii_lowercase().as_str() {
        "" | "0" | "false" | "no" => Ok(false),
        "1" | "true" | "yes" => Ok(true),
        _ => Err(Fault::new(column, format!("{text:?} is neither yes nor no"), "write true or false")),
    }
}

fn number(column: &str, text: &str, fix: &str) -> Result<Option<f64>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Some(number)),
        Ok(_) | Err(_) => Err(Fault::new(column, format!("{text:?} is not a number"), fix)),
    }
}
