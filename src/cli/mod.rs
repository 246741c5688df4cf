//! Sub-commands of the `corelane` binary. Errors are one line on stderr and exit code 1.
//!
//! [`start`] is the broker. [`topic`], [`group`], [`txn`], [`settings`] and [`cluster`] talk to any Kafka broker
//! through [`client`], which is plain blocking sockets: only `start` has shards. [`target`] and [`table`] are what they have in
//! common: which broker, text for people or one JSON document.

mod client;
mod cluster;
mod completions;
mod configs;
mod confirm;
mod group;
mod inspect;
mod logging;
mod partitions;
mod progress;
mod settings;
mod start;
mod table;
mod target;
mod time;
mod topic;
mod txn;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

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
    /// Topics of a running broker of any make: list, create, describe, delete, alter, produce, consume.
    #[command(subcommand)]
    Topic(topic::Command),
    /// Consumer groups of a running broker of any make: list, describe, lag, reset-offsets, delete, delete-offsets.
    #[command(subcommand)]
    Group(group::Command),
    /// Transactions of a running broker of any make: list, describe, find those that hang, abort one.
    #[command(subcommand)]
    Txn(txn::Command),
    /// Settings: of a running broker's topics, of a running broker, of a file.
    #[command(subcommand)]
    Config(settings::Command),
    /// A running cluster as a whole.
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Measure a Kafka-protocol broker: produce, consume, end-to-end and mixed load, consumer groups; `bench examples` has recipes.
    #[command(subcommand)]
    Bench(corelane_perf::Command),
    /// See what the files of a log directory hold, and with --verify whether anything is damaged.
    Inspect(inspect::Arguments),
    /// See and set what the host offers the broker.
    #[command(subcommand)]
    Tune(corelane_tuning::Command),
    /// A script that lets a shell complete these commands.
    Completions(completions::Arguments),
}

/// Parses the arguments and runs the sub-command; the exit code is the process's.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Start(arguments) => start::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Topic(command) => topic::run(&command),
        Command::Group(command) => group::run(&command),
        Command::Txn(command) => txn::run(&command),
        Command::Config(command) => settings::run(&command),
        Command::Cluster(command) => cluster::run(&command),
        Command::Completions(arguments) => completions::run(&arguments, Arguments::command()),
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
