//! The program `berth-worker`: reads its configuration and hands over to the library.

use std::process::ExitCode;

use berth_worker::config::{Cli, Command};
use berth_worker::guard::Stay;
use clap::Parser;

fn main() -> ExitCode {
    let cli = Cli::parse();
    berth_common::logging::start(&cli.log, cli.log_format.is_json());
    let done = match cli.command {
        None | Some(Command::Run) => {
            let guard = cli.for_guard();
            berth_worker::run(cli.settings, guard)
        }
        Some(Command::Adopt) => berth_worker::adopt(&cli.settings),
        Some(Command::Guard { with_worker: false }) => berth_worker::guard(&cli.settings, Stay::Always),
        Some(Command::Guard { with_worker: true }) => berth_worker::guard(&cli.settings, Stay::WithWorker),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
