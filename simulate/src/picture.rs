//! The queue over time as SVG: jobs that wait and GPUs that are busy, a line for each policy.
//!
//! What the lines are made of is [`series`]; here is only where the ink goes.

pub mod series;

use std::fmt::Write;

use crate::run::Run;
use crate::trace::Trace;
use series::{Series, nice_step, unit_of_time};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 560.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 24.0;
/// The tops of the two panels, and how high each is.
const TOPS: [f64; 2] = [64.0, 316.0];
const PANEL: f64 = 190.0;
/// Points of a line: one for each four pixels, so that days of a year do not become a brush.
const POINTS: usize = 200;
/// Marks on an axis, about.
const MARKS: f64 = 5.0;
/// Colours that people with any eyes tell apart (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// One panel: what it shows, and how large that gets.
struct Panel {
    top: f64,
    most: f64,
}

/// The picture of `runs`, which are of the same trace.
#[must_use]
pub fn svg(trace: &Trace, runs: &[Run]) -> String {
    let series = Series::of(trace, runs, POINTS);
    let gpus = runs.iter().map(|run| run.gpus).max().unwrap_or(0) as f64;
    let mut out = String::new();
    head(&mut out, runs);
    let waiting = Panel { top: TOPS[0], most: series.most_waiting().max(1.0) };
    let busy = Panel { top: TOPS[1], most: gpus.max(1.0) };
    axes(&mut out, &waiting, "Jobs waiting", &series);
    axes(&mut out, &busy, "GPUs busy", &series);
    for (line, colour) in series.lines.iter().zip(COLOURS.iter().cycle()) {
        polyline(&mut out, &waiting, &line.waiting, colour);
        polyline(&mut out, &busy, &line.busy, colour);
    }
    out.push_str("</svg>\n");
    out
}

fn head(out: &mut String, runs: &[Run]) {
    // Writing into a String cannot fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\" fill=\"#333\">\n\
         <title>Jobs waiting and GPUs busy over time</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>"
    );
    let mut left = LEFT;
    for (run, colour) in runs.iter().zip(COLOURS.iter().cycle()) {
        let _ = writeln!(
            out,
            "<line x1=\"{left}\" y1=\"22\" x2=\"{}\" y2=\"22\" stroke=\"{colour}\" stroke-width=\"3\"/>\
             <text x=\"{}\" y=\"26\">{}</text>",
            left + 24.0,
            left + 31.0,
            run.policy
        );
        left += 60.0 + 7.5 * run.policy.len() as f64;
    }
}

fn axes(out: &mut String, panel: &Panel, title: &str, series: &Series) {
    let bottom = panel.top + PANEL;
    let right = WIDTH - RIGHT;
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{title}</text>", panel.top - 9.0);
    let step = nice_step(panel.most / MARKS).max(1.0);
    for mark in marks(panel.most, step) {
        let y = bottom - PANEL * mark / panel.most;
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{mark}</text>",
            LEFT - 8.0,
            y + 4.5
        );
    }
    let (unit, name) = unit_of_time(series.span);
    let length = series.span / unit;
    let step = nice_step(length / (2.0 * MARKS));
    for mark in marks(length, step) {
        let x = LEFT + (right - LEFT) * mark / length;
        let digits = if step < 1.0 { 1 } else { 0 };
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" y1=\"{bottom}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"#333\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{mark:.digits$}</text>",
            bottom + 5.0,
            bottom + 20.0
        );
    }
    let _ = writeln!(
        out,
        "<line x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\" stroke=\"#333\"/>\
         <text x=\"{right}\" y=\"{}\" text-anchor=\"end\">{name} since the first submission</text>",
        bottom + 38.0
    );
}

/// 0, one step, two steps … up to `most`.
fn marks(most: f64, step: f64) -> impl Iterator<Item = f64> {
    (0..).map(move |number| f64::from(number) * step).take_while(move |mark| *mark <= most * 1.0001)
}

fn polyline(out: &mut String, panel: &Panel, values: &[f64], colour: &str) {
    let wide = (WIDTH - RIGHT - LEFT) / values.len().max(1) as f64;
    let mut points = String::new();
    for (place, value) in values.iter().enumerate() {
        let x = LEFT + wide * (place as f64 + 0.5);
        let y = panel.top + PANEL * (1.0 - (value / panel.most).min(1.0));
        let _ = write!(points, "{x:.1},{y:.1} ");
    }
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" stroke-opacity=\"0.85\"/>",
        points.trim_end()
    );
}
