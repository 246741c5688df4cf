//! `corelane bench` without the broker around it.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "corelane-perf", about, version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: corelane_perf::Command,
}

fn main() -> ExitCode {
    match corelane_perf::run(&Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
