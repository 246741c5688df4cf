//! What a run of transactions can be told.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::options::{Output, Payload, Target, key_value};
use crate::units;

/// Transactions of producers that make one after another.
#[derive(Args, Clone, Debug)]
pub struct Transactions {
    #[command(flatten)]
    pub target: Target,
    /// Producers, each with a transactional id and connections of its own: to the coordinator and to the partitions' leaders,
    /// one where that is the same broker. The ids stay in the broker until they expire (transactional.id.expiration.ms).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Transactions")]
    pub producers: u32,
    /// Partitions that each transaction writes to, a batch into each. A producer's transactions go through the topic's
    /// partitions by turns.
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Transactions")]
    pub partitions: u32,
    /// Records of each batch.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Transactions")]
    pub records: u32,
    /// Bytes of a record's value.
    #[arg(long, short = 's', alias = "record-size", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_000_000), help_heading = "Transactions")]
    pub record_bytes: u32,
    /// What the values are made of.
    #[arg(long, value_enum, default_value_t = Payload::Text, help_heading = "Transactions")]
    pub payload: Payload,
    /// How a partition joins a transaction. Without one the batches are the same: what that costs less is the transaction's.
    #[arg(long, value_enum, default_value_t = Protocol::V2, help_heading = "Transactions")]
    pub protocol: Protocol,
    /// Transactions per second of all producers together, on a schedule: latency counts from when one was due, and it waits
    /// for a producer that has none under way. Default: each producer begins the next when one is committed (closed loop).
    #[arg(long, short, value_parser = units::count, help_heading = "Transactions")]
    pub rate: Option<u64>,
    /// Partitions of the topic; it is the run's own. Default: 100, or as many as a transaction has, if that is more.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Topic")]
    pub topic_partitions: Option<u32>,
    /// Copies of each partition; -1: the broker's default.
    #[arg(long, default_value_t = -1, allow_hyphen_values = true, help_heading = "Topic")]
    pub replication_factor: i16,
    /// A setting of the topic, KEY=VALUE; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value, help_heading = "Topic")]
    pub topic_config: Vec<(String, String)>,
    /// How long to measure, after the warm-up; in whole seconds.
    #[arg(long, short, default_value = "10s", value_parser = units::duration, help_heading = "Length")]
    pub duration: Duration,
    /// Left out of the figures; in whole seconds.
    #[arg(long, default_value = "2s", value_parser = units::duration, help_heading = "Length")]
    pub warm_up: Duration,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Clients from 4.0 on, transaction.version 2: Produce 12 adds its partitions, EndTxn 5 raises the epoch.
    V2,
    /// Clients before: AddPartitionsToTxn 3, Produce up to 11, EndTxn up to 4.
    Classic,
    /// Idempotent producers, no transaction.
    None,
}

impl Protocol {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::V2 => "v2",
            Protocol::Classic => "classic",
            Protocol::None => "none",
        }
    }
}

impl Transactions {
    /// How many partitions the topic is made with.
    #[must_use]
    pub fn partitions_of_topic(&self) -> u32 {
        const USUAL: u32 = 100;
        self.topic_partitions.unwrap_or(USUAL.max(self.partitions))
    }
}
