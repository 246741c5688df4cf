//! Topic configs: the table of what may be set, its validation, and its resolution against the broker's settings.

use std::collections::BTreeMap;

use super::setting::{ConfigEntry, ConfigSource, ConfigSynonym, Setting, Valid, split_list};
pub use super::topic_config_table::{Synonym, TABLE, TopicConfig};
pub use crate::model::CleanupPolicy;
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

/// How much of a compressed batch is checked before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validation {
    /// Header and checksum.
    Header,
    /// Decompressed, every record's framing walked.
    Full,
}

/// What the broker's own settings say about topics: the properties that are set, and the smallest segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDefaults {
    /// Set in the broker's configuration, to be read at its start.
    set: BTreeMap<&'static str, String>,
    /// Set while the cluster runs: for every broker, over the configuration, and for this one, over both.
    live_of_all: BTreeMap<&'static str, String>,
    live_of_broker: BTreeMap<&'static str, String>,
    segment_bytes_min: i64,
}

/// For whom a broker setting is set while the cluster runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    AllBrokers,
    Broker,
}

impl Default for TopicDefaults {
    fn default() -> TopicDefaults {
        TopicDefaults {
            set: BTreeMap::new(),
            live_of_all: BTreeMap::new(),
            live_of_broker: BTreeMap::new(),
            segment_bytes_min: SEGMENT_BYTES_MIN,
        }
    }
}

/// Kafka's own minimum of segment.bytes.
pub const SEGMENT_BYTES_MIN: i64 = 1_048_576;

impl TopicDefaults {
    /// Sets a broker property that topics inherit. `Ok(false)`: there is none of that name; the error says what is
    /// allowed.
    pub fn set(&mut self, property: &str, value: &str) -> Result<bool, String> {
        let Some((topic, synonym)) = find_synonym(property) else { return Ok(false) };
        let value = self.with_minimum(&synonym.setting(topic)).parse(value)?;
        self.set.insert(synonym.name, value);
        Ok(true)
    }

    /// Sets a property while the cluster runs, or with `None` takes it back. Whether that may change what topics
    /// inherit. A value that a newer version wrote and this one cannot read counts as not set.
    pub fn set_live(&mut self, level: Level, property: &str, value: Option<&str>) -> bool {
        let Some((topic, synonym)) = find_synonym(property) else { return false };
        let value = value.and_then(|value| self.with_minimum(&synonym.setting(topic)).parse(value).ok());
        let live = match level {
            Level::AllBrokers => &mut self.live_of_all,
            Level::Broker => &mut self.live_of_broker,
        };
        match value {
            Some(value) => live.insert(synonym.name, value.clone()) != Some(value),
            None => live.remove(synonym.name).is_some(),
        }
    }

    /// What the broker property is set to, if it is.
    #[must_use]
    pub fn get(&self, property: &str) -> Option<&str> {
        self.layers().into_iter().find_map(|(set, _)| set.get(property)).map(String::as_str)
    }

