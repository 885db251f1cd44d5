//! Jobs waiting and GPUs busy, averaged over equal pieces of time.

use berth_policy::Time;

use crate::run::{Ran, Run};
use crate::seconds;
use crate::trace::{Job, Trace};

pub struct Line {
    pub waiting: Vec<f64>,
    pub busy: Vec<f64>,
}

pub struct Series {
    /// In the order of the runs.
    pub lines: Vec<Line>,
    /// Seconds from the first submission to the last end.
    pub span: f64,
}

impl Series {
    /// In `points` pieces.
    #[must_use]
    pub fn of(trace: &Trace, runs: &[Run], points: usize) -> Self {
        let first = trace.jobs.first().map_or(0, |job| job.submit);
        let ends = runs.iter().flat_map(|run| &run.jobs).filter_map(|ran| Some(ran.times()?.end));
        let span = (ends.max().unwrap_or(first) - first).max(1);
        let lines = runs.iter().map(|run| line(trace, run, first, span, points)).collect();
        Self { lines, span: seconds(span) }
    }

    #[must_use]
    pub fn most_waiting(&self) -> f64 {
        self.lines.iter().flat_map(|line| &line.waiting).fold(0.0, |most, value| value.max(most))
    }
}

fn line(trace: &Trace, run: &Run, first: Time, span: Time, points: usize) -> Line {
    let mut line = Line { waiting: vec![0.0; points], busy: vec![0.0; points] };
    let ran = |(job, ran): (&Job, &Ran)| Some((job.submit, job.gpus, *ran.times()?));
    for (submit, gpus, ran) in trace.jobs.iter().zip(&run.jobs).filter_map(ran) {
        spread(&mut line.waiting, 1.0, (submit - first, ran.start - first), span);
        spread(&mut line.busy, f64::from(gpus), (ran.start - first, ran.end - first), span);
    }
    // So far each piece has only what begins and ends in it, and what of others changes there.
    accumulate(&mut line.waiting);
    accumulate(&mut line.busy);
    line
}

/// Adds `amount` for a time. As a difference to the piece before, so that a long time costs no more than a short one.
fn spread(values: &mut [f64], amount: f64, (from, to): (Time, Time), span: Time) {
    step(values, amount, from, span);
    step(values, -amount, to, span);
}

/// From `at` on it is `amount` more.
fn step(values: &mut [f64], amount: f64, at: Time, span: Time) {
    let place = at as f64 / span as f64 * values.len() as f64;
    let index = (place.max(0.0) as usize).min(values.len());
    let within = 1.0 - (place - index as f64).clamp(0.0, 1.0);
    if let Some(value) = values.get_mut(index) {
        *value += amount * within;
    }
    if let Some(value) = values.get_mut(index + 1) {
        *value += amount * (1.0 - within);
    }
}

fn accumulate(values: &mut [f64]) {
    let mut sum = 0.0;
    for value in values {
        sum += *value;
        // What rounding leaves of nothing.
        *value = if sum.abs() < 1e-6 { 0.0 } else { sum };
    }
}

/// 1, 2 or 5 times a power of ten, not below `least`.
#[must_use]
pub fn nice_step(least: f64) -> f64 {
    if least <= 0.0 || !least.is_finite() {
        return 1.0;
    }
    let power = 10_f64.powf(least.log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0].into_iter().find(|times| times * power >= least * 0.9999);
    times.unwrap_or(10.0) * power
}

/// In which unit to write a span of so many seconds: its seconds and its name.
#[must_use]
pub fn unit_of_time(span: f64) -> (f64, &'static str) {
    const UNITS: [(f64, &str); 3] = [(86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes")];
    // Three of it at least, or the marks would be fractions.
    UNITS.into_iter().find(|(unit, _)| span >= 3.0 * unit).unwrap_or((1.0, "seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_has_its_average() {
        let mut values = vec![0.0; 4];
        // Half of the second piece, all of the third.
        spread(&mut values, 2.0, (15, 30), 40);
        accumulate(&mut values);
        assert_eq!(values, [0.0, 1.0, 2.0, 0.0]);
        spread(&mut values, 0.0, (0, 40), 40);
    }

    #[test]
    fn marks_are_round_numbers() {
        assert_eq!(
            [nice_step(0.3), nice_step(1.0), nice_step(130.0), nice_step(51.0)],
            [0.5, 1.0, 200.0, 100.0]
        );
        assert_eq!(unit_of_time(7200.0).1, "minutes");
        assert_eq!(unit_of_time(4.0 * 86_400.0).1, "days");
    }
}
