//! The flags of commands on jobs.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::duration;
use crate::resolve::JobRef;

#[derive(Debug, Args)]
pub struct JobsArgs {
    /// Ids, or as much of their beginnings as is unique; an array's whole id stands for all its jobs
    #[arg(value_name = "ID", required = true)]
    pub jobs: Vec<JobRef>,
    /// Why, for the job's history
    #[arg(long)]
    pub reason: Option<String>,
}

#[derive(Debug, Args)]
pub struct StopArgs {
    #[command(flatten)]
    pub jobs: JobsArgs,
    /// Time between SIGTERM and SIGKILL, e.g. 30 or 2m [default: the server's]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub grace: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct RetryArgs {
    #[command(flatten)]
    pub jobs: JobsArgs,
    /// A field of the specification that is to be different, e.g. timeout_s=7200 or
    /// resources='{"gpus": 2}'; null: its default; repeatable
    #[arg(long, value_name = "FIELD=JSON", value_parser = field)]
    pub set: Vec<(String, Value)>,
}

#[derive(Debug, Args)]
pub struct PriorityArgs {
    /// The job's id, or as much of its beginning as is unique; an array's whole id stands for all its jobs
    #[arg(value_name = "ID")]
    pub job: JobRef,
    /// 100–200; admins 1–1000
    #[arg(value_name = "N", value_parser = clap::value_parser!(i64).range(1..=1000))]
    pub priority: i64,
    /// Why, for the job's history
    #[arg(long)]
    pub reason: Option<String>,
}

#[derive(Debug, Args)]
pub struct TimeoutArgs {
    /// The job's id, or as much of its beginning as is unique
    #[arg(value_name = "ID")]
    pub job: JobRef,
    /// Seconds, or e.g. 90m or 2h: how long it may run, counted from its start
    #[arg(value_name = "TIME", value_parser = duration::parse)]
    pub time: Duration,
    /// Why, for the job's history
    #[arg(long)]
    pub reason: Option<String>,
}

#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The job's id, or as much of its beginning as is unique
    #[arg(value_name = "ID")]
    pub job: JobRef,
    /// How long it may take, e.g. 90 or 10m [default: the server's, a minute]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// In which replica, from 0 [default: 0]
    #[arg(long, value_name = "N")]
    pub replica: Option<u32>,
    /// The program and its arguments, run as they are, without a shell
    #[arg(last = true, required = true, value_name = "ARGV")]
    pub argv: Vec<String>,
}

/// `FIELD=JSON`; what is no JSON is a text.
fn field(text: &str) -> Result<(String, Value), String> {
    let (field, value) = crate::spec_args::key_value(text).map_err(|_| "write FIELD=JSON".to_owned())?;
    let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
    Ok((field, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_fields_value_is_json_or_a_text() {
        for (text, value) in [
            ("timeout_s=60", json!(60)),
            ("image=busybox:1", json!("busybox:1")),
            ("command=[\"a\", \"b=c\"]", json!(["a", "b=c"])),
            ("workdir=null", Value::Null),
            ("image=", json!("")),
        ] {
            assert_eq!(field(text).expect("reads").1, value, "{text}");
        }
        assert!(field("image").is_err() && field("=1").is_err());
    }
}
