//! What a run of groups can be told.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::options::{Output, Target};
use crate::units;

/// Consumer groups without records.
#[derive(Args, Clone, Debug)]
pub struct Groups {
    #[command(flatten)]
    pub target: Target,
    /// Number of groups.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Groups")]
    pub groups: u32,
    /// Members of each, with a connection each.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Groups")]
    pub members: u32,
    /// Who assigns: a member (classic) or the broker (consumer, KIP-848).
    #[arg(long, value_enum, default_value_t = Protocol::Classic, help_heading = "Groups")]
    pub protocol: Protocol,
    /// Time from one heartbeat of a member to the next. Default: 3s with the classic protocol, with the other what the
    /// broker says.
    #[arg(long, value_parser = units::duration, help_heading = "Groups")]
    pub heartbeat: Option<Duration>,
    /// After how long of silence the broker gives a member up (classic protocol; with the other it is the broker's).
    #[arg(long, default_value = "45s", value_parser = units::duration, help_heading = "Groups")]
    pub session_timeout: Duration,
    /// After the measured time a member leaves, then joins, then leaves again, so many times in all; a member of one group
    /// after the other.
    #[arg(long, default_value_t = 0, help_heading = "Groups")]
    pub rebalances: u32,
    /// Partitions of the topic that all groups read; it is the run's own.
    #[arg(long, short, default_value_t = 10, value_parser = clap::value_parser!(i32).range(1..=1_000_000), help_heading = "Groups")]
    pub partitions: i32,
    /// Copies of each partition; -1: the broker's default.
    #[arg(long, default_value_t = -1, allow_hyphen_values = true, help_heading = "Groups")]
    pub replication_factor: i16,
    /// How long to watch the broker with the connections open and nobody in a group: what it uses then is not counted for
    /// heartbeats.
    #[arg(long, default_value = "3s", value_parser = units::duration, help_heading = "Length")]
    pub idle: Duration,
    /// How long to measure heartbeats, after the warm-up; in whole seconds.
    #[arg(long, short, default_value = "10s", value_parser = units::duration, help_heading = "Length")]
    pub duration: Duration,
    /// Left out of the figures; in whole seconds. It begins when all groups are stable.
    #[arg(long, default_value = "2s", value_parser = units::duration, help_heading = "Length")]
    pub warm_up: Duration,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// JoinGroup, SyncGroup, Heartbeat.
    Classic,
    /// ConsumerGroupHeartbeat.
    Consumer,
}

impl Protocol {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Classic => "classic",
            Protocol::Consumer => "consumer",
        }
    }
}
