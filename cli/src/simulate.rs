//! `berth simulate`: what a cluster would have done with a trace; nothing is sent anywhere. Or, with `--snapshot`, what
//! will become of what waits now.
//!
//! What must always hold: standard output has the result and nothing else; what a person should know about it
//! goes to standard error; a violation is a failure.

pub mod added;
mod present;
mod snapshot;
mod unseen;

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use berth_policy::queue::{Order, Placement};
use berth_simulate::cluster::{self, Cluster};
use berth_simulate::fill::{self, Filled};
use berth_simulate::generate::{self, Work};
use berth_simulate::metrics::{Summary, summary};
use berth_simulate::run::{Limits, Options, Queues, Run, run};
use berth_simulate::trace::{self, Trace};
use berth_simulate::{picture, table as per_job};
use indicatif::{ProgressBar, ProgressStyle};

use crate::client::Client;
use crate::duration;
use crate::failure::Failure;
use crate::output;
use crate::simulate_args::SimulateArgs;
use crate::table::{Entry, Table, Tone};

/// For which cluster work is made up if none is named.
const GENERATED_FOR: &str = "8x8";

/// # Errors
/// As the scheduler refuses, with `--snapshot`; else as [`replay`].
pub async fn simulate(client: &Client, args: &SimulateArgs, json: bool) -> Result<u8, Failure> {
    if args.snapshot { snapshot::snapshot(client, &args.add, json).await } else { replay(args, json) }
}

/// # Errors
/// What is wrong with the trace, the cluster or a file to be written, or that something happened that must not.
fn replay(args: &SimulateArgs, json: bool) -> Result<u8, Failure> {
    let cluster = args.cluster.as_deref().unwrap_or(GENERATED_FOR);
    let cluster = cluster::read(cluster).map_err(|error| Failure::Unmet(error.to_string()))?;
    if let Some(jobs) = args.generate {
        return made_up(args, jobs, &cluster);
    }
    let Some(file) = &args.trace else {
        return Err(Failure::Usage("name a trace, or --generate one".to_owned()));
    };
    if let Some(part) = args.fill {
        return fill_up(args, file, part, &cluster, json);
    }
    let trace = trace::read(file).map_err(|error| Failure::Unmet(error.to_string()))?;
    trace.notes.iter().for_each(|note| say(file, note));
    // Before a long run, not after it.
    let (csv, svg) = (args.csv.as_deref().map(create), args.svg.as_deref().map(create));
    let (csv, svg) = (csv.transpose()?, svg.transpose()?);
    let runs = play(args, &trace, &cluster);
    let summaries: Vec<Summary> = runs.iter().map(|run| summary(&trace, run)).collect();
    if let Some(file) = csv {
        file.write(|out| per_job::write(&trace, &runs, out))?;
    }
    if let Some(file) = svg {
        file.write(|out| out.write_all(picture::svg(&trace, &runs).as_bytes()))?;
    }
    if json {
        output::print_json(&summaries)?;
    } else {
        tell(file, &trace, &cluster, &runs);
        output::print(&table(&summaries).to_string())?;
    }
    judge(&runs)
}

fn made_up(args: &SimulateArgs, jobs: u32, cluster: &Cluster) -> Result<u8, Failure> {
    let work = Work { jobs, seed: args.seed, gpus: cluster.gpus(), load: args.load };
    let mut out = BufWriter::new(io::stdout().lock());
    generate::write(&work, &mut out)?;
    out.flush()?;
    Ok(0)
}

