//! Every broker setting: Kafka's property name (or ours with the `corelane.` prefix), type, default, range, unit and
//! what it does, in one table; parsed from `server.properties` and `--set key=value`. Pure: the caller reads the file.
//!
//! `table` lists the settings (those that topics inherit stand with the topic configs, in
//! [`topic_config`](crate::metadata::topic_config)); [`Config::load`] checks what is set and gives the typed
//! [`Config`]; [`Config::live`] is what may change while the broker runs; [`Config::describe`] and
//! [`reference_markdown`] tell what there is.
//!
//! A key nobody knows is a warning, a value that is not allowed an error: a broker that starts runs on what its
//! settings say.

mod describe;
mod ignored;
mod listeners;
mod live;
mod load;
mod log_levels;
mod nearest;
mod properties;
mod shard_ports;
mod table;
#[cfg(test)]
mod tests;

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use describe::reference_markdown;
pub use log_levels::{LogLevel, LogLevels, ROOT};
pub use nearest::nearest;

use crate::coordinator::{group, transaction};
use crate::metadata::{Settings, TopicDefaults};
use crate::model::{BrokerId, SecurityProtocol};

/// The broker's settings, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub node_id: BrokerId,
    pub rack: Option<String>,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// admin.listener; `None`: off.
    pub admin_listener: Option<AdminListener>,
    /// At least one; the first also holds the metadata log.
    pub log_dirs: Vec<PathBuf>,
    pub auto_create_topics_enable: bool,
    /// num.partitions, default.replication.factor, delete.topic.enable …
    pub controller: Settings,
    /// When the metadata log is shortened: metadata.log.max.record.bytes.between.snapshots
    pub metadata_snapshot_bytes: u64,
    /// metadata.log.max.snapshot.interval.ms; 0: never for time alone.
    pub metadata_snapshot_interval_ms: u64,
    /// What topics inherit: log.segment.bytes, message.max.bytes, corelane.durability …
    pub topic_defaults: TopicDefaults,

    pub socket_request_max_bytes: usize,
    /// Instead of max.connections.per.ip: (address or host name, count).
    pub max_connections_per_ip_overrides: Vec<(String, usize)>,
    /// `None`: idle connections stay.
    pub connections_max_idle_ms: Option<u64>,
    /// corelane.slow.request.ms; `None`: no request is told as slow.
    pub slow_request_ms: Option<u64>,
    /// corelane.connection.handover
    pub connection_handover: bool,
    /// corelane.shard.port.offset; `None`: shards have no ports of their own.
    pub shard_port_offset: Option<u16>,
    pub fetch_max_bytes: usize,
    /// group.*, offsets.retention.*
    pub groups: group::Settings,
    /// offsets.topic.*
    pub offsets_topic: InternalTopic,
    /// transaction.*, transactional.id.expiration.ms
    pub transactions: transaction::Settings,
    /// transaction.state.log.*
    pub transactions_topic: InternalTopic,
    /// log.flush.offset.checkpoint.interval.ms: how often recovery points are written.
    pub checkpoint_interval_ms: u64,
    pub retention_check_interval_ms: u64,

    /// corelane.shard.*: budgets of each shard.
    pub shard: ShardBudgets,
    /// corelane.disk.reserve.bytes
    pub disk_reserve_bytes: u64,
    /// corelane.cores: as `--cores`; `None`: every CPU of the affinity mask.
    pub cores: Option<String>,
    /// corelane.spin.us: how long an idle shard looks for work before it sleeps.
    pub spin_us: u64,

    /// What is set of the table, as text; the properties that topics inherit are in `topic_defaults`.
    set: BTreeMap<&'static str, String>,
}

/// How a coordinator's topic is made when the first group, or transaction, needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InternalTopic {
    pub partitions: i32,
    /// At most; fewer, if there are fewer brokers.
    pub replication_factor: i16,
    /// At most; no more than there are replicas. `None`: as any topic has.
    pub min_insync_replicas: Option<i32>,
    pub segment_bytes: i32,
}

/// The settings that may change while the broker runs, beside those that topics inherit; as they are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    pub producer_id_expiration_ms: i64,
    /// log.cleaner.*
    pub cleaner: Cleaner,
    /// replica.alter.log.dirs.io.max.bytes.per.second
    pub relocation_bytes_per_second: u64,
    /// transaction.partition.verification.enable
    pub verifies_transactions: bool,
}

/// What the cleaner of compacted topics may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleaner {
    /// 0: nothing is compacted. Otherwise each shard has one cleaner, whatever the number.
    pub threads: usize,
    /// How long it sleeps when there is nothing to clean.
    pub backoff_ms: u64,
    /// Memory of the maps of all shards together.
    pub map_bytes: usize,
}

/// What one shard may hold in memory, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardBudgets {
    /// Requests in flight, from the frame's size until the reply has left. At least `socket_request_max_bytes`.
    pub request_bytes: usize,
    /// Of disk, in each log directory, and of what of it is pinned in memory.
    pub journal_bytes: u64,
    pub tail_cache_bytes: usize,
    pub read_ahead_bytes: usize,
    pub producer_state_bytes: usize,
}

/// One place to listen on, and what clients are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// In upper case.
    pub name: String,
    pub protocol: SecurityProtocol,
    /// An address or a name, IPv6 without brackets. Empty: every interface, IPv4 and IPv6.
    pub host: String,
    /// 0: any free one (for tests).
    pub port: u16,
    pub advertised_host: String,
    /// 0: the port that was bound.
    pub advertised_port: u16,
}

/// Where metrics and health are served over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminListener {
    /// As [`Listener::host`].
    pub host: String,
    /// 0: any free one (for tests).
    pub port: u16,
    /// Somebody has set it: a broker that cannot serve it must not start.
    pub is_set: bool,
}

/// Worth a line in the log; the broker starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub severity: Severity,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Info,
    Warning,
}

/// The broker cannot start: names the key, the value and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// What [`Config::check`] has found.
#[derive(Debug)]
pub struct Checked {
    /// The errors are at least one.
    pub result: Result<Config, Vec<ConfigError>>,
    pub warnings: Vec<Warning>,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Config {
    /// Listeners that anybody on the network can use: no authentication, and not bound to loopback only. A host name
    /// other than `localhost` counts as open; what it resolves to is not known here.
    #[must_use]
    pub fn open_listeners(&self) -> Vec<&Listener> {
        self.listeners.iter().filter(|listener| listener.is_open()).collect()
    }
}

impl Listener {
    fn is_open(&self) -> bool {
        let authenticates =
            matches!(self.protocol, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl);
        let loopback = match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => ip.to_ipv4_mapped().map_or(ip.is_loopback(), |ip| ip.is_loopback()),
            Ok(IpAddr::V4(ip)) => ip.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        };
        !authenticates && !loopback
    }
}
