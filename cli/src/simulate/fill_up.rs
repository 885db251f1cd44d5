//! `berth simulate --fill`: how much of a cluster's GPUs can be allocated.

use std::path::Path;

use berth_simulate::cluster::Cluster;
use berth_simulate::fill::{self, Filled};

use super::bar;
use crate::failure::Failure;
use crate::output;
use crate::simulate_args::SimulateArgs;
use crate::table::{Entry, Table};

/// # Errors
/// What is wrong with the list of pods, or that one was placed where it does not fit.
pub fn fill_up(
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
