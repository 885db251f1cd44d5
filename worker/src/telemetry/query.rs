//! A question about one table: its range, and the answer built up row by row, so that a week in
//! means of an hour needs no more memory than its 168 means.

use std::time::Duration;

use berth_common::problem::{FieldError, Problem};
use berth_common::telemetry::Query;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

/// More in one answer is for a program, and a program can ask in pieces or for means.
pub(super) const MAX_ITEMS: usize = 10_000;
/// How far back an answer reaches when the question does not say it.
const DEFAULT_SPAN: SignedDuration = SignedDuration::from_hours(1);
/// A year: telemetry is not kept as long as that.
const MAX_STEP: Duration = Duration::from_secs(366 * 86_400);

/// One row: its time, and a value per column.
pub(super) type Point = (Timestamp, Vec<Option<f64>>);

/// Both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Range {
    pub(super) fn of(query: &Query, now: Timestamp) -> Result<Self, Problem> {
        let to = query.to.unwrap_or(now);
        let from = query.from.unwrap_or_else(|| to.saturating_sub(DEFAULT_SPAN).unwrap_or(Timestamp::MIN));
        if from > to {
            return Err(Problem::invalid_field("/from", format!("{from:.6} is after `to`, {to:.6}")));
        }
        Ok(Self { from, to })
    }

    /// What is left of it after a row at `t`; times have microseconds. `None`: nothing.
    pub(super) fn after(self, t: Timestamp) -> Option<Self> {
        let from = t.checked_add(SignedDuration::from_micros(1)).ok()?;
        (from <= self.to).then_some(Self { from, ..self })
    }
}

/// The answer under construction. Rows come in oldest first.
pub(super) struct Answer {
    columns: &'static [&'static str],
    step_us: Option<i64>,
    items: Vec<Value>,
    bucket: Option<Bucket>,
}

/// The rows of one step so far: per column, how many were measured and their sum.
struct Bucket {
    start_us: i64,
    sums: Vec<(f64, f64)>,
}

