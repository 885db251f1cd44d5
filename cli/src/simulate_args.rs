//! `berth simulate` on the command line.

use std::path::PathBuf;
use std::time::Duration;

use berth_policy::queue::{Order, Placement};
use clap::{Args, ValueEnum};

use crate::duration;
use crate::simulate::added::Added;

/// What `--help` says at its end.
const MORE: &str = "\
Formats:
  CSV   a line of column names, then a line a job: id,submit,dur,limit,gpus,queue,user (seconds; any
        order). submit, dur and gpus must be there. Also: expected, priority, gpu_type (A100|H100),
        cpus, memory_mb, preemptible
  SWF   the Standard Workload Format of the Parallel Workloads Archive; a processor counts as a GPU
  Both may be compressed by gzip. Nothing is sent to a scheduler, and none is needed, but for --snapshot.

Examples:
  berth simulate trace.csv --cluster 64x8
  berth simulate trace.csv.gz --cluster inventory.json --policy xf,fifo --svg queue.svg --csv jobs.csv
  berth simulate --snapshot --add 2x8 --add 1x4xA100-80GB
  berth simulate --generate 10000 --seed 1 --cluster 8x8 > trace.csv
  berth simulate openb_pod_list_default.csv.gz --cluster openb_node_list_gpu_node.csv.gz --fill 1.3";

/// Ten thousand jobs a second are played; a billion is a mistake.
const MOST_JOBS: i64 = 10_000_000;

#[derive(Debug, Args)]
#[command(after_help = MORE)]
pub struct SimulateArgs {
    /// The trace: a CSV or SWF file, or a list of pods for --fill
    #[arg(value_name = "TRACE", required_unless_present_any = ["generate", "snapshot"])]
    pub trace: Option<PathBuf>,
    /// Hosts x GPUs, or a file of devices: JSON, e.g. [{"name": "dgx", "count": 4, "gpus": 8}], or a CSV
    /// list of nodes as Alibaba's
    #[arg(long, value_name = "HOSTSxGPUS|FILE", required_unless_present_any = ["generate", "snapshot"])]
    pub cluster: Option<String>,
    /// Ask the scheduler what runs and waits now, and play that to its end: when would each job start?
    #[arg(long, conflicts_with_all = ["trace", "cluster", "generate", "fill", "policy", "placement", "one_queue",
          "enforce_limits", "until", "csv", "svg"])]
    pub snapshot: bool,
    /// With --snapshot: and when with so many hosts more, with so many GPUs each; repeatable
    #[arg(long, value_name = "HOSTSxGPUS[xTYPE]", requires = "snapshot",
          conflicts_with_all = ["trace", "cluster", "generate"])]
    pub add: Vec<Added>,
    /// Orders to compare; the service's own is xf (expansion factor, with a promise to the first that
    /// must wait)
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["xf", "fifo-backfill", "fifo"])]
    pub policy: Vec<OrderName>,
    /// How devices are chosen; with several, each policy is run with each
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["pack"])]
    pub placement: Vec<PlacementName>,
    /// Put all jobs into one queue, whatever queues the trace has
    #[arg(long)]
    pub one_queue: bool,
    /// End jobs at their limits; else they run as long as the trace says
    #[arg(long)]
    pub enforce_limits: bool,
    /// Only jobs of this time from the first submission on, e.g. 7d
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub until: Option<Duration>,
    /// Write what became of every job to this file, as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Draw jobs waiting and GPUs busy over time into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Make up a trace of so many jobs and print it: Philly-like work for the cluster of --cluster
    /// [default: 8x8]
    #[arg(long, value_name = "JOBS", value_parser = clap::value_parser!(u32).range(1..=MOST_JOBS),
          conflicts_with_all = ["trace", "fill", "csv", "svg"])]
    pub generate: Option<u32>,
    /// How much of the cluster's GPU time the made up jobs want while they are submitted
    #[arg(long, value_name = "PART", default_value_t = 0.9, value_parser = part)]
    pub load: f64,
    /// Where chance begins, for --generate and --fill; replaying a trace has no chance in it
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,
    /// Fill the cluster with the pods of TRACE in random order until so much of its GPU capacity has
    /// arrived; nothing ends, what does not fit is dropped; prints how much of the GPUs was allocated
    #[arg(long, value_name = "PART", value_parser = part, conflicts_with_all = ["csv", "svg"])]
    pub fill: Option<f64>,
    /// With --fill: the mean of so many random orders
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub seeds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OrderName {
    Xf,
    Fifo,
    FifoBackfill,
}

impl From<OrderName> for Order {
    fn from(name: OrderName) -> Self {
        match name {
            OrderName::Xf => Self::Expansion,
            OrderName::Fifo => Self::Fifo,
            OrderName::FifoBackfill => Self::FifoBackfill,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlacementName {
    Pack,
    Spread,
    Fgd,
}

impl From<PlacementName> for Placement {
    fn from(name: PlacementName) -> Self {
        match name {
            PlacementName::Pack => Self::Pack,
            PlacementName::Spread => Self::Spread,
            PlacementName::Fgd => Self::Fgd,
        }
    }
}

/// A part of a capacity; more than a hundred times of it is a mistake.
fn part(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(part) if part > 0.0 && part <= 100.0 => Ok(part),
        Ok(_) | Err(_) => Err("write a part of the cluster's GPUs above 0, e.g. 1.3".to_owned()),
    }
}