    /// What is set, in order of precedence.
    fn layers(&self) -> [(&BTreeMap<&'static str, String>, ConfigSource); 3] {
        [
            (&self.live_of_broker, ConfigSource::DynamicBroker),
            (&self.live_of_all, ConfigSource::DynamicDefaultBroker),
            (&self.set, ConfigSource::StaticBroker),
        ]
    }

    /// For tests: segments smaller than Kafka allows. Applies to what is set afterwards.
    pub fn set_segment_bytes_min(&mut self, bytes: i64) {
        self.segment_bytes_min = bytes;
    }

    pub(super) fn with_minimum(&self, setting: &Setting) -> Setting {
        match setting.name {
            "segment.bytes" | "log.segment.bytes" => {
                Setting { valid: Valid::AtLeast(self.segment_bytes_min), ..*setting }
            }
            _ => *setting,
        }
    }
}

/// The value as it is kept. The error names the key, the value and what is allowed.
pub fn validate(key: &str, value: &str, defaults: &TopicDefaults) -> Result<String, String> {
    let topic = find(key).ok_or_else(|| format!("unknown topic config name: {key}"))?;
    let complain = |allowed: &str| format!("invalid value {value} for configuration {key}: {allowed}");
    let value = defaults.with_minimum(&topic.setting).parse(value).map_err(|allowed| complain(&allowed))?;
    if key == "remote.storage.enable" && value == "true" {
        return Err(complain("tiered storage is not available, must be false"));
    }
    Ok(value)
}

/// What only shows when a topic's overrides are looked at together.
pub fn validate_together(
    overrides: &BTreeMap<String, String>,
    defaults: &TopicDefaults,
) -> Result<(), String> {
    let settings = resolve(overrides, defaults);
    if settings.min_compaction_lag_ms > settings.max_compaction_lag_ms {
        return Err(format!(
            "min.compaction.lag.ms ({}) must not be larger than max.compaction.lag.ms ({})",
            settings.min_compaction_lag_ms, settings.max_compaction_lag_ms
        ));
    }
    Ok(())
}

/// The broker setting of this name, and the topic config that inherits it.
#[must_use]
pub fn find_synonym(property: &str) -> Option<(&'static TopicConfig, &'static Synonym)> {
    TABLE.iter().find_map(|topic| {
        topic.synonyms.iter().find(|synonym| synonym.name == property).map(|synonym| (topic, synonym))
    })
}

/// The definition of a topic config.
#[must_use]
pub fn find(key: &str) -> Option<&'static TopicConfig> {
    TABLE.binary_search_by(|topic| topic.setting.name.cmp(key)).ok().map(|at| &TABLE[at])
}

/// The value in force, whoever set it.
#[must_use]
pub fn effective(
    topic: &TopicConfig,
    overrides: &BTreeMap<String, String>,
    defaults: &TopicDefaults,
) -> String {
    if let Some(value) = overrides.get(topic.setting.name) {
        return value.clone();
    }
    let inherited =
        topic.synonyms.iter().find_map(|synonym| Some(scale(defaults.get(synonym.name)?, synonym)));
    inherited.unwrap_or_else(|| topic.setting.default.unwrap_or_default().to_owned())
}

/// Hours and minutes as milliseconds; what is negative has no limit and stays so.
fn scale(value: &str, synonym: &Synonym) -> String {
    match value.parse::<i64>() {
        Ok(number) if synonym.scale != 1 && number >= 0 => number.saturating_mul(synonym.scale).to_string(),
        _ => value.to_owned(),
    }
}