fn fill_up(
    args: &SimulateArgs,
    file: &Path,
    part: f64,
    cluster: &Cluster,
    json: bool,
) -> Result<u8, Failure> {
    let pods = fill::read(file).map_err(|error| Failure::Unmet(error.to_string()))?;
    let bar = bar(args.placement.len() as u64);
    let mut filled: Vec<Filled> = Vec::new();
    for placement in &args.placement {
        filled.push(fill::fill(&pods, cluster, (*placement).into(), part, args.seed, args.seeds));
        bar.inc(1);
    }
    bar.finish_and_clear();
    if json {
        output::print_json(&filled)?;
    } else {
        let headings = ["PLACEMENT", "GPUS ALLOCATED", "LEAST", "MOST", "PODS", "DROPPED", "SEEDS"];
        let mut table = Table::new(&headings).numbers(&(1..headings.len()).collect::<Vec<_>>());
        for of in &filled {
            let percent = |part: f64| Entry::from(format!("{part:.2}%"));
            let count = |count: f64| Entry::from(format!("{count:.0}"));
            let seeds = Entry::from(of.seeds.to_string());
            let shares = [percent(of.allocated), percent(of.allocated_min), percent(of.allocated_max)];
            let mut row = vec![Entry::from(&of.placement)];
            row.extend(shares);
            row.extend([count(of.pods), count(of.dropped), seeds]);
            table.row(row);
        }
        output::print(&table.to_string())?;
    }
    match filled.iter().map(|of| of.violations).sum() {
        0 => Ok(0),
        wrong => Err(Failure::Unmet(format!("{wrong} pods were placed where they do not fit"))),
    }
}

/// Our own policy first, each once.
fn policies(args: &SimulateArgs) -> Vec<(Order, Placement)> {
    let orders = args.policy.iter().map(|name| Order::from(*name));
    let mut orders: Vec<Order> = orders.collect();
    orders.sort_by_key(|order| *order != Order::Expansion);
    let placements = || args.placement.iter().map(|name| Placement::from(*name));
    let mut all = Vec::new();
    for policy in orders.into_iter().flat_map(|order| placements().map(move |placement| (order, placement))) {
        if !all.contains(&policy) {
            all.push(policy);
        }
    }
    all
}

fn play(args: &SimulateArgs, trace: &Trace, cluster: &Cluster) -> Vec<Run> {
    let policies = policies(args);
    let jobs = trace.jobs.len() as u64;
    let bar = bar(jobs * policies.len() as u64);
    let until = args.until.map(|until| i64::try_from(until.as_millis()).unwrap_or(i64::MAX));
    let mut runs = Vec::new();
    for (place, (order, placement)) in (0..).zip(policies) {
        bar.set_message(berth_simulate::run::name(order, placement));
        // The others are compared with as they are published, and as such they know no queues.
        let own = !args.one_queue && order == Order::Expansion;
        let queues = if own { Queues::Own } else { Queues::One };
        let limits = if args.enforce_limits { Limits::Enforced } else { Limits::Trusted };
        let options = Options { order, placement, queues, limits, until };
        runs.push(run(trace, cluster, options, &mut |ended| bar.set_position(place * jobs + ended)));
    }
    bar.finish_and_clear();
    runs
}

fn bar(length: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:16} [{bar:40}] {percent:>3} %  {eta} left");
    let bar = ProgressBar::new(length);
    match style {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

/// A file that was asked for.
struct Output<'a> {
    path: &'a Path,
    file: File,
}

fn create(path: &Path) -> Result<Output<'_>, Failure> {
    let file = File::create(path).map_err(|error| cannot_write(path, &error))?;
    Ok(Output { path, file })
}

impl Output<'_> {
    fn write(self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
        let mut out = BufWriter::new(self.file);
        write(&mut out).and_then(|()| out.flush()).map_err(|error| cannot_write(self.path, &error))
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::Unmet(format!("cannot write {}: {error}", path.display()))
}

/// What the table is about.
fn tell(file: &Path, trace: &Trace, cluster: &Cluster, runs: &[Run]) {
    let (jobs, devices, gpus) = (trace.jobs.len(), cluster.devices.len(), cluster.gpus());
    say(file, &format!("{jobs} jobs on {devices} devices with {gpus} GPUs"));
    if !cluster.typed && trace.types.all().len() > 1 {
        say(file, "the cluster names no types of GPUs: those that jobs ask for are not looked at");
    }
    if !cluster.measured && trace.jobs.iter().any(|job| job.cpu_milli > 0 || job.memory_mb > 0) {
        say(file, "the cluster names no CPUs and no memory: what jobs ask of them is not looked at");
    }
    if let Some(run) = runs.first() {
        if run.infeasible > 0 {
            say(file, &format!("{} jobs are larger than the cluster and were left out", run.infeasible));
        }
        if run.left_out > 0 {
            say(file, &format!("{} jobs came later than --until and were left out", run.left_out));
        }
    }
}

