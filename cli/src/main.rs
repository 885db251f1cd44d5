//! `berth`: the command for users and operators. It speaks the HTTP API and nothing else;
//! `simulate` speaks to nobody, but for `--snapshot`.
//!
//! What must always hold: exit codes are 0 done, 1 the request failed, 2 wrong usage, and for `run`
//! and `wait` the job's own; standard output carries what was asked for, standard error everything
//! else; without a terminal there is neither colour nor a progress bar.

mod args;
mod array;
mod client;
mod cluster_args;
mod command;
mod command_args;
mod deliver;
mod devices;
mod duration;
mod exec;
mod failure;
mod follow;
mod list;
mod log_stream;
mod logs;
mod operate;
mod outcome;
mod output;
mod patience;
mod progress;
mod queues;
mod read;
mod request_error;
mod resolve;
mod run;
mod settings;
mod show;
mod simulate;
mod simulate_args;
mod size;
mod spec_args;
mod spec_body;
mod sse;
mod submit;
mod table;
mod telemetry;
#[cfg(test)]
mod tests;
mod users;
mod wait;
mod why;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use client::Client;
use failure::Failure;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // rustls has no built-in choice here; a second installation cannot happen and would not matter.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    match execute(cli).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => failure::report(&error),
    }
}

async fn execute(cli: Cli) -> Result<u8, Failure> {
    let settings = settings::load(cli.url, cli.token)?;
    let client = Client::new(settings)?;
    let json = cli.json;
    match cli.command {
        Command::Submit(args) => submit::submit(&client, &args, json).await,
        Command::Run(args) => run::run(&client, &args, json).await,
        Command::Ls(args) => list::list(&client, &args, json).await,
        Command::Show(args) => show::show(&client, &args, json).await,
        Command::Why(args) => why::why(&client, &args, json).await,
        Command::Logs(args) => logs::logs(&client, &args).await,
        Command::Kill(args) => command::kill(&client, &args, json).await,
        Command::Hold(args) => command::hold(&client, &args, json).await,
        Command::Release(args) => command::release(&client, &args, json).await,
        Command::Retry(args) => command::retry(&client, &args, json).await,
        Command::Approve(args) => command::approve(&client, &args, json).await,
        Command::Priority(args) => command::priority(&client, &args, json).await,
        Command::Timeout(args) => command::timeout(&client, &args, json).await,
        Command::Exec(args) => exec::exec(&client, &args, json).await,
        Command::Wait(args) => wait::wait(&client, &args, json).await,
        Command::Devices(args) => devices::devices(&client, &args, json).await,
        Command::Drain(args) => operate::drain(&client, &args, json).await,
        Command::Resume(args) => operate::resume(&client, &args, json).await,
        Command::Queues(args) => queues::queues(&client, &args, json).await,
        Command::Users(args) => users::users(&client, &args, json).await,
        Command::Simulate(args) => simulate::simulate(&client, &args, json).await,
    }
}
