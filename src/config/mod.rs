//! Every broker setting: Kafka's property name (or ours with the `corelane.` prefix), type, default, range, unit and
//! what it does, in one table; parsed from `server.properties` and `--set key=value`. Pure: the caller reads the file.

use std::path::PathBuf;

use crate::metadata::{ConfigEntry, Settings, TopicDefaults};
use crate::model::{BrokerId, SecurityProtocol};

/// The broker's settings, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub node_id: BrokerId,
    pub rack: Option<String>,
    pub listeners: Vec<Listener>,
    pub log_dirs: Vec<PathBuf>,
    pub auto_create_topics_enable: bool,
    /// num.partitions, default.replication.factor, delete.topic.enable …
    pub controller: Settings,
    /// What topics inherit: log.segment.bytes, message.max.bytes, corelane.durability …
    pub topic_defaults: TopicDefaults,

    pub socket_request_max_bytes: usize,
    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    /// `None`: idle connections stay.
    pub connections_max_idle_ms: Option<u64>,
    pub fetch_max_bytes: usize,
    pub group_initial_rebalance_delay_ms: u64,
    pub producer_id_expiration_ms: i64,
    /// log.flush.offset.checkpoint.interval.ms: how often recovery points are written.
    pub checkpoint_interval_ms: u64,
    pub retention_check_interval_ms: u64,

    /// corelane.shard.*: budgets of each shard, bytes.
    pub shard: ShardBudgets,
    /// corelane.disk.reserve.bytes
    pub disk_reserve_bytes: u64,
    /// corelane.cores: as `--cores`; `None`: every CPU of the affinity mask.
    pub cores: Option<String>,
    /// corelane.spin.us: how long an idle shard looks for work before it sleeps.
    pub spin_us: u64,
}

/// What one shard may hold in memory, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardBudgets {
    /// Requests in flight, from the frame's size until the reply has left.
    pub request_bytes: usize,
    pub tail_cache_bytes: usize,
    pub read_ahead_bytes: usize,
    pub producer_state_bytes: usize,
}

/// One place to listen on, and what clients are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    pub protocol: SecurityProtocol,
    /// Empty: every interface, IPv4 and IPv6.
    pub host: String,
    /// 0: any free one (for tests).
    pub port: u16,
    pub advertised_host: String,
    /// 0: the port that was bound.
    pub advertised_port: u16,
}

/// Worth a line in the log; the broker starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub String);

/// The broker cannot start: names the key, the value and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Config {
    /// `text`: the path and content of a properties file; `sets`: `key=value`, the last one wins, over the file.
    pub fn load(text: Option<(&str, &str)>, sets: &[String]) -> Result<(Config, Vec<Warning>), ConfigError> {
        let _ = (text, sets);
        unimplemented!()
    }

    /// Every setting for DescribeConfigs of this broker, by name.
    #[must_use]
    pub fn describe(&self) -> Vec<ConfigEntry> {
        unimplemented!()
    }

    /// Listeners that anybody on the network can use: no authentication, and not bound to loopback only.
    #[must_use]
    pub fn open_listeners(&self) -> Vec<&Listener> {
        unimplemented!()
    }
}

/// The table of settings as Markdown, for the documentation.
#[must_use]
pub fn reference_markdown() -> String {
    unimplemented!()
}
