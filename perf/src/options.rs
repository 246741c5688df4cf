//! What a run can be told, as options of the command line. Every kind of run takes the groups that concern it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::units::{self, ByteRange};
use crate::wire::batch::Codec;

/// What every kind of run takes.
#[derive(Args, Clone, Debug)]
pub struct Load {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub topics: Topics,
    #[command(flatten)]
    pub length: Length,
    #[command(flatten)]
    pub produce: Produce,
    #[command(flatten)]
    pub output: Output,
}

/// Which broker, and how to watch it.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// Address of a broker; the others of its cluster are found through it.
    #[arg(long, short, default_value = "localhost:9092", value_name = "HOST:PORT", help_heading = "Broker")]
    pub bootstrap: String,
    /// Process id of the broker, to say what the run cost it. Default: who listens on the bootstrap port here.
    #[arg(long, help_heading = "Broker")]
    pub pid: Option<u32>,
    /// Where the broker has its metrics (Prometheus text): their growth joins the report. Default: corelane's own
    /// address, if it answers.
    #[arg(long, value_name = "HOST:PORT", help_heading = "Broker")]
    pub metrics: Option<String>,
}

/// Which topics.
#[derive(Args, Clone, Debug)]
pub struct Topics {
    /// Use this topic, make it if it is not there, and keep it. Default: a topic of the run's own, deleted at its end.
    #[arg(long, short, help_heading = "Topics")]
    pub topic: Option<String>,
    /// Number of topics; with --topic they are NAME-0, NAME-1 and so on.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Topics")]
    pub topics: u32,
    /// Partitions of each topic that is made.
    #[arg(long, short, default_value_t = 8, value_parser = clap::value_parser!(i32).range(1..=1_000_000), help_heading = "Topics")]
    pub partitions: i32,
    /// Copies of each partition that is made; -1: the broker's default.
    #[arg(long, default_value_t = -1, allow_hyphen_values = true, help_heading = "Topics")]
    pub replication_factor: i16,
    /// A setting of the topics that are made, KEY=VALUE; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value, help_heading = "Topics")]
    pub topic_config: Vec<(String, String)>,
    /// Keep the run's own topic.
    #[arg(long, help_heading = "Topics")]
    pub keep_topic: bool,
}

/// How long.
#[derive(Args, Clone, Debug)]
pub struct Length {
    /// How long to measure, after the warm-up; in whole seconds.
    #[arg(long, short, default_value = "10s", value_parser = units::duration, help_heading = "Length")]
    pub duration: Duration,
    /// Left out of the figures; in whole seconds.
    #[arg(long, default_value = "2s", value_parser = units::duration, help_heading = "Length")]
    pub warm_up: Duration,
    /// Stop after so many records, warm-up included, if that is earlier than the duration.
    #[arg(long, value_parser = units::count, help_heading = "Length")]
    pub records: Option<u64>,
    /// Stop after so many bytes of keys, values and headers, warm-up included, if that is earlier.
    #[arg(long, value_parser = units::bytes, help_heading = "Length")]
    pub bytes: Option<u64>,
}

impl Length {
    /// The warm-up in whole seconds, as the figures are kept by.
    #[must_use]
    pub fn warm_up_seconds(&self) -> u64 {
        self.warm_up.as_secs() + u64::from(self.warm_up.subsec_nanos() > 0)
    }

    /// When the measured time is over, in nanoseconds since the run began: whole seconds, too.
    #[must_use]
    pub fn until(&self) -> u64 {
        let seconds = self.duration.as_secs() + u64::from(self.duration.subsec_nanos() > 0);
        seconds.saturating_add(self.warm_up_seconds()).saturating_mul(1_000_000_000)
    }
}

