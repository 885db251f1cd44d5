//! Traces as CSV: a line with the names of the columns, in any order, then a line for each job.
//!
//! `submit`, `dur` and `gpus` must be there; `limit`, `expected`, `priority`, `gpu_type`, `cpus`, `memory_mb`,
//! `preemptible`, `queue`, `user` and `id` may be. Other columns are not looked at, and the notes name them.

use std::borrow::Cow;

use super::{Job, Trace, field, push};
use crate::source::{Fault, Lines, ReadError};

/// Priorities as the API takes them.
const PRIORITY: (i64, i64) = (1, 1000);
/// What a job has that names none, as in the API.
pub const DEFAULT_PRIORITY: i32 = 100;
/// A petabyte.
const MOST_MEMORY_MB: i64 = 1 << 30;
/// GPU types, queues and users longer than this are a column that means something else.
const LONGEST_NAME: usize = 255;

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Id,
    Submit,
    Run,
    Limit,
    Expected,
    Gpus,
    Queue,
    User,
    Priority,
    GpuType,
    Cpus,
    MemoryMb,
    Preemptible,
}

const COLUMNS: [(&str, Column); 13] = [
    ("id", Column::Id),
    ("submit", Column::Submit),
    ("dur", Column::Run),
    ("limit", Column::Limit),
    ("expected", Column::Expected),
    ("gpus", Column::Gpus),
    ("queue", Column::Queue),
    ("user", Column::User),
    ("priority", Column::Priority),
    ("gpu_type", Column::GpuType),
    ("cpus", Column::Cpus),
    ("memory_mb", Column::MemoryMb),
    ("preemptible", Column::Preemptible),
];
const NEEDED: [&str; 3] = ["submit", "dur", "gpus"];

/// Reads what follows `header`.
///
/// # Errors
/// As [`super::read`].
pub(super) fn read(header: &str, lines: &mut Lines) -> Result<Trace, ReadError> {
    let mut trace = Trace::default();
    let columns = columns(header, &mut trace.notes).map_err(|fault| lines.fault(fault))?;
    while let Some(text) = lines.next_line()? {
        let job = job(text, &columns, &mut trace).map_err(|fault| lines.fault(fault))?;
        push(&mut trace, lines, job)?;
    }
    Ok(trace)
}

/// What each column is for; none: nothing that we know.
fn columns(header: &str, notes: &mut Vec<String>) -> Result<Vec<Option<Column>>, Fault> {
    let names: Vec<String> = split(header)?.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
    if let Some(missing) = NEEDED.iter().find(|needed| !names.iter().any(|name| name == *needed)) {
        return Err(Fault::new(
            missing,
            "is missing",
            "the first line names the columns: id,submit,dur,limit,gpus,queue,user (times in seconds)",
        ));
    }
    let known = |name: &str| COLUMNS.iter().find(|(known, _)| *known == name).map(|(_, column)| *column);
    for (index, name) in names.iter().enumerate() {
        if known(name).is_some() && names[..index].contains(name) {
            return Err(Fault::new(name, "is there twice", "name each column once"));
        }
    }
    let unknown: Vec<&str> = names.iter().map(String::as_str).filter(|name| known(name).is_none()).collect();
    if !unknown.is_empty() {
        notes.push(format!("columns that are not looked at: {}", unknown.join(", ")));
    }
    if !names.iter().any(|name| name == "limit") {
        notes.push("there is no column `limit`: all jobs have the default limit".to_owned());
    }
    Ok(names.iter().map(|name| known(name)).collect())
}

fn job(text: &str, columns: &[Option<Column>], trace: &mut Trace) -> Result<Job, Fault> {
    let fields = split(text)?;
    if fields.len() != columns.len() {
        let what = format!("has {} fields, and the first line {}", fields.len(), columns.len());
        return Err(Fault::new("", what, "give every line as many fields as there are columns"));
    }
    let mut job = Job {
        id: Box::default(),
        submit: 0,
        run: 0,
        limit: None,
        expected: None,
        gpus: 0,
        priority: DEFAULT_PRIORITY,
        cpu_milli: 0,
        memory_mb: 0,
        queue: 0,
        user: 0,
        gpu_type: 0,
        preemptible: false,
        line: 0,
    };
    for (field, column) in fields.iter().zip(columns) {
        if let Some(column) = column {
            set(&mut job, *column, field.trim(), trace)?;
        }
    }
    Ok(job)
}

