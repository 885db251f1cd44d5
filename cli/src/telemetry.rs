//! `berth devices NAME --telemetry`: what a device measured, newest last, with the range's extremes.

use std::time::Duration;

use berth_common::telemetry::Table as Kind;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::client::{Client, Query};
use crate::duration;
use crate::failure::Failure;
use crate::output::{self, escape};
use crate::read;
use crate::table::Table;

/// Newest rows shown of each table, when all are, and when one is.
const ROWS_OF_ALL: usize = 3;
const ROWS_OF_ONE: usize = 20;

#[derive(Deserialize)]
struct Items {
    items: Vec<Map<String, Value>>,
}

/// # Errors
/// No such device, or it does not answer.
pub async fn telemetry(
    client: &Client,
    device: &str,
    only: Option<Kind>,
    last: Duration,
    json: bool,
) -> Result<u8, Failure> {
    let from = duration::before(Timestamp::now(), last).to_string();
    let path = ["v1", "devices", device, "telemetry"];
    let kinds = only.as_ref().map_or(Kind::ALL, std::slice::from_ref);
    let mut documents = Map::new();
    for &kind in kinds {
        let query: Query = vec![("table", kind.to_string()), ("from", from.clone())];
        let answer = read::one(client, &path, &query).await?;
        if json && only.is_some() {
            output::print(&answer.text)?;
        } else if json {
            documents.insert(kind.to_string(), answer.read()?);
        } else {
            let rows = if only.is_some() { ROWS_OF_ONE } else { ROWS_OF_ALL };
            output::print(&describe(kind, &answer.read::<Items>()?.items, rows))?;
        }
    }
    if json && only.is_none() {
        output::print_json(&documents)?;
    }
    Ok(0)
}

fn unit(kind: Kind) -> &'static str {
    match kind {
        Kind::Gauge => "%",
        Kind::Memory | Kind::GpuMem => "MB",
        Kind::DiskIo | Kind::NetIo => "MB/s",
    }
}

fn describe(kind: Kind, items: &[Map<String, Value>], rows: usize) -> String {
    let title = format!("{kind} ({}), {} samples", unit(kind), items.len());
    if items.is_empty() {
        return format!("{title}\n");
    }
    let headings: Vec<&str> = std::iter::once("TIME").chain(kind.columns().iter().copied()).collect();
    let numbers: Vec<usize> = (1..headings.len()).collect();
    let mut table = Table::new(&headings).numbers(&numbers);
    for item in &items[items.len().saturating_sub(rows)..] {
        let mut row = vec![item.get("t").map(text).unwrap_or_default().into()];
        row.extend(
            kind.columns().iter().map(|&column| item.get(column).map(text).unwrap_or_default().into()),
        );
        table.row(row);
    }
    for (name, summary) in SUMMARIES {
        let mut row = vec![(*name).into()];
        row.extend(kind.columns().iter().map(|&column| {
            let values: Vec<f64> = items.iter().filter_map(|item| item.get(column)?.as_f64()).collect();
            if values.is_empty() { "".into() } else { format!("{:.2}", summary(&values)).into() }
        }));
        table.row(row);
    }
    format!("{title}\n{table}\n\n")
}

type Summary = fn(&[f64]) -> f64;

#[allow(clippy::cast_precision_loss)] // a number of samples
const SUMMARIES: &[(&str, Summary)] = &[
    ("least", |values| values.iter().copied().fold(f64::INFINITY, f64::min)),
    ("mean", |values| values.iter().sum::<f64>() / values.len() as f64),
    ("most", |values| values.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
];

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => {
            text.parse::<Timestamp>().map_or_else(|_| escape(text), |time| format!("{time:.0}"))
        }
        Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), |n| format!("{n:.2}")),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_newest_rows_and_the_whole_ranges_extremes() {
        let items: Vec<Map<String, Value>> = (0..10)
            .map(|i| json!({"t": format!("2027-01-01T00:00:{i:02}.000000Z"), "read_rate": i, "write_rate": null}))
            .map(|item| serde_json::from_value(item).expect("an object"))
            .collect();
        assert_eq!(
            describe(Kind::DiskIo, &items, 2),
            "diskio (MB/s), 10 samples\n\
             TIME                  read_rate  write_rate\n\
             2027-01-01T00:00:08Z       8.00           -\n\
             2027-01-01T00:00:09Z       9.00           -\n\
             least                      0.00           -\n\
             mean                       4.50           -\n\
             most                       9.00           -\n\n"
        );
        assert_eq!(describe(Kind::Gauge, &[], 2), "gauge (%), 0 samples\n");
    }
}
