//! Traces in the Standard Workload Format of the Parallel Workloads Archive
//! (Feitelson, <https://www.cs.huji.ac.il/labs/parallel/workload/swf.html>): 18 numbers a line, −1 where
//! nothing is known, comments after `;`. A processor there is a GPU here.

use std::fmt::Display;

use super::csv::DEFAULT_PRIORITY;
use super::{Job, Trace, field, push};
use crate::source::{Fault, Lines, ReadError};

const FIELDS: usize = 18;

/// The fields that we look at, counted from 0, with the names of the format's own page.
const ID: (usize, &str) = (0, "1 (job number)");
const SUBMIT: (usize, &str) = (1, "2 (submit time)");
const RUN: (usize, &str) = (3, "4 (run time)");
const USED: (usize, &str) = (4, "5 (allocated processors)");
const REQUESTED: (usize, &str) = (7, "8 (requested processors)");
const LIMIT: (usize, &str) = (8, "9 (requested time)");
const STATUS: (usize, &str) = (10, "11 (status)");
const USER: (usize, &str) = (11, "12 (user)");
const QUEUE: (usize, &str) = (14, "15 (queue)");

/// Parts of a job that was written down as a whole too.
const PARTIAL: [&str; 3] = ["2", "3", "4"];

/// Jobs that were left out, and why.
#[derive(Default)]
struct Skipped {
    never_ran: usize,
    no_size: usize,
    partial: usize,
}

/// Reads `first` and what follows it.
///
/// # Errors
/// As [`super::read`].
pub(super) fn read(first: &str, lines: &mut Lines) -> Result<Trace, ReadError> {
    let mut trace = Trace::default();
    let mut skipped = Skipped::default();
    let mut found = job(first, &mut trace, &mut skipped);
    loop {
        if let Some(job) = found.map_err(|fault| lines.fault(fault))? {
            push(&mut trace, lines, job)?;
        }
        let Some(text) = lines.next_line()? else { break };
        found = job(text, &mut trace, &mut skipped);
    }
    note(&mut trace.notes, skipped.never_ran, "have no run time and were left out");
    note(&mut trace.notes, skipped.no_size, "have no number of processors and were left out");
    note(&mut trace.notes, skipped.partial, "are parts of others (status 2 to 4) and were left out");
    Ok(trace)
}

fn note(notes: &mut Vec<String>, count: usize, what: impl Display) {
    if count > 0 {
        notes.push(format!("{count} jobs {what}"));
    }
}

fn job(text: &str, trace: &mut Trace, skipped: &mut Skipped) -> Result<Option<Job>, Fault> {
    let text = text.split(';').next().unwrap_or("").trim();
    if text.is_empty() {
        return Ok(None);
    }
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    if fields.len() != FIELDS {
        let what = format!("has {} fields, and the Standard Workload Format {FIELDS}", fields.len());
        return Err(Fault::new("", what, "write -1 where nothing is known"));
    }
    // −1, and whatever else some logs write below 0, is "not known".
    let known = |(index, _): (usize, &str)| Some(fields[index]).filter(|text| !text.starts_with('-'));
    if PARTIAL.contains(&fields[STATUS.0]) {
        skipped.partial += 1;
        return Ok(None);
    }
    let Some(run) = known(RUN) else {
        skipped.never_ran += 1;
        return Ok(None);
    };
    let size = |place: (usize, &str)| known(place).map(|text| field::gpus(place.1, text)).transpose();
    let requested = size(REQUESTED)?.filter(|gpus| *gpus > 0);
    let Some(gpus) = requested.or(size(USED)?).filter(|gpus| *gpus > 0) else {
        skipped.no_size += 1;
        return Ok(None);
    };
    let limit = known(LIMIT).map(|text| field::seconds(LIMIT.1, text)).transpose()?.flatten();
    Ok(Some(Job {
        id: known(ID).ok_or_else(|| Fault::new(ID.1, "is not known", "give every job a number"))?.into(),
        submit: field::needed_seconds(SUBMIT.1, fields[SUBMIT.0])?,
        run: field::needed_seconds(RUN.1, run)?,
        // Some logs write 0 for "none".
        limit: limit.filter(|limit| *limit > 0),
        expected: None,
        gpus,
        priority: DEFAULT_PRIORITY,
        cpu_milli: 0,
        memory_mb: 0,
        queue: trace.queues.number(known(QUEUE).unwrap_or("")),
        user: trace.users.number(known(USER).unwrap_or("")),
        gpu_type: 0,
        preemptible: false,
        line: 0,
    }))
}
