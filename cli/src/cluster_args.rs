//! The flags of what concerns the whole cluster: devices, queues, users.

use std::time::Duration;

use berth_common::queue::{Member, MemberRole, Placement, Policy};
use berth_common::telemetry::Table;
use clap::{Args, Subcommand};

use crate::duration;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DevicesArgs {
    #[command(subcommand)]
    pub command: Option<DevicesCommand>,
    /// Only this device, with its GPUs and the jobs that have them
    #[arg(value_parser = device_name)]
    pub name: Option<String>,
    /// What the device measured
    #[arg(long, requires = "name")]
    pub telemetry: bool,
    /// Only this table: gauge, memory, gpumem, diskio, netio
    #[arg(long, requires = "telemetry")]
    pub table: Option<Table>,
    /// How far back
    #[arg(long, requires = "telemetry", value_name = "TIME", value_parser = duration::parse, default_value = "1h")]
    pub last: Duration,
}

#[derive(Debug, Subcommand)]
pub enum DevicesCommand {
    /// Remove a device that is lost: what ran there ends as a fault
    Rm(DeviceArgs),
}

#[derive(Debug, Args)]
pub struct DeviceArgs {
    #[arg(value_name = "DEVICE", value_parser = device_name)]
    pub name: String,
}

#[derive(Debug, Args)]
pub struct DrainArgs {
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Stop what runs there too; it is placed elsewhere
    #[arg(long)]
    pub now: bool,
    /// Why; shown with the device
    #[arg(long)]
    pub note: Option<String>,
}

#[derive(Debug, Args)]
pub struct QueuesArgs {
    #[command(subcommand)]
    pub command: Option<QueuesCommand>,
}

#[derive(Debug, Subcommand)]
pub enum QueuesCommand {
    /// List queues (also without a command)
    Ls,
    /// Show a queue
    Show {
        #[arg(value_parser = path_name)]
        name: String,
    },
    /// Add a queue (admin)
    #[command(visible_alias = "create")]
    Add {
        name: String,
        #[command(flatten)]
        rules: QueueRules,
    },
    /// Change a queue; what is not named stays (admin)
    Set {
        #[arg(value_parser = path_name)]
        name: String,
        #[command(flatten)]
        rules: QueueRules,
    },
    /// Remove a queue that has had no jobs (admin)
    Rm {
        #[arg(value_parser = path_name)]
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct QueueRules {
    /// Its share of the cluster in proportion to the other queues, 1 to 1000 [default of a new queue: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub weight: Option<u32>,
    /// The order of its jobs: xf (they rise as they wait), fifo, or fifo-backfill [default: xf]
    #[arg(long)]
    pub policy: Option<Policy>,
    /// How devices are chosen: pack, spread, or fgd (least fragmentation) [default: pack]
    #[arg(long)]
    pub placement: Option<Placement>,
    /// GPUs of this type (* for all types) that its jobs may have at once; repeatable
    #[arg(long, value_name = "TYPE=N", value_parser = quota)]
    pub quota: Vec<(String, u32)>,
    /// As many GPUs as there are
    #[arg(long, conflicts_with = "quota")]
    pub no_quota: bool,
    /// Whether an admin approves every job
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub approval: Option<bool>,
    /// GPUs of this type (* for all types) that one user may have in use and waiting; what goes
    /// beyond waits for an approval; repeatable
    #[arg(long, value_name = "TYPE=N", value_parser = quota)]
    pub user_quota: Vec<(String, u32)>,
    /// No limit per user
    #[arg(long, conflicts_with = "user_quota")]
    pub no_user_quota: bool,
    /// How long a job may run that names no limit, e.g. 3600 or 7d
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub default_timeout: Option<Duration>,
    /// As long as the queue allows
    #[arg(long, conflicts_with = "default_timeout")]
    pub no_default_timeout: bool,
    /// The longest limit that a job may name, and the limit of those that name none where there is no
    /// --default-timeout
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub max_timeout: Option<Duration>,
    /// Any limit, or none
    #[arg(long, conflicts_with = "max_timeout")]
    pub no_max_timeout: bool,
    /// Jobs that are not over that it may have; 0 closes it
    #[arg(long, value_name = "N")]
    pub max_jobs: Option<u64>,
    /// As many jobs as there are
    #[arg(long, conflicts_with = "max_jobs")]
    pub no_max_jobs: bool,
    /// Who may submit, besides the members that there are: a member, or with =admin one who approves,
    /// kills, holds and orders its jobs; repeatable. A queue without members is open to everybody
    #[arg(long, value_name = "USER[=ROLE]", value_parser = member)]
    pub member: Vec<Member>,
    /// No member any more; repeatable
    #[arg(long, value_name = "USER")]
    pub remove_member: Vec<String>,
    /// Everybody may submit
    #[arg(long, conflicts_with_all = ["member", "remove_member"])]
    pub no_members: bool,
}

#[derive(Debug, Args)]
pub struct UsersArgs {
    #[command(subcommand)]
    pub command: Option<UsersCommand>,
}

#[derive(Debug, Subcommand)]
pub enum UsersCommand {
    /// Add a user
    Add {
        #[arg(value_parser = path_name)]
        name: String,
        /// user, operator or admin [default: the server's]
        #[arg(long)]
        role: Option<String>,
        #[arg(long)]
        email: Option<String>,
    },
    /// Make a token for a user and print it; it cannot be shown again
    Token {
        #[arg(value_parser = path_name)]
        name: String,
    },
}

fn device_name(name: &str) -> Result<String, String> {
    if berth_common::id::is_device_name(name) {
        Ok(name.to_owned())
    } else {
        Err("a device's name has lower-case letters, digits, '-' and '.'".to_owned())
    }
}

/// The server decides what a name may be; these would change the path of the request.
fn path_name(name: &str) -> Result<String, String> {
    if matches!(name, "" | "." | "..") { Err("is no name".to_owned()) } else { Ok(name.to_owned()) }
}

fn member(text: &str) -> Result<Member, String> {
    let (user, role) = match text.split_once('=') {
        Some((user, role)) => (user, role.parse()?),
        None => (text, MemberRole::Member),
    };
    if user.is_empty() {
        return Err("write USER, or USER=admin".to_owned());
    }
    Ok(Member { user: user.to_owned(), role })
}

fn quota(text: &str) -> Result<(String, u32), String> {
    let form = || "write TYPE=N, a number of GPUs, e.g. A100-80GB=4 or *=8".to_owned();
    let (kind, gpus) = crate::spec_args::key_value(text).map_err(|_| form())?;
    Ok((kind, gpus.parse().map_err(|_| form())?))
}