fn set(job: &mut Job, column: Column, text: &str, trace: &mut Trace) -> Result<(), Fault> {
    match column {
        Column::Id => job.id = name("id", text)?.into(),
        Column::Submit => job.submit = field::needed_seconds("submit", text)?,
        Column::Run => job.run = field::needed_seconds("dur", text)?,
        Column::Limit => job.limit = field::seconds("limit", text)?,
        Column::Expected => job.expected = field::seconds("expected", text)?,
        Column::Gpus => job.gpus = field::gpus("gpus", text)?,
        Column::Queue => job.queue = trace.queues.number(name("queue", text)?),
        Column::User => job.user = trace.users.number(name("user", text)?),
        Column::GpuType => job.gpu_type = trace.types.number(name("gpu_type", text)?),
        Column::Cpus => job.cpu_milli = field::cpus("cpus", text)?.unwrap_or(0),
        Column::Preemptible => job.preemptible = field::yes("preemptible", text)?,
        Column::MemoryMb => {
            job.memory_mb = field::whole("memory_mb", text, 0, MOST_MEMORY_MB)?.unwrap_or(0);
        }
        Column::Priority => {
            let priority = field::whole("priority", text, PRIORITY.0, PRIORITY.1)?;
            job.priority = priority.and_then(|number| i32::try_from(number).ok()).unwrap_or(DEFAULT_PRIORITY);
        }
    }
    Ok(())
}

fn name<'a>(column: &str, text: &'a str) -> Result<&'a str, Fault> {
    if text.len() > LONGEST_NAME {
        let what = format!("is longer than {LONGEST_NAME} bytes");
        return Err(Fault::new(column, what, "is a comma or a quote missing?"));
    }
    Ok(text)
}

/// Where the columns are that somebody needs, in another kind of CSV file.
pub struct Header {
    /// In the order in which they were asked for; none: it may be missing, and is.
    places: Vec<Option<usize>>,
    count: usize,
}

impl Header {
    /// Reads the first line of a file that has the columns of `names`; those that begin with `?` may be missing.
    ///
    /// # Errors
    /// When there is no line, or a column is missing.
    pub fn read(lines: &mut Lines, names: &[&str]) -> Result<Self, ReadError> {
        let Some(text) = lines.next_line()?.map(str::to_owned) else {
            return Err(lines.whole("is empty", "the first line names the columns"));
        };
        let there = split(&text).map_err(|fault| lines.fault(fault))?;
        let mut places = Vec::new();
        for name in names {
            let (name, needed) = name.strip_prefix('?').map_or((*name, true), |name| (name, false));
            let place = there.iter().position(|of| of.trim() == name);
            if needed && place.is_none() {
                let fix = format!("the first line names the columns: {}", names.join(",").replace('?', ""));
                return Err(lines.fault(Fault::new(name, "is missing", fix)));
            }
            places.push(place);
        }
        Ok(Self { places, count: there.len() })
    }

    /// What a line has in those columns; empty where there is no such column.
    ///
    /// # Errors
    /// When the line has another number of fields.
    pub fn fields<'a>(&self, text: &'a str) -> Result<Vec<&'a str>, Fault> {
        let fields: Vec<&str> = text.split(',').map(str::trim).collect();
        if fields.len() != self.count {
            let what = format!("has {} fields, and the first line {}", fields.len(), self.count);
            return Err(Fault::new("", what, "give every line as many fields as there are columns"));
        }
        Ok(self.places.iter().map(|place| place.map_or("", |place| fields[place])).collect())
    }
}

/// The fields of a line; those in double quotes may have commas, and quotes that are doubled.
///
/// # Errors
/// When a quote does not end.
pub fn split(text: &str) -> Result<Vec<Cow<'_, str>>, Fault> {
    if !text.contains('"') {
        return Ok(text.split(',').map(Cow::Borrowed).collect());
    }
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let field = fields.last_mut().expect("there always is one");
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    if quoted {
        return Err(Fault::new("", "has a quote without an end", "close it; fields do not go over lines"));
    }
    Ok(fields.into_iter().map(Cow::Owned).collect())
}