/// What is written, and how.
#[derive(Args, Clone, Debug)]
pub struct Produce {
    /// Producers; each has a connection to every broker that leads a partition.
    #[arg(long, alias = "connections", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Producers")]
    pub producers: u32,
    /// Records per second of all producers together, sent on a schedule: latency counts from when a record was due.
    /// Default: as fast as the broker answers (closed loop).
    #[arg(long, short, value_parser = units::count, help_heading = "Producers")]
    pub rate: Option<u64>,
    /// Find the highest rate whose p99 latency stays below this, by runs of --search-step each.
    #[arg(long, value_name = "P99", value_parser = units::duration, help_heading = "Producers")]
    pub search: Option<Duration>,
    /// Length of each run of a search.
    #[arg(long, default_value = "5s", value_parser = units::duration, help_heading = "Producers")]
    pub search_step: Duration,
    /// Bytes of a value, or a range from which each draws its size (100..2KiB).
    #[arg(long, short = 's', default_value = "1KiB", value_parser = units::byte_range, help_heading = "Producers")]
    pub record_bytes: ByteRange,
    /// Draw keys from so many; the key decides the partition, as in Kafka's own producer. Default: no keys.
    #[arg(long, value_parser = units::count, help_heading = "Producers")]
    pub keys: Option<u64>,
    /// Each producer writes to one partition only, the first producer to the first one and so on, in turns.
    #[arg(long, conflicts_with = "keys", help_heading = "Producers")]
    pub own_partition: bool,
    /// Bytes of a key.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(8..=65_536), help_heading = "Producers")]
    pub key_bytes: u32,
    /// Headers of each record.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1000), help_heading = "Producers")]
    pub headers: u32,
    /// Bytes of a header's value.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(0..=65_536), help_heading = "Producers")]
    pub header_bytes: u32,
    /// What the values are made of; text shrinks to a third or so, random bytes do not shrink.
    #[arg(long, value_enum, default_value_t = Payload::Text, help_heading = "Producers")]
    pub payload: Payload,
    /// A batch is full at this size, before compression.
    #[arg(long, default_value = "16KiB", value_parser = units::bytes, help_heading = "Producers")]
    pub batch_bytes: u64,
    /// How long a batch waits for more records (at a fixed rate).
    #[arg(long, default_value = "0ms", value_parser = units::duration, help_heading = "Producers")]
    pub linger: Duration,
    /// What is waited for: 0 nothing, 1 the leader, all the in-sync replicas.
    #[arg(long, default_value = "all", value_parser = acks, allow_hyphen_values = true, help_heading = "Producers")]
    pub acks: i16,
    /// What compresses the batches.
    #[arg(long, value_enum, default_value_t = Codec::None, help_heading = "Producers")]
    pub codec: Codec,
    /// Producer ids and sequence numbers, as clients do by default.
    #[arg(long, help_heading = "Producers")]
    pub idempotence: bool,
    /// Requests of a connection that may be unanswered.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Producers")]
    pub in_flight: u32,
    /// Most bytes of a request; batches of several partitions share one up to this.
    #[arg(long, default_value = "1MiB", value_parser = units::bytes, help_heading = "Producers")]
    pub request_bytes: u64,
    /// What a producer may keep that is not acknowledged; past it, it waits, and latency counts on.
    #[arg(long, default_value = "32MiB", value_parser = units::bytes, help_heading = "Producers")]
    pub buffer_bytes: u64,
    /// How the broker may take at most to answer (sent with each request).
    #[arg(long, default_value = "30s", value_parser = units::duration, help_heading = "Producers")]
    pub timeout: Duration,
    /// Count errors that the broker answers and go on; otherwise the first one ends the run.
    #[arg(long, help_heading = "Producers")]
    pub keep_going: bool,
}

/// What is read, and how.
#[derive(Args, Clone, Debug)]
pub struct Consume {
    /// Consumers; the partitions are shared out among them.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Consumers")]
    pub consumers: u32,
    /// Join this consumer group (classic protocol) for the partitions, and commit offsets to it.
    #[arg(long, help_heading = "Consumers")]
    pub group: Option<String>,
    /// Most bytes of a fetch response.
    #[arg(long, default_value = "50MiB", value_parser = units::bytes, help_heading = "Consumers")]
    pub fetch_bytes: u64,
    /// Most bytes of one partition in it.
    #[arg(long, default_value = "1MiB", value_parser = units::bytes, help_heading = "Consumers")]
    pub partition_bytes: u64,
    /// How long the broker may wait for --fetch-min-bytes.
    #[arg(long, default_value = "500ms", value_parser = units::duration, help_heading = "Consumers")]
    pub fetch_wait: Duration,
    /// What a fetch waits for.
    #[arg(long, default_value = "1", value_parser = units::bytes, help_heading = "Consumers")]
    pub fetch_min_bytes: u64,
    /// Check every batch's CRC and walk every record.
    #[arg(long, help_heading = "Consumers")]
    pub verify: bool,
}

/// How the tool itself runs, and what it writes.
#[derive(Args, Clone, Debug)]
pub struct Output {
    /// Threads of the load generator. Default: half of the CPUs it may use.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Tool")]
    pub threads: Option<u32>,
    /// CPUs to pin the threads to, as 2,3 or 4-7. Default: from the last one downwards.
    #[arg(long, value_parser = cpus, help_heading = "Tool")]
    pub cores: Option<Cpus>,
    /// The run's name in reports.
    #[arg(long, help_heading = "Report")]
    pub label: Option<String>,
    /// Write the report as JSON.
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub json: Option<PathBuf>,
    /// Write the report as one HTML page with plots.
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub html: Option<PathBuf>,
    /// No progress line.
    #[arg(long, short, help_heading = "Report")]
    pub quiet: bool,
}

/// CPU numbers in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus(pub Vec<usize>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Payload {
    Text,
    Random,
    Zeros,
}

pub fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn acks(text: &str) -> Result<i16, String> {
    match text {
        "0" => Ok(0),
        "1" => Ok(1),
        "all" | "-1" => Ok(-1),
        _ => Err("use 0, 1 or all".to_owned()),
    }
}

fn cpus(text: &str) -> Result<Cpus, String> {
    let bad = || format!("{text:?} is not a list of CPUs like 2,3 or 4-7");
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| bad())?;
        let last: usize = last.trim().parse().map_err(|_| bad())?;
        if first > last || last > 65_535 {
            return Err(bad());
        }
        cpus.extend(first..=last);
    }
    Ok(Cpus(cpus))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(cpus("3,0-1"), Ok(Cpus(vec![3, 0, 1])));
        for bad in ["", "a", "2-1", "1-999999", "-1"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
    }
}
