//! `berth why`: why a job waits, in plain words, and what could be changed; and the line of it that others tell.
//!
//! Times are those of the clock on the wall here: a person is to be there, or to go home.

use berth_common::job::{JobView, Suggestion, WhyView};
use jiff::{SignedDuration, Timestamp, Zoned};
use serde_json::Value;

use crate::args::JobArgs;
use crate::client::{Client, Query};
use crate::duration;
use crate::failure::Failure;
use crate::outcome;
use crate::output::{self, escape};
use crate::read;
use crate::resolve;

/// # Errors
/// No such job.
pub async fn why(client: &Client, args: &JobArgs, json: bool) -> Result<u8, Failure> {
    let id = resolve::resolve(client, &args.job).await?;
    let answer = read::one(client, &["v1", "jobs", &id.to_string(), "why"], &Query::new()).await?;
    if json {
        output::print(&answer.text)?;
        return Ok(0);
    }
    let why: WhyView = answer.read()?;
    if why.id != id {
        // Also for the next command: which one of an array's jobs this is about.
        output::say(&format!("berth: job {}", why.id));
    }
    output::print(&describe(&why, why.id == id, &Zoned::now()))?;
    Ok(0)
}

/// Where a job is, why, and when it starts: `pending, position 3: It needs 2 GPUs; 1 free. Starts by 14:32 at
/// the latest.`
#[must_use]
pub fn line(job: &JobView, now: &Zoned) -> String {
    let mut line = outcome::status(job);
    if let Some(position) = job.position {
        line.push_str(&format!(", position {position}"));
    }
    if let Some(reason) = &job.reason {
        line.push_str(&format!(": {}", escape(&reason.text)));
    }
    if let Some(start_by) = job.start_by {
        line.push_str(&format!(" Starts by {} at the latest.", clock(start_by, now)));
    }
    line
}

/// `whole`: the job was asked about by its own id, so that its reason alone says all.
fn describe(why: &WhyView, whole: bool, now: &Zoned) -> String {
    let text = why.reason.as_ref().filter(|_| whole).map_or(&why.text, |reason| &reason.text);
    let mut lines = vec![escape(text)];
    if let Some(reason) = &why.reason {
        let numbers = reason.numbers.iter().filter_map(|(name, value)| number(name, value, now));
        let numbers: Vec<String> = numbers.collect();
        lines.extend((!numbers.is_empty()).then(|| format!("  {}", numbers.join(", "))));
    }
    lines.extend(why.position.map(|position| format!("  position {position} in its queue")));
    lines.extend(why.start_by.map(|at| {
        let left = duration::between(now.timestamp(), at);
        format!("  starts by {} at the latest (in {left})", clock(at, now))
    }));
    if !why.changes.is_empty() {
        lines.push("\nWhat you could change:".to_owned());
        lines.extend(why.changes.iter().map(change));
    }
    lines.join("\n")
}

/// `largest hole 4`; none where there is nothing to tell.
fn number(name: &str, value: &Value, now: &Zoned) -> Option<String> {
    let shown = match value {
        Value::Null => return None,
        Value::String(text) => text.parse().map_or_else(|_| text.clone(), |at| clock(at, now)),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    Some(escape(&format!("{} {shown}", name.replace('_', " "))))
}

/// `  resources.gpus=4: would start now with 4 GPUs instead of 8`
fn change(suggestion: &Suggestion) -> String {
    let Suggestion { field, value, text } = suggestion;
    let field = field.trim_start_matches('/').replace('/', ".");
    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    format!("  {}", escape(&format!("{field}={value}: {text}")))
}

/// `14:32`, or with its date where that is not today's. A minute that has begun is over by the next one.
fn clock(at: Timestamp, now: &Zoned) -> String {
    let at = at.saturating_add(SignedDuration::from_secs(59)).unwrap_or(at).to_zoned(now.time_zone().clone());
    let form = if at.date() == now.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
    at.strftime(form).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn noon() -> Zoned {
        "2027-01-01T12:00:00+01:00[+01:00]".parse().expect("a time")
    }

    fn waiting() -> WhyView {
        let why = json!({
            "id": "0192abcd-1234-7000-8000-000000000001", "status": "pending",
            "reason": {"code": "FRAGMENTED", "text": "It needs 8 GPUs on one device.", "need": 8, "free_total": 9,
                "device": null},
            "position": 3, "start_by": "2027-01-01T13:31:10Z", "text": "An array of 2 jobs. It needs 8 GPUs.",
            "changes": [
                {"field": "/resources/gpus", "value": 4, "text": "would start now with 4 GPUs instead of 8"},
                {"field": "/queue", "value": "nlp", "text": "would start\x1b[2J now"},
            ],
        });
        serde_json::from_value(why).expect("an answer")
    }

    #[test]
    fn a_reason_is_told_with_its_numbers_and_what_could_be_changed() {
        assert_eq!(
            describe(&waiting(), true, &noon()),
            "It needs 8 GPUs on one device.\n  free total 9, need 8\n  position 3 in its queue\n  \
             starts by 14:32 at the latest (in 2h31m)\n\nWhat you could change:\n  \
             resources.gpus=4: would start now with 4 GPUs instead of 8\n  \
             queue=nlp: would start\\u{1b}[2J now"
        );
        let of_array = describe(&waiting(), false, &noon());
        assert!(of_array.starts_with("An array of 2 jobs. It needs 8 GPUs.\n  free total 9"), "{of_array}");
        let text = "It does not wait: it runs.".to_owned();
        let runs =
            WhyView { reason: None, position: None, start_by: None, changes: vec![], text, ..waiting() };
        assert_eq!(describe(&runs, true, &noon()), "It does not wait: it runs.");
    }

    #[test]
    fn a_line_says_where_it_is_and_when_it_starts() {
        let mut job = crate::tests::job_json("0192abcd-1234-7000-8000-000000000001", "pending", None);
        job["reason"] = json!({"code": "CAPACITY", "text": "It needs 2 GPUs; 1 free."});
        job["position"] = json!(3);
        job["start_by"] = json!("2027-01-02T13:32:00Z");
        let job: JobView = serde_json::from_value(job).expect("a job");
        assert_eq!(
            line(&job, &noon()),
            "pending, position 3: It needs 2 GPUs; 1 free. Starts by 2027-01-02 14:32 at the latest."
        );
    }
}
