//! Topic configs: the table of what may be set, its validation, and its resolution against the broker's settings.

use std::collections::BTreeMap;

use crate::model::Durability;

/// Everything storage and handlers need to know of a topic, its own configs over the broker's.
#[derive(Clone, Debug, PartialEq)]
pub struct LogSettings {
    pub segment_bytes: u64,
    pub segment_ms: i64,
    pub segment_jitter_ms: i64,
    pub segment_index_bytes: u64,
    pub index_interval_bytes: u64,
    pub preallocate: bool,
    pub max_message_bytes: usize,
    pub timestamp_type: TimestampType,
    /// How far a record's timestamp may lie before the broker's clock.
    pub timestamp_before_max_ms: i64,
    /// How far a record's timestamp may lie after the broker's clock.
    pub timestamp_after_max_ms: i64,
    pub compression: Compression,
    pub cleanup: CleanupPolicy,
    /// -1: no limit.
    pub retention_ms: i64,
    /// -1: no limit.
    pub retention_bytes: i64,
    pub delete_retention_ms: i64,
    pub file_delete_delay_ms: i64,
    pub flush_messages: i64,
    pub flush_ms: i64,
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64,
    pub min_cleanable_dirty_ratio: f64,
    pub min_insync_replicas: i32,
    pub unclean_leader_election: bool,
    /// corelane.durability
    pub durability: Durability,
    /// corelane.validation
    pub validation: Validation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// What the stored batches are compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Whatever the producer chose.
    Producer,
    None,
    Gzip {
        level: i32,
    },
    Snappy,
    Lz4 {
        level: i32,
    },
    Zstd {
        level: i32,
    },
}

/// Both off: records are kept for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

/// How much of a compressed batch is checked before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validation {
    /// Header and checksum.
    Header,
    /// Decompressed, every record's framing walked.
    Full,
}

/// What the broker's own settings say about topics: broker property → value, for the properties that are set.
/// Values have been validated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicDefaults {
    set: BTreeMap<&'static str, String>,
}

/// Kafka's `DescribeConfigsResponse.ConfigType`; the discriminant is Kafka's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    Password = 9,
}

/// Kafka's `DescribeConfigsResponse.ConfigSource`; the discriminant is Kafka's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    Topic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
}

/// One config as DescribeConfigs and CreateTopics tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: &'static str,
    /// `None` when there is none, and for sensitive ones.
    pub value: Option<String>,
    /// What it would be if nobody had set anything.
    pub default: Option<String>,
    pub source: ConfigSource,
    pub kind: ConfigType,
    pub read_only: bool,
    pub sensitive: bool,
    /// Where the value comes from and what it hides, in order of precedence.
    pub synonyms: Vec<ConfigSynonym>,
    pub doc: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSynonym {
    pub name: &'static str,
    pub value: Option<String>,
    pub source: ConfigSource,
}

/// Checks one override. The message names the key, the value and what is allowed.
pub fn validate(key: &str, value: &str, defaults: &TopicDefaults) -> Result<(), String> {
    let _ = (key, value, defaults);
    unimplemented!()
}

/// The settings of a topic with these (valid) overrides.
#[must_use]
pub fn resolve(overrides: &BTreeMap<String, String>, defaults: &TopicDefaults) -> LogSettings {
    let _ = (overrides, &defaults.set);
    unimplemented!()
}

/// Every topic config with its effective value, by name.
#[must_use]
pub fn describe(overrides: &BTreeMap<String, String>, defaults: &TopicDefaults) -> Vec<ConfigEntry> {
    let _ = (overrides, defaults);
    unimplemented!()
}