fn say(file: &Path, what: &str) {
    output::say(&output::escape(&format!("{}: {what}", file.display())));
}

fn table(summaries: &[Summary]) -> Table {
    let headings = [
        "POLICY",
        "JOBS",
        "WAIT",
        "P50",
        "P99",
        "MAX",
        "JCT",
        "P99",
        "SLOWDOWN",
        "USED",
        "MAKESPAN",
        "PROMISES",
        "BROKEN",
        "VIOLATIONS",
    ];
    let mut table = Table::new(&headings).numbers(&(1..headings.len()).collect::<Vec<_>>());
    let time = |seconds: f64| Entry::from(duration::format(seconds.round() as i64));
    let count = |count: usize| {
        let tone = (count > 0).then_some(Tone::Bad);
        Entry::toned(&count.to_string(), tone)
    };
    for of in summaries {
        table.row(vec![
            Entry::from(&of.policy),
            Entry::from(of.jobs.to_string()),
            time(of.wait_avg),
            time(of.wait_p50),
            time(of.wait_p99),
            time(of.wait_max),
            time(of.jct_avg),
            time(of.jct_p99),
            Entry::from(format!("{:.1}", of.bsld_avg)),
            Entry::from(format!("{:.1}%", of.utilization * 100.0)),
            time(of.makespan),
            Entry::from(of.promises.to_string()),
            count(of.promises_broken),
            count(of.violations),
        ]);
    }
    table
}

/// A simulation in which something happened that must not is worth nothing.
fn judge(runs: &[Run]) -> Result<u8, Failure> {
    match runs.iter().find(|run| run.violations > 0) {
        None => Ok(0),
        Some(run) => {
            let found = run.found.join("; ");
            Err(Failure::Unmet(format!("{}: {} violations: {found}", run.policy, run.violations)))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn parse(line: &str) -> Result<SimulateArgs, clap::Error> {
        match Cli::try_parse_from(line.split(' '))?.command {
            Command::Simulate(args) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn our_own_policy_is_first_and_each_is_run_once() {
        let args = parse("berth simulate t.csv --cluster 1x1 --policy fifo,xf,fifo --placement pack,fgd")
            .expect("parses");
        let names: Vec<String> = policies(&args)
            .into_iter()
            .map(|(order, placement)| berth_simulate::run::name(order, placement))
            .collect();
        assert_eq!(names, ["xf", "xf/fgd", "fifo", "fifo/fgd"]);
    }

    #[test]
    fn a_trace_needs_a_cluster_and_making_one_up_does_not() {
        assert!(parse("berth simulate t.csv").is_err());
        assert!(parse("berth simulate --cluster 8x8").is_err());
        assert!(parse("berth simulate --generate 10").is_ok());
        assert!(parse("berth simulate t.csv --cluster 8x8 --generate 10").is_err());
        assert!(parse("berth simulate t.csv --cluster 8x8 --fill 0").is_err());
        assert!(parse("berth simulate --snapshot --add 2x8 --add 1x4xT4").is_ok());
        for line in ["t.csv --cluster 8x8 --add 2x8", "t.csv --snapshot", "--snapshot --cluster 8x8"] {
            assert!(parse(&format!("berth simulate {line}")).is_err(), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_before_anything_is_played() {
        for (line, said) in [
            ("berth simulate /nowhere/t.csv --cluster 8x8", "/nowhere/t.csv"),
            ("berth simulate t.csv --cluster many", "64x8"),
            ("berth simulate t.csv --cluster 8x0", ""),
        ] {
            let args = parse(line).expect("parses");
            let error = replay(&args, false).expect_err("is refused").to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
