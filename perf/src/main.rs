//! The load generator that corelane brings: closed-loop produce and fetch runs against any Kafka broker.
//!
//! One thread per connection, blocking sockets, every request encoded once and sent again and again with a new
//! correlation id, so that what is measured is the broker. With `--pid` it says what the broker's process paid.

mod client;
mod host;
mod report;
mod run;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "corelane-perf", about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write records.
    Produce(run::Produce),
    /// Read records from the beginning of the partitions, again and again if need be.
    Fetch(run::Fetch),
}

fn main() -> std::process::ExitCode {
    let result = match Arguments::parse().command {
        Command::Produce(produce) => run::produce(&produce),
        Command::Fetch(fetch) => run::fetch(&fetch),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
