//! `corelane txn`: transactions seen, those found that hang, and one of them aborted.
//!
//! Two sides know of a transaction: its coordinator, by transactional id ([`transaction`]), and each partition it writes
//! to, by producer id ([`producers`]). Readers of committed records wait where a partition's first open transaction begins.
//! One that a partition has open and no coordinator will ever end hangs ([`hanging`]).

mod abort;
mod describe;
mod find_hanging;
mod hanging;
mod list;
mod producers;
mod transaction;

use std::collections::BTreeSet;

use clap::{Args, Subcommand};

use crate::cli::client::{Client, TopicPartition};
use crate::cli::partitions::{Scope, indexes, resolve};

#[derive(Subcommand)]
pub(super) enum Command {
    /// All transactional ids, or those in a state, of a producer, of a form, with a transaction that takes long.
    List(list::List),
    /// How far the transaction of a transactional id is; or, with --topic, the producers that partitions know.
    Describe(describe::Describe),
    /// Transactions that partitions have open and no coordinator will end: readers of committed records wait for ever.
    FindHanging(find_hanging::FindHanging),
    /// End a transaction that hangs in one partition: what it has written there is never read as committed.
    Abort(abort::Abort),
}

pub(super) fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::List(arguments) => list::run(arguments),
        Command::Describe(arguments) => describe::run(arguments),
        Command::FindHanging(arguments) => find_hanging::run(arguments),
        Command::Abort(arguments) => abort::run(arguments),
    }
}

/// A topic's partitions, all or some.
#[derive(Args)]
struct Within {
    /// Of this topic.
    #[arg(long, short = 'T')]
    topic: Option<String>,
    /// Only of these of its partitions: 0 or 0,4-7; all without this.
    #[arg(long, short, value_name = "PARTITIONS", requires = "topic", value_parser = partitions)]
    partition: Option<Partitions>,
}

type Partitions = BTreeSet<i32>;

fn partitions(text: &str) -> Result<Partitions, String> {
    indexes(text).ok_or_else(|| "must be partitions, as 0 or 0,4-7".to_owned())
}

impl Within {
    /// `None`: no topic was given. What was given must exist.
    fn resolve(&self, client: &mut Client) -> Result<Option<BTreeSet<TopicPartition>>, String> {
        let Some(topic) = self.topic.clone() else { return Ok(None) };
        resolve(client, &[Scope { topic, partitions: self.partition.clone() }]).map(Some)
    }
}

fn number_or_dash(number: Option<i64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}