/// The settings of a topic with these overrides. One that a newer version wrote and this one cannot read counts as
/// not set.
#[must_use]
pub fn resolve(overrides: &BTreeMap<String, String>, defaults: &TopicDefaults) -> LogSettings {
    let values = Values { overrides, defaults };
    let cleanup = values.text("cleanup.policy");
    LogSettings {
        segment_bytes: values.number("segment.bytes"),
        segment_ms: values.number("segment.ms"),
        segment_jitter_ms: values.number("segment.jitter.ms"),
        segment_index_bytes: values.number("segment.index.bytes"),
        index_interval_bytes: values.number("index.interval.bytes"),
        preallocate: values.number("preallocate"),
        max_message_bytes: values.number("max.message.bytes"),
        timestamp_type: match values.text("message.timestamp.type").as_str() {
            "LogAppendTime" => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        },
        timestamp_before_max_ms: values.number("message.timestamp.before.max.ms"),
        timestamp_after_max_ms: values.number("message.timestamp.after.max.ms"),
        compression: match values.text("compression.type").as_str() {
            "uncompressed" => Compression::None,
            "gzip" => Compression::Gzip { level: values.number("compression.gzip.level") },
            "snappy" => Compression::Snappy,
            "lz4" => Compression::Lz4 { level: values.number("compression.lz4.level") },
            "zstd" => Compression::Zstd { level: values.number("compression.zstd.level") },
            _ => Compression::Producer,
        },
        cleanup: CleanupPolicy {
            delete: split_list(&cleanup).contains(&"delete"),
            compact: split_list(&cleanup).contains(&"compact"),
        },
        retention_ms: values.number::<i64>("retention.ms").max(-1),
        retention_bytes: values.number::<i64>("retention.bytes").max(-1),
        delete_retention_ms: values.number("delete.retention.ms"),
        file_delete_delay_ms: values.number("file.delete.delay.ms"),
        flush_messages: values.number("flush.messages"),
        flush_ms: values.number("flush.ms"),
        min_compaction_lag_ms: values.number("min.compaction.lag.ms"),
        max_compaction_lag_ms: values.number("max.compaction.lag.ms"),
        min_cleanable_dirty_ratio: values.number("min.cleanable.dirty.ratio"),
        min_insync_replicas: values.number("min.insync.replicas"),
        unclean_leader_election: values.number("unclean.leader.election.enable"),
        durability: match values.text("corelane.durability").as_str() {
            "written" => Durability::Written,
            _ => Durability::Flushed,
        },
        validation: match values.text("corelane.validation").as_str() {
            "full" => Validation::Full,
            _ => Validation::Header,
        },
    }
}

struct Values<'a> {
    overrides: &'a BTreeMap<String, String>,
    defaults: &'a TopicDefaults,
}

impl Values<'_> {
    fn text(&self, key: &str) -> String {
        effective(known(key), self.overrides, self.defaults)
    }

    /// A number or a boolean.
    fn number<T: std::str::FromStr>(&self, key: &str) -> T {
        let default = known(key).setting.default.unwrap_or_default();
        let parsed = self.text(key).parse().or_else(|_| default.parse()).ok();
        parsed.unwrap_or_else(|| panic!("the default of {key} does not parse"))
    }
}

fn known(key: &str) -> &'static TopicConfig {
    find(key).unwrap_or_else(|| panic!("{key} is not in the table of topic configs"))
}

/// Every topic config with its effective value, by name.
#[must_use]
pub fn describe(overrides: &BTreeMap<String, String>, defaults: &TopicDefaults) -> Vec<ConfigEntry> {
    TABLE.iter().map(|topic| describe_one(topic, overrides, defaults)).collect()
}

fn describe_one(
    topic: &TopicConfig,
    overrides: &BTreeMap<String, String>,
    defaults: &TopicDefaults,
) -> ConfigEntry {
    let name = topic.setting.name;
    let synonym = |name, value: Option<&str>, source| {
        value.map(|value| ConfigSynonym { name, value: Some(value.to_owned()), source })
    };
    let own = synonym(name, overrides.get(name).map(String::as_str), ConfigSource::Topic);
    let set = defaults.layers().into_iter().flat_map(|(set, source)| {
        topic.synonyms.iter().map(move |s| synonym(s.name, set.get(s.name).map(String::as_str), source))
    });
    let default = topic.synonyms.iter().map(|s| synonym(s.name, s.default, ConfigSource::Default));
    // Kafka begins with the setting that changes while the broker runs: hours alone, or minutes, it does not tell.
    let first = topic.synonyms.first().map(|first| first.name);
    let inherited = set.chain(default).flatten().skip_while(|synonym| Some(synonym.name) != first);
    let synonyms: Vec<_> = own.into_iter().chain(inherited).collect();
    ConfigEntry {
        name,
        value: Some(effective(topic, overrides, defaults)),
        default: topic.setting.default.map(str::to_owned),
        source: synonyms.first().map_or(ConfigSource::Default, |first| first.source),
        kind: topic.setting.kind,
        read_only: false,
        sensitive: false,
        synonyms,
        doc: topic.setting.doc,
    }
}
