//! The program `berth-worker`: reads its configuration and hands over to the library.

use std::process::ExitCode;

use berth_worker::config::{Cli, Command};
use clap::Parser;

fn main() -> ExitCode {
    let cli = Cli::parse();
    berth_common::logging::start(&cli.log, cli.log_format.is_json());
    let done = match cli.command {
        None | Some(Command::Run) => berth_worker::run(cli.settings),
        Some(Command::Adopt) => berth_worker::adopt(&cli.settings),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
