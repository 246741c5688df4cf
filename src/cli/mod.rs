//! Sub-commands of the `corelane` binary. Errors are one line on stderr and exit code 1.

mod inspect;
mod logging;
mod start;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A Kafka-protocol broker: one pinned thread per core, direct I/O, durable before it acknowledges.
#[derive(Parser)]
#[command(name = "corelane", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the broker; without options it serves localhost:9092 from ./corelane-data.
    Start(start::Arguments),
    /// Measure a Kafka-protocol broker: produce, consume, end-to-end and mixed load; `bench examples` has recipes.
    #[command(subcommand)]
    Bench(corelane_perf::Command),
    /// See what the files of a log directory hold, and with --verify whether anything is damaged.
    Inspect(inspect::Arguments),
    /// See and set what the host offers the broker.
    #[command(subcommand)]
    Tune(corelane_tuning::Command),
}

/// Parses the arguments and runs the sub-command; the exit code is the process's.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Start(arguments) => start::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Bench(command) => corelane_perf::run(&command),
        Command::Tune(command) => corelane_tuning::run(&command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
