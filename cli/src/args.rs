//! The command line: what may be written, and what `--help` says about it.

use std::time::Duration;

use berth_common::job::{Outcome, Status};
use clap::{Args, Parser, Subcommand};
use uuid::Uuid;

use crate::cluster_args::{DeviceArgs, DevicesArgs, DrainArgs, QueuesArgs, UsersArgs};
use crate::command_args::{ExecArgs, JobsArgs, PriorityArgs, RetryArgs, StopArgs, TimeoutArgs};
use crate::duration::{self, Since};
use crate::resolve::JobRef;
use crate::simulate_args::SimulateArgs;
use crate::spec_args::SpecArgs;

/// Where `--help` puts what every command takes.
const GLOBAL: &str = "Global options";

/// Submit containers to a Berth cluster and look after them.
///
/// Exit codes: 0 done, 1 the request failed, 2 wrong usage; `run` and `wait` exit with the job's own.
#[derive(Debug, Parser)]
#[command(name = "berth", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// The scheduler [env: BERTH_URL] [default: the configuration file's, or http://127.0.0.1:7300]
    // Read by hand and not by clap: an empty variable means "not set".
    #[arg(long, global = true, value_name = "URL", help_heading = GLOBAL)]
    pub url: Option<String>,
    /// Who you are [env: BERTH_TOKEN] [default: the configuration file's]
    #[arg(long, global = true, value_name = "TOKEN", help_heading = GLOBAL)]
    pub token: Option<String>,
    /// Print the API's JSON, one document, for scripts
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Submit a job and print its id
    Submit(Box<SpecArgs>),
    /// Submit a job, follow its log, exit with its exit code (Ctrl-C kills it, twice detaches)
    Run(Box<SpecArgs>),
    /// List jobs, newest first
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Show a job: where it is, why it waits, its attempts
    Show(JobArgs),
    /// Say why a job waits, and what you could change; of an array, why the first that waits does
    Why(JobArgs),
    /// Print a job's log
    Logs(LogArgs),
    /// Stop jobs for good
    Kill(StopArgs),
    /// Stop jobs, or keep them from starting, until they are released
    Hold(StopArgs),
    /// Let held jobs go on
    Release(JobsArgs),
    /// Run exited jobs again
    Retry(RetryArgs),
    /// Let jobs start that wait for an approval (admin)
    Approve(JobsArgs),
    /// Change the place of a waiting job in its queue: larger is sooner
    Priority(PriorityArgs),
    /// Change how long a job may run, from its start on
    Timeout(TimeoutArgs),
    /// Run a command in a running job's container; print what it says, exit with its exit code
    Exec(ExecArgs),
    /// Wait until jobs are over; exit with the first exit code that is not 0
    Wait(WaitArgs),
    /// List devices, or show one with its GPUs, or its telemetry; remove one (admin)
    #[command(visible_alias = "device")]
    Devices(DevicesArgs),
    /// Let nothing new start on a device (admin)
    Drain(DrainArgs),
    /// Let a drained device take jobs again (admin)
    Resume(DeviceArgs),
    /// List queues, or show one; add, change or remove one (admin)
    #[command(visible_alias = "queue")]
    Queues(QueuesArgs),
    /// List users; add one, make a token (admin)
    Users(UsersArgs),
    /// What would this cluster do with that trace, or with two more hosts: compare policies, look ahead
    Simulate(Box<SimulateArgs>),
}

#[derive(Debug, Args)]
pub struct JobArgs {
    /// The job's id, or as much of its beginning as is unique
    #[arg(value_name = "ID")]
    pub job: JobRef,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// unapproved, pending, scheduled, running, exited; repeatable
    #[arg(long, value_delimiter = ',')]
    pub status: Vec<Status>,
    /// succeeded, failed, killed, timed_out, error; repeatable
    #[arg(long, value_delimiter = ',')]
    pub outcome: Vec<Outcome>,
    #[arg(long, value_name = "USER")]
    pub owner: Option<String>,
    #[arg(long)]
    pub queue: Option<String>,
    #[arg(long)]
    pub device: Option<String>,
    /// The jobs of this array
    #[arg(long, value_name = "ID")]
    pub array: Option<Uuid>,
    /// Jobs with this label; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::spec_args::key_value)]
    pub label: Vec<(String, String)>,
    /// How many at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "all")]
    pub limit: u32,
    /// However many there are
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct LogArgs {
    #[command(flatten)]
    pub job: JobArgs,
    /// Go on until the job is over; wait for its start if need be
    #[arg(long, short)]
    pub follow: bool,
    /// Only the last N lines
    #[arg(long, short = 'n', value_name = "N")]
    pub tail: Option<u64>,
    /// Of this attempt [default: the newest]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub attempt: Option<u32>,
    /// Of this replica of a gang, from 0 [default: 0]
    #[arg(long, value_name = "N")]
    pub replica: Option<u32>,
    /// Only what was written since then: 10m (ago), or a time like 2027-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
    /// Only this stream
    #[arg(long, value_parser = ["stdout", "stderr"])]
    pub stream: Option<String>,
}

#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Ids, or as much of their beginnings as is unique; an array's whole id stands for all its jobs
    #[arg(value_name = "ID", required = true)]
    pub jobs: Vec<JobRef>,
    /// Give up after this time, e.g. 90 or 2h, and exit with 1
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        for line in [["berth", "--json", "show", "0192abcd"], ["berth", "show", "0192abcd", "--json"]] {
            assert!(Cli::try_parse_from(line).expect("parses").json);
        }
    }

    #[test]
    fn wrong_usage_is_found_before_anything_is_sent() {
        for line in [
            &["berth"][..],
            &["berth", "show"],
            &["berth", "show", "not-an-id"],
            &["berth", "kill"],
            &["berth", "why"],
            &["berth", "priority", "0192"],
            &["berth", "priority", "0192", "1001"],
            &["berth", "ls", "--status", "gone"],
            &["berth", "ls", "--limit", "0"],
            &["berth", "devices", "--telemetry"],
            &["berth", "devices", "a/b"],
            &["berth", "devices", "rm"],
            &["berth", "drain"],
            &["berth", "exec", "0192", "ls"],
            &["berth", "retry", "0192", "--set", "image"],
            &["berth", "queues", "add", "--approval"],
            &["berth", "queues", "set", "nlp", "--user-quota", "T4"],
            &["berth", "submit", "--image", "i", "--array", "5%"],
            &["berth", "wait", "0192", "--timeout", "soon"],
            &["berth", "submit", "--image", "i", "--gpuss", "2", "--", "true"],
            &["berth", "submit", "--image", "i", "true"],
        ] {
            let error = Cli::try_parse_from(line).expect_err("refused");
            assert_eq!(error.exit_code(), 2, "{line:?}: {error}");
        }
    }
}
