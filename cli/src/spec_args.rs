//! The flags of `submit` and `run`, and how their values are read.

use std::path::PathBuf;
use std::time::Duration;

use berth_common::spec::Array;
use clap::Args;

use crate::resolve::JobRef;
use crate::{duration, size};

#[derive(Debug, Default, Args)]
pub struct SpecArgs {
    /// The Docker image
    #[arg(long, short)]
    pub image: Option<String>,
    /// Shown in lists [default: the image's name]
    #[arg(long)]
    pub name: Option<String>,
    #[arg(long)]
    pub queue: Option<String>,
    /// How many GPUs
    #[arg(long, short, value_name = "N")]
    pub gpus: Option<u32>,
    /// An acceptable GPU type; repeatable
    #[arg(long, value_name = "TYPE")]
    pub gpu_type: Vec<String>,
    /// How many CPUs, e.g. 7.5
    #[arg(long, value_name = "N")]
    pub cpus: Option<f64>,
    /// Memory, e.g. 512m or 4g
    #[arg(long, short, value_name = "SIZE", value_parser = size::parse_mb, conflicts_with = "memory_mb")]
    pub memory: Option<u64>,
    /// Memory in MB
    #[arg(long, value_name = "MB")]
    pub memory_mb: Option<u64>,
    /// Size of /dev/shm in MB
    #[arg(long, value_name = "MB")]
    pub shm_mb: Option<u64>,
    /// A variable; without a value: the one of this environment; repeatable
    #[arg(long, short, value_name = "KEY[=VALUE]", value_parser = variable)]
    pub env: Vec<(String, String)>,
    /// A folder of your data on the device (SOURCE, relative) at TARGET in the container; repeatable
    #[arg(long, short = 'v', value_name = "SOURCE:TARGET[:ro]", value_parser = mount)]
    pub mount: Vec<MountArg>,
    /// A container port and its name; repeatable
    #[arg(long, short, value_name = "NAME=PORT", value_parser = port)]
    pub port: Vec<(String, u16)>,
    /// Repeatable
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = key_value)]
    pub label: Vec<(String, String)>,
    /// A label that its device must have; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub constraint: Vec<(String, String)>,
    /// It may use what is idle beyond its queue's quota, and is stopped and placed again when others need it
    #[arg(long)]
    pub preemptible: bool,
    /// Larger goes first: 100–200, operators and admins 1–1000
    #[arg(long)]
    pub priority: Option<i32>,
    /// How long one attempt may run, e.g. 3600 or 2h
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// How often it is started again after it failed
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// A job that must have succeeded before, or an array, by its whole id, all of whose jobs must;
    /// repeatable
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub after: Vec<JobRef>,
    /// N jobs of the same kind, which find their BERTH_ARRAY_INDEX (from 0) in their environment; MAX of
    /// them at the same time
    #[arg(long, value_name = "N[%MAX]", value_parser = array)]
    pub array: Option<Array>,
    /// Containers of the job, which start together or not at all; each gets what is asked for
    #[arg(long, value_name = "N")]
    pub replicas: Option<u32>,
    /// Wait until it is released
    #[arg(long)]
    pub hold: bool,
    /// Where its command runs, an absolute path in the container
    #[arg(long, short, value_name = "PATH")]
    pub workdir: Option<String>,
    /// The same key submits the same job once [default: a random one]
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// A specification, JSON or YAML (- for standard input); flags win over it
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The command and its arguments, run as they are, without a shell [default: the image's own]
    #[arg(last = true, value_name = "ARGV")]
    pub argv: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountArg {
    pub source: String,
    pub target: String,
    pub read_only: bool,
}

/// `N` or `N%MAX`.
fn array(text: &str) -> Result<Array, String> {
    let form = |_| "write N or N%MAX, e.g. 100 or 100%8".to_owned();
    let (count, max_running) = match text.split_once('%') {
        Some((count, max)) => (count, Some(max.parse().map_err(form)?)),
        None => (text, None),
    };
    Ok(Array { count: count.parse().map_err(form)?, max_running })
}

/// `KEY=VALUE`.
///
/// # Errors
/// The form, when `text` has another.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        Some(_) | None => Err("write KEY=VALUE".into()),
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    if text.contains('=') || text.is_empty() {
        return key_value(text);
    }
    let value = std::env::var(text).map_err(|_| format!("{text} is not set here; write {text}=VALUE"))?;
    Ok((text.into(), value))
}

fn port(text: &str) -> Result<(String, u16), String> {
    let form = || "write NAME=PORT, a port from 1 to 65535".to_owned();
    let (name, number) = key_value(text).map_err(|_| form())?;
    match number.parse() {
        Ok(number) if number > 0 => Ok((name, number)),
        Ok(_) | Err(_) => Err(form()),
    }
}

fn mount(text: &str) -> Result<MountArg, String> {
    let form = || "write SOURCE:TARGET or SOURCE:TARGET:ro".to_owned();
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, read_only) = match parts.as_slice() {
        [source, target] | [source, target, "rw"] => (source, target, false),
        [source, target, "ro"] => (source, target, true),
        _ => return Err(form()),
    };
    if source.is_empty() || target.is_empty() {
        return Err(form());
    }
    Ok(MountArg { source: (*source).into(), target: (*target).into(), read_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_split_at_the_first_equals_sign() {
        assert_eq!(key_value("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(key_value("A="), Ok(("A".into(), String::new())));
        for bad in ["A", "=b", ""] {
            assert!(key_value(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_variable_without_a_value_is_the_environments() {
        assert_eq!(variable("PATH").map(|(key, _)| key), Ok("PATH".into()));
        assert!(variable("BERTH_SURELY_NOT_SET").is_err_and(|why| why.contains("not set")));
        assert!(variable("").is_err());
    }

    #[test]
    fn ports_and_mounts_have_their_forms() {
        assert_eq!(port("ssh=22"), Ok(("ssh".into(), 22)));
        for bad in ["ssh", "ssh=", "ssh=0", "ssh=65536", "=22", "ssh=-1"] {
            assert!(port(bad).is_err(), "{bad}");
        }
        let of = |source: &str, target: &str, read_only| {
            Ok(MountArg { source: source.into(), target: target.into(), read_only })
        };
        assert_eq!(mount("data/c4:/c4"), of("data/c4", "/c4", false));
        assert_eq!(mount("data/c4:/c4:rw"), of("data/c4", "/c4", false));
        assert_eq!(mount("data/c4:/c4:ro"), of("data/c4", "/c4", true));
        for bad in ["data", ":/c4", "data:", "data:/c4:rx", "a:b:ro:ro"] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }
}