impl Answer {
    pub(super) fn new(query: &Query, columns: &'static [&'static str]) -> Result<Self, Problem> {
        let step_us = query.step.map(step_us).transpose()?;
        Ok(Self { columns, step_us, items: Vec::new(), bucket: None })
    }

    pub(super) fn add(&mut self, (t, values): &Point) -> Result<(), Problem> {
        let Some(step_us) = self.step_us else {
            return self.push(*t, values);
        };
        let start_us = t.as_microsecond().div_euclid(step_us) * step_us;
        if self.bucket.as_ref().is_none_or(|bucket| bucket.start_us != start_us) {
            self.close_bucket()?;
        }
        let columns = self.columns.len();
        let bucket = self.bucket.get_or_insert_with(|| Bucket { start_us, sums: vec![(0.0, 0.0); columns] });
        for ((count, sum), value) in bucket.sums.iter_mut().zip(values) {
            if let Some(value) = value {
                *count += 1.0;
                *sum += value;
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Value, Problem> {
        self.close_bucket()?;
        Ok(json!({ "items": self.items }))
    }

    fn close_bucket(&mut self) -> Result<(), Problem> {
        let Some(bucket) = self.bucket.take() else { return Ok(()) };
        let mean = |(count, sum): &(f64, f64)| (*count > 0.0).then(|| sum / count);
        let means: Vec<Option<f64>> = bucket.sums.iter().map(mean).collect();
        self.push(Timestamp::from_microsecond(bucket.start_us).unwrap_or(Timestamp::MIN), &means)
    }

    fn push(&mut self, t: Timestamp, values: &[Option<f64>]) -> Result<(), Problem> {
        if self.items.len() >= MAX_ITEMS {
            return Err(too_many(self.step_us));
        }
        let mut item = Map::new();
        item.insert("t".into(), format!("{t:.6}").into());
        for (column, value) in self.columns.iter().zip(values) {
            item.insert((*column).into(), Value::from(*value));
        }
        self.items.push(Value::Object(item));
        Ok(())
    }
}

fn step_us(seconds: u64) -> Result<i64, Problem> {
    if seconds == 0 || seconds > MAX_STEP.as_secs() {
        let limit = MAX_STEP.as_secs();
        return Err(Problem::invalid_field("/step", format!("must be from 1 to {limit} seconds")));
    }
    Ok(i64::try_from(seconds * 1_000_000).expect("a year has fewer microseconds than 2^63"))
}

fn too_many(step_us: Option<i64>) -> Problem {
    let advice = match step_us {
        None => "give a step in seconds, to get means, or a shorter range".to_owned(),
        Some(us) => format!("give a step larger than {} s, or a shorter range", us / 1_000_000),
    };
    Problem::invalid(vec![FieldError::new(
        "/step",
        format!("the answer would have more than {MAX_ITEMS} items: {advice}"),
    )])
}

/// 503: the store does not answer.
pub(super) fn away(why: &impl std::fmt::Display) -> Problem {
    Problem::new(503, format!("the device's telemetry cannot be read at the moment: {why}"))
}

#[cfg(test)]
mod tests {
    use berth_common::telemetry::Table;

    use super::*;

    const COLUMNS: &[&str] = Table::Memory.columns();

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn query(step: Option<u64>) -> Query {
        Query { table: Table::Memory, from: None, to: None, step }
    }

    fn answer(step: Option<u64>, points: &[Point]) -> Result<Value, Problem> {
        let mut answer = Answer::new(&query(step), COLUMNS)?;
        points.iter().try_for_each(|point| answer.add(point))?;
        answer.finish()
    }

    #[test]
    fn the_default_range_is_the_last_hour() {
        let now = at(7200);
        assert_eq!(Range::of(&query(None), now), Ok(Range { from: at(3600), to: now }));
        let turned = Query { from: Some(at(2)), to: Some(at(1)), ..query(None) };
        assert_eq!(Range::of(&turned, now).expect_err("turned").status, 422);
        let all = Range { from: at(0), to: at(1) };
        assert_eq!(all.after(at(0)).map(|rest| rest.from.as_microsecond()), Some(1));
        assert_eq!(all.after(at(1)), None);
    }

    #[test]
    fn samples_come_as_they_are() {
        let items = answer(None, &[(at(1), vec![Some(8.0), Some(2.0)]), (at(2), vec![Some(8.0), None])]);
        let expected = json!({"items": [
            {"t": "1970-01-01T00:00:01.000000Z", "total": 8.0, "used": 2.0},
            {"t": "1970-01-01T00:00:02.000000Z", "total": 8.0, "used": null},
        ]});
        assert_eq!(items, Ok(expected));
    }

    #[test]
    fn a_step_gives_means_of_what_was_measured() {
        let points = [
            (at(9), vec![Some(1.0), None]),
            (at(10), vec![Some(2.0), Some(10.0)]),
            (at(15), vec![Some(4.0), None]),
            (at(19), vec![Some(6.0), Some(20.0)]),
            (at(40), vec![None, None]),
        ];
        let expected = json!({"items": [
            {"t": "1970-01-01T00:00:00.000000Z", "total": 1.0, "used": null},
            {"t": "1970-01-01T00:00:10.000000Z", "total": 4.0, "used": 15.0},
            {"t": "1970-01-01T00:00:40.000000Z", "total": null, "used": null},
        ]});
        assert_eq!(answer(Some(10), &points), Ok(expected));
    }

    #[test]
    fn too_much_for_one_answer_is_refused_with_what_to_do() {
        let points: Vec<Point> = (0..=10_000).map(|s| (at(s), vec![Some(1.0), None])).collect();
        let problem = answer(None, &points).expect_err("10,001 items");
        assert_eq!(problem.status, 422);
        assert!(problem.detail.contains("give a step"), "{problem}");
        assert!(answer(None, &points[..10_000]).is_ok());
        let problem = answer(Some(1), &points).expect_err("10,001 items");
        assert!(problem.detail.contains("larger than 1 s"), "{problem}");
        assert!(answer(Some(2), &points).is_ok());
        assert_eq!(answer(Some(0), &points).expect_err("no step").status, 422);
        assert_eq!(answer(Some(u64::MAX), &points).expect_err("no step").status, 422);
    }
}
