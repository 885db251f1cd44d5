//! From what people type to a job's id: the whole id, or as much of its beginning as is unique.

use std::str::FromStr;

use berth_common::id::JobId;
use berth_common::job::JobView;
use serde::Deserialize;
use uuid::Uuid;

use crate::client::{Client, Query};
use crate::failure::Failure;
use crate::output::escape;
use crate::read;

/// Hexadecimal digits of a UUID.
const DIGITS: usize = 32;
/// Where its dashes stand: after so many digits.
const DASHES: [usize; 4] = [8, 12, 16, 20];
/// Shortest id shown in tables, as Git and Docker do.
const SHORTEST_SHOWN: usize = 8;
/// Candidates that an ambiguous beginning lists.
const CANDIDATES: usize = 10;

/// An id or its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobRef {
    Whole(JobId),
    /// Lower case, with its dashes in place.
    Beginning(String),
}

impl FromStr for JobRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = Uuid::parse_str(text) {
            return Ok(Self::Whole(id));
        }
        let digits: String = text.chars().filter(|&c| c != '-').collect();
        if digits.is_empty() || digits.len() >= DIGITS || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(
                "a job's id, or its beginning, has hexadecimal digits and dashes; `berth ls` lists them"
                    .into(),
            );
        }
        let mut beginning = String::new();
        for (i, c) in digits.chars().enumerate() {
            if DASHES.contains(&i) {
                beginning.push('-');
            }
            beginning.push(c.to_ascii_lowercase());
        }
        Ok(Self::Beginning(beginning))
    }
}

#[derive(Deserialize)]
struct Found {
    items: Vec<JobView>,
}

/// # Errors
/// When no job or several begin like that, or the request fails.
pub async fn resolve(client: &Client, job: &JobRef) -> Result<JobId, Failure> {
    let beginning = match job {
        JobRef::Whole(id) => return Ok(*id),
        JobRef::Beginning(beginning) => beginning,
    };
    let query: Query = vec![("id_prefix", beginning.clone()), ("limit", (CANDIDATES + 1).to_string())];
    // A server that does not know the parameter would answer with any jobs.
    let mut found = read::one(client, &["v1", "jobs"], &query).await?.read::<Found>()?.items;
    found.retain(|job| job.id.to_string().starts_with(beginning));
    one_of(beginning, &found)
}

/// [`resolve`] for several, in order, each once.
///
/// # Errors
/// The first failure.
pub async fn resolve_all(client: &Client, jobs: &[JobRef]) -> Result<Vec<JobId>, Failure> {
    let mut ids = Vec::new();
    for job in jobs {
        let id = resolve(client, job).await?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn one_of(beginning: &str, found: &[JobView]) -> Result<JobId, Failure> {
    match found {
        [] => Err(Failure::Unmet(format!("no job's id begins with {beginning}"))),
        [one] => Ok(one.id),
        several => {
            let mut text = format!("several jobs' ids begin with {beginning}:");
            for job in several.iter().take(CANDIDATES) {
                text.push_str(&format!("\n  {}  {}  {}", job.id, escape(&job.name), job.status));
            }
            if several.len() > CANDIDATES {
                text.push_str("\n  …");
            }
            Err(Failure::Unmet(text))
        }
    }
}

/// How many characters of their ids tell `ids` apart.
#[must_use]
pub fn shown_length(ids: &[JobId]) -> usize {
    let mut texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
    texts.sort_unstable();
    texts.dedup();
    let common = |pair: &[String]| pair[0].bytes().zip(pair[1].bytes()).take_while(|(a, b)| a == b).count();
    let longest = texts.windows(2).map(common).max().unwrap_or(0);
    (longest + 1).max(SHORTEST_SHOWN)
}

/// The beginning of `id` that lists show.
#[must_use]
pub fn short(id: JobId, length: usize) -> String {
    let mut text = id.to_string();
    text.truncate(length);
    text.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str) -> JobView {
        serde_json::from_value(crate::tests::job_json(id, "running", None)).expect("a job")
    }

    #[test]
    fn a_beginning_is_read_with_or_without_its_dashes() {
        let beginning = |text: &str| match text.parse() {
            Ok(JobRef::Beginning(beginning)) => beginning,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(beginning("0"), "0");
        assert_eq!(beginning("0192ABCD"), "0192abcd");
        assert_eq!(beginning("0192abcd-"), "0192abcd");
        assert_eq!(beginning("0192abcd12"), "0192abcd-12");
        assert_eq!(beginning("0192abcd-1234-7"), "0192abcd-1234-7");
        let whole = "0192abcd-1234-7000-8000-000000000001";
        assert_eq!(whole.parse(), Ok(JobRef::Whole(whole.parse().expect("a UUID"))));
        assert_eq!(whole.replace('-', "").parse(), Ok(JobRef::Whole(whole.parse().expect("a UUID"))));
        for bad in ["", "-", "train", "0192*", "0192 ", "../x", &"0".repeat(33)] {
            assert!(bad.parse::<JobRef>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_ambiguous_beginning_lists_its_jobs() {
        let (a, b) = ("0192abcd-1234-7000-8000-000000000001", "0192abcd-1234-7000-8000-000000000002");
        assert_eq!(one_of("0192", &[job(a)]).expect("one").to_string(), a);
        let none = one_of("0192", &[]).expect_err("none").to_string();
        assert!(none.contains("no job"), "{none}");
        let several = one_of("0192", &[job(a), job(b)]).expect_err("several").to_string();
        assert!(several.contains(a) && several.contains(b), "{several}");
    }

    #[test]
    fn listed_ids_are_as_short_as_they_can_be_told_apart() {
        let id = |text: &str| -> JobId { text.parse().expect("a UUID") };
        let (a, b) = (id("0192abcd-1234-7000-8000-000000000001"), id("0192abcd-1235-7000-8000-000000000002"));
        assert_eq!(shown_length(&[]), 8);
        assert_eq!(shown_length(&[a, a]), 8);
        assert_eq!(shown_length(&[a, id("ff92abcd-1235-7000-8000-000000000002")]), 8);
        assert_eq!(short(a, shown_length(&[a, b])), "0192abcd-1234");
        assert_eq!(short(b, shown_length(&[a, b])), "0192abcd-1235");
        let next = id("0192abcd-1234-7000-8000-000000000002");
        assert_eq!(shown_length(&[a, next]), 36);
    }
}
