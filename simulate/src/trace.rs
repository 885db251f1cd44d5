//! A trace: jobs that somebody had, with when they came, how long they ran and what they took.
//!
//! Read from CSV ([`csv`]) or from the Standard Workload Format ([`swf`]), gzipped or not. What must always
//! hold afterwards: ids are unique, jobs stand by (submission, id) whatever the order of the file, and
//! everything that was left out or set right is said in [`Trace::notes`].

pub mod csv;
pub mod field;
pub mod swf;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::path::Path;

use berth_policy::Time;

use crate::source::{Fault, Lines, ReadError};

/// Jobs of one trace: 3 GB of memory, and a mistake beyond it.
const MOST_JOBS: usize = 20_000_000;

/// Queues of one trace; the policy takes their turns one by one.
const MOST_QUEUES: usize = 10_000;

/// A job of a trace: less than 150 bytes with its id. Times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: Box<str>,
    pub submit: Time,
    /// How long it runs if nobody stops it.
    pub run: Time,
    /// What its user allowed it; the simulator has a default where it is absent.
    pub limit: Option<Time>,
    /// What its user expected.
    pub expected: Option<Time>,
    pub gpus: u32,
    pub priority: i32,
    /// Thousandths of a CPU, of the whole job.
    pub cpu_milli: i64,
    /// Of the whole job.
    pub memory_mb: i64,
    /// Into [`Trace::queues`], [`Trace::users`] and [`Trace::types`].
    pub queue: u32,
    pub user: u32,
    pub gpu_type: u32,
    pub preemptible: bool,
    /// Where it stands in its file.
    pub line: u32,
}

/// Texts that occur again and again, each once. The first is always the empty one.
#[derive(Debug, Default)]
pub struct Names {
    texts: Vec<String>,
    known: HashMap<String, u32>,
}

impl Names {
    pub fn number(&mut self, text: &str) -> u32 {
        if self.texts.is_empty() && !text.is_empty() {
            self.number("");
        }
        if let Some(&number) = self.known.get(text) {
            return number;
        }
        let number = u32::try_from(self.texts.len()).expect("there are fewer than jobs");
        self.texts.push(text.to_owned());
        self.known.insert(text.to_owned(), number);
        number
    }

    #[must_use]
    pub fn text(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", String::as_str)
    }

    #[must_use]
    pub fn all(&self) -> &[String] {
        &self.texts
    }
}

#[derive(Debug, Default)]
pub struct Trace {
    /// By (submission, id).
    pub jobs: Vec<Job>,
    pub queues: Names,
    pub users: Names,
    /// GPU types that a job accepts, as its file writes them: `A100|H100`; the empty one: any.
    pub types: Names,
    /// What a person should know before believing the result.
    pub notes: Vec<String>,
}

/// Reads a trace, whichever of the formats it has.
///
/// # Errors
/// Where the file cannot be read, or says what no job can be, with the line and what to do.
pub fn read(file: &Path) -> Result<Trace, ReadError> {
    read_lines(Lines::open(file)?, looks_like_swf(file))
}

fn looks_like_swf(file: &Path) -> bool {
    let name = file.to_string_lossy().to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    std::path::Path::new(name).extension().is_some_and(|extension| extension == "swf")
}

/// Reads `lines`; they are SWF if said so, or if they begin with that format's comments.
///
/// # Errors
/// As [`read`].
pub fn read_lines(mut lines: Lines, swf: bool) -> Result<Trace, ReadError> {
    let Some(first) = lines.next_line()?.map(str::to_owned) else {
        return Err(lines.whole("is empty", "a trace has a line with column names, and a line for each job"));
    };
    let mut trace = if swf || first.trim_start().starts_with(';') {
        swf::read(&first, &mut lines)?
    } else {
        csv::read(&first, &mut lines)?
    };
    if trace.jobs.is_empty() {
        return Err(lines.whole("has no jobs", "a trace has a line for each job"));
    }
    if trace.queues.all().len() > MOST_QUEUES {
        let what = format!("names more than {MOST_QUEUES} queues");
        return Err(lines.whole(&what, "is the right column called `queue`?"));
    }
    refuse_twins(&trace, &lines)?;
    if !trace.jobs.is_sorted_by(|a, b| before(a, b) != Ordering::Greater) {
        if !trace.jobs.is_sorted_by_key(|job| job.submit) {
            trace
                .notes
                .push("jobs were not in the order of their submission; they have been sorted".to_owned());
        }
        trace.jobs.sort_unstable_by(before);
    }
    Ok(trace)
}

/// One more job, from the line that was read last; without an id it is called by that line.
fn push(trace: &mut Trace, lines: &Lines, mut job: Job) -> Result<(), ReadError> {
    if trace.jobs.len() == MOST_JOBS {
        let what = format!("there are more than {MOST_JOBS} jobs");
        return Err(lines.fault(Fault::new("", what, "split the file")));
    }
    job.line = lines.line();
    if job.id.is_empty() {
        job.id = job.line.to_string().into();
    }
    trace.jobs.push(job);
    Ok(())
}

/// By submission; at the same time by id, which where both are numbers goes as numbers do.
fn before(a: &Job, b: &Job) -> Ordering {
    let number = |job: &Job| job.id.parse::<u64>().unwrap_or(u64::MAX);
    a.submit.cmp(&b.submit).then_with(|| number(a).cmp(&number(b))).then_with(|| a.id.cmp(&b.id))
}

fn refuse_twins(trace: &Trace, lines: &Lines) -> Result<(), ReadError> {
    let mut order: Vec<u32> = (0..).take(trace.jobs.len()).collect();
    let job = |index: u32| &trace.jobs[index as usize];
    order.sort_unstable_by_key(|&index| (&job(index).id, job(index).line));
    let twins = order.windows(2).filter(|pair| job(pair[0]).id == job(pair[1]).id);
    match twins.map(|pair| (job(pair[0]), job(pair[1]))).min_by_key(|(_, second)| second.line) {
        None => Ok(()),
        Some((first, second)) => Err(lines.fault_at(
            second.line,
            Fault::new(
                "id",
                format!("{:?} is the id of line {} too", second.id, first.line),
                "every job has an id of its own",
            ),
        )),
    }
}

#[cfg(test)]
mod tests;
