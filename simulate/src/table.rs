//! What became of every job, as CSV: for whoever wants to work out more than we print.

use std::borrow::Cow;
use std::io::{self, Write};

use crate::run::Run;
use crate::seconds;
use crate::trace::Trace;

/// Writes a line for each policy and job; times are seconds, and empty where a job never ran or was promised nothing.
///
/// # Errors
/// When it cannot be written.
pub fn write(trace: &Trace, runs: &[Run], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "policy,id,queue,user,gpus,submit,start,end,wait,promise")?;
    for run in runs {
        for (job, ran) in trace.jobs.iter().zip(&run.jobs) {
            let (queue, user) = (trace.queues.text(job.queue), trace.users.text(job.user));
            let (id, queue, user) = (quoted(&job.id), quoted(queue), quoted(user));
            let (gpus, submit) = (job.gpus, seconds(job.submit));
            write!(out, "{},{id},{queue},{user},{gpus},{submit}", run.policy)?;
            match ran.times() {
                None => writeln!(out, ",,,,")?,
                Some(ran) => {
                    let (start, end) = (seconds(ran.start), seconds(ran.end));
                    let promise = ran.promise.map(|time| seconds(time).to_string()).unwrap_or_default();
                    writeln!(out, ",{start},{end},{},{promise}", seconds(ran.start - job.submit))?;
                }
            }
        }
    }
    Ok(())
}

fn quoted(text: &str) -> Cow<'_, str> {
    if text.contains([',', '"']) {
        Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(text)
    }
}
