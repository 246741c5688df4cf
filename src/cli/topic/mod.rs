//! `corelane topic`: topics made, seen, changed and deleted; records put in and taken out.

mod change;
mod consume;
mod describe;
mod format;
mod produce;

use clap::Subcommand;

use super::target::counted;

#[derive(Subcommand)]
pub(super) enum Command {
    /// All topics.
    List(describe::List),
    /// Make a topic.
    Create(change::Create),
    /// One topic's settings, and for each partition its leader, replicas and offsets.
    Describe(describe::Describe),
    /// Delete topics and all that is in them.
    Delete(change::Delete),
    /// Change a topic's settings or its number of partitions.
    Alter(change::Alter),
    /// Write records from stdin: a line is a value, unless --format says otherwise.
    Produce(produce::Produce),
    /// Print records: a value is a line, unless --format says otherwise; with --json a record is an object on a line.
    Consume(consume::Consume),
}

pub(super) fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::List(arguments) => describe::list(arguments),
        Command::Create(arguments) => change::create(arguments),
        Command::Describe(arguments) => describe::describe(arguments),
        Command::Delete(arguments) => change::delete(arguments),
        Command::Alter(arguments) => change::alter(arguments),
        Command::Produce(arguments) => produce::run(arguments),
        Command::Consume(arguments) => consume::run(arguments),
    }
}

/// "3 partitions, 1 replica".
fn size(partitions: usize, replicas: usize) -> String {
    let each = if replicas == 1 { "" } else { " each" };
    format!("{}, {}{each}", counted(partitions as u64, "partition"), counted(replicas as u64, "replica"))
}
