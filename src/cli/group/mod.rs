//! `corelane group`: consumer groups seen, measured, set to other offsets and deleted.
//!
//! [`described`] is what a coordinator says of a group, of whichever protocol, in one form; [`committed`] how far it has
//! read; [`position`] puts that beside the partitions' logs and members. Share groups and streams groups are listed and
//! deleted, no more.

mod committed;
mod delete;
mod describe;
mod described;
mod lag;
mod list;
mod position;
mod reset;

use clap::Subcommand;

#[derive(Subcommand)]
pub(super) enum Command {
    /// All groups, or those of a state, a type, a beginning.
    List(list::List),
    /// A group's state, its members with what they read, and how far it is in each partition.
    Describe(describe::Describe),
    /// How many records groups have still to read, all together and in their worst partition.
    Lag(lag::Lag),
    /// Let a group without members read on elsewhere. Shows what would be; --execute does it.
    ResetOffsets(reset::ResetOffsets),
    /// Delete groups without members, and all they have committed.
    Delete(delete::Delete),
    /// Forget what a group has committed for topics that none of its members reads.
    DeleteOffsets(delete::DeleteOffsets),
}

pub(super) fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::List(arguments) => list::run(arguments),
        Command::Describe(arguments) => describe::run(arguments),
        Command::Lag(arguments) => lag::run(arguments),
        Command::ResetOffsets(arguments) => reset::run(arguments),
        Command::Delete(arguments) => delete::groups(arguments),
        Command::DeleteOffsets(arguments) => delete::offsets(arguments),
    }
}
