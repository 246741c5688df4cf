//! The table of topic configs. Source of names, types, defaults and ranges: Kafka 4.4's LogConfig and
//! ServerTopicConfigSynonyms; ours begin with `corelane.`.

use super::setting::{ConfigType, Setting, Valid};

/// A topic config, and the broker settings it falls back to.
#[derive(Clone, Copy, Debug)]
pub struct TopicConfig {
    pub setting: Setting,
    /// In order of precedence.
    pub synonyms: &'static [Synonym],
}

impl TopicConfig {
    /// The broker setting that may change while the broker runs, as in Kafka: the first, in the config's own unit.
    #[must_use]
    pub fn live_synonym(&self) -> Option<&'static Synonym> {
        self.synonyms.first()
    }
}

/// A broker setting that topics inherit.
#[derive(Clone, Copy, Debug)]
pub struct Synonym {
    pub name: &'static str,
    pub default: Option<&'static str>,
    /// What to multiply its value by: hours and minutes become milliseconds.
    pub scale: i64,
}

impl Synonym {
    /// The broker setting as the broker's table lists it.
    #[must_use]
    pub fn setting(&self, topic: &TopicConfig) -> Setting {
        let kind = if self.scale == 1 { topic.setting.kind } else { ConfigType::Int };
        Setting {
            name: self.name,
            kind,
            default: self.default,
            valid: topic.setting.valid,
            doc: topic.setting.doc,
        }
    }
}

const fn config(
    name: &'static str,
    kind: ConfigType,
    default: &'static str,
    valid: Valid,
    synonyms: &'static [Synonym],
    doc: &'static str,
) -> TopicConfig {
    TopicConfig { setting: Setting { name, kind, default: Some(default), valid, doc }, synonyms }
}

/// A synonym in the config's own unit.
const fn same(name: &'static str, default: &'static str) -> Synonym {
    Synonym { name, default: Some(default), scale: 1 }
}

/// A synonym without a default: it counts only when it is set.
const fn unset(name: &'static str, scale: i64) -> Synonym {
    Synonym { name, default: None, scale }
}

const fn hours(name: &'static str, default: &'static str) -> Synonym {
    Synonym { name, default: Some(default), scale: HOUR_MS }
}

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;

/// By name.
pub const TABLE: &[TopicConfig] = &[
    config(
        "cleanup.policy",
        ConfigType::List,
        "delete",
        Valid::ListOf(&["compact", "delete"]),
        &[same("log.cleanup.policy", "delete")],
        "What becomes of old segments: delete them by age and size, compact them to the last record of each key, both, or (empty) keep everything.",
    ),
    config(
        "compression.gzip.level",
        ConfigType::Int,
        "-1",
        Valid::BetweenOr(1, 9, -1),
        &[same("compression.gzip.level", "-1")],
        "Level at which batches of another codec are compressed when compression.type is gzip; -1 is the codec's own default.",
    ),
    config(
        "compression.lz4.level",
        ConfigType::Int,
        "9",
        Valid::Between(1, 17),
        &[same("compression.lz4.level", "9")],
        "Level at which batches of another codec are compressed when compression.type is lz4; 9 is the fast compressor, any other the one that takes its time.",
    ),
    config(
        "compression.type",
        ConfigType::String,
        "producer",
        Valid::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        &[same("compression.type", "producer")],
        "How batches are stored: as the producer compressed them, or in this codec. Batches of another codec are compressed anew, which costs CPU (corelane_recompressed_batches_total counts them).",
    ),
    config(
        "compression.zstd.level",
        ConfigType::Int,
        "3",
        Valid::Between(-131_072, 22),
        &[same("compression.zstd.level", "3")],
        "Level at which batches of another codec are compressed when compression.type is zstd.",
    ),
    config(
        "corelane.durability",
        ConfigType::String,
        "flushed",
        Valid::OneOf(&["flushed", "written"]),
        &[same("corelane.durability", "flushed")],
        "What an acknowledged write has behind it: flushed to the device's stable storage, or written to the device without a flush.",
    ),
    config(
        "corelane.validation",
        ConfigType::String,
        "header",
        Valid::OneOf(&["header", "full"]),
        &[same("corelane.validation", "header")],
        "How a compressed batch is checked before it is stored: header and checksum, or every record in it.",
    ),
    config(
        "delete.retention.ms",
        ConfigType::Long,
        "86400000",
        Valid::AtLeast(0),
        &[same("log.cleaner.delete.retention.ms", "86400000")],
        "How long a compacted topic keeps a tombstone, so that readers who began before it see it.",
    ),
    config(
        "errors.deadletterqueue.group.enable",
        ConfigType::Boolean,
        "false",
        Valid::Any,
        &[],
        "Whether share groups may use this topic as their dead letter queue.",
    ),
    config(
        "file.delete.delay.ms",
        ConfigType::Long,
        "60000",
        Valid::AtLeast(0),
        &[same("log.segment.delete.delay.ms", "60000")],
        "Accepted and not used: Kafka keeps the files of removed segments and deleted topics for this long, for those who still read them; here they go when nobody reads them any more.",
    ),
    config(
        "flush.messages",
        ConfigType::Long,
        "9223372036854775807",
        Valid::AtLeast(1),
        &[same("log.flush.interval.messages", "9223372036854775807")],
        "With corelane.durability=written: at most this many records are left unflushed. Otherwise everything is flushed.",
    ),
    config(
        "flush.ms",
        ConfigType::Long,
        "9223372036854775807",
        Valid::AtLeast(0),
        &[unset("log.flush.interval.ms", 1), same("log.flush.scheduler.interval.ms", "9223372036854775807")],
        "With corelane.durability=written: a record is flushed in this time at the latest. Otherwise everything is flushed.",
    ),
    config(
        "follower.replication.throttled.replicas",
        ConfigType::List,
        "",
        Valid::ThrottledReplicas,
        &[],
        "Replicas whose fetching is throttled while partitions are moved: partition:broker pairs, or * for all.",
    ),
    config(
        "index.interval.bytes",
        ConfigType::Int,
        "4096",
        Valid::AtLeast(0),
        &[same("log.index.interval.bytes", "4096")],
        "How many bytes of log lie between two entries of the offset index, from the next batch on.",
    ),
    config(
        "leader.replication.throttled.replicas",
        ConfigType::List,
        "",
        Valid::ThrottledReplicas,
        &[],
        "Replicas whose serving of followers is throttled while partitions are moved: partition:broker pairs, or * for all.",
    ),
    config(
        "local.retention.bytes",
        ConfigType::Long,
        "-2",
        Valid::AtLeast(-2),
        &[same("log.local.retention.bytes", "-2")],
        "Tiered storage: bytes kept on local disk; -2 is retention.bytes.",
    ),
    config(
        "local.retention.ms",
        ConfigType::Long,
        "-2",
        Valid::AtLeast(-2),
        &[same("log.local.retention.ms", "-2")],
        "Tiered storage: time kept on local disk; -2 is retention.ms.",
    ),
    config(
        "max.compaction.lag.ms",
        ConfigType::Long,
        "9223372036854775807",
        Valid::AtLeast(1),
        &[same("log.cleaner.max.compaction.lag.ms", "9223372036854775807")],
        "The longest a record of a compacted topic may wait for compaction.",
    ),
    config(
        "max.message.bytes",
        ConfigType::Int,
        "1048588",
        Valid::AtLeast(0),
        &[same("message.max.bytes", "1048588")],
        "The largest record batch that is accepted, as compressed by the producer and, where compression.type has it compressed anew, as it is stored.",
    ),
    config(
        "message.timestamp.after.max.ms",
        ConfigType::Long,
        "3600000",
        Valid::AtLeast(0),
        &[same("log.message.timestamp.after.max.ms", "3600000")],
        "How far a record's timestamp may lie after the broker's clock; for CreateTime.",
    ),
    config(
        "message.timestamp.before.max.ms",
        ConfigType::Long,
        "9223372036854775807",
        Valid::AtLeast(0),
        &[same("log.message.timestamp.before.max.ms", "9223372036854775807")],
        "How far a record's timestamp may lie before the broker's clock; for CreateTime.",
    ),
    config(
        "message.timestamp.type",
        ConfigType::String,
        "CreateTime",
        Valid::OneOf(&["CreateTime", "LogAppendTime"]),
        &[same("log.message.timestamp.type", "CreateTime")],
        "Whose clock a record's timestamp comes from: the producer's or the broker's.",
    ),
    config(
        "min.cleanable.dirty.ratio",
        ConfigType::Double,
        "0.5",
        Valid::Ratio,
        &[same("log.cleaner.min.cleanable.ratio", "0.5")],
        "The share of a compacted log that must be uncompacted before it is cleaned.",
    ),
    config(
        "min.compaction.lag.ms",
        ConfigType::Long,
        "0",
        Valid::AtLeast(0),
        &[same("log.cleaner.min.compaction.lag.ms", "0")],
        "How long a record stays uncompacted at least.",
    ),
    config(
        "min.insync.replicas",
        ConfigType::Int,
        "1",
        Valid::AtLeast(1),
        &[same("min.insync.replicas", "1")],
        "How many replicas must be in sync for a write with acks=all to be accepted; never more than the topic has, so a topic of one replica always accepts.",
    ),
    config(
        "preallocate",
        ConfigType::Boolean,
        "false",
        Valid::Any,
        &[same("log.preallocate", "false")],
        "Whether disk is reserved for a whole segment with its first write. Otherwise it is reserved in steps: as much as the segment holds, 64 KiB at least and 16 MiB at most. What is left over goes back when the segment is closed.",
    ),
    config(
        "remote.copy.lag.bytes",
        ConfigType::Long,
        "-1",
        Valid::AtLeast(-1),
        &[same("log.remote.copy.lag.bytes", "-1")],
        "Tiered storage: bytes of newer log after which a segment is copied; -1 is the local retention.",
    ),
    config(
        "remote.copy.lag.ms",
        ConfigType::Long,
        "-1",
        Valid::AtLeast(-1),
        &[same("log.remote.copy.lag.ms", "-1")],
        "Tiered storage: age at which a segment is copied; -1 is the local retention.",
    ),
    config(
        "remote.log.copy.disable",
        ConfigType::Boolean,
        "false",
        Valid::Any,
        &[],
        "Tiered storage: stop copying segments.",
    ),
    config(
        "remote.log.delete.on.disable",
        ConfigType::Boolean,
        "false",
        Valid::Any,
        &[],
        "Tiered storage: delete the remote copies when it is switched off for the topic.",
    ),
    config(
        "remote.storage.enable",
        ConfigType::Boolean,
        "false",
        Valid::Any,
        &[],
        "Tiered storage for this topic; not available, so only false is accepted.",
    ),
    config(
        "retention.bytes",
        ConfigType::Long,
        "-1",
        Valid::Any,
        &[same("log.retention.bytes", "-1")],
        "Old segments are deleted while the partition is larger than this; negative: no limit.",
    ),
    config(
        "retention.ms",
        ConfigType::Long,
        "604800000",
        Valid::AtLeast(-1),
        &[
            unset("log.retention.ms", 1),
            unset("log.retention.minutes", MINUTE_MS),
            hours("log.retention.hours", "168"),
        ],
        "Segments whose newest record is older than this are deleted; -1: no limit.",
    ),
    config(
        "segment.bytes",
        ConfigType::Int,
        "1073741824",
        Valid::AtLeast(1_048_576),
        &[same("log.segment.bytes", "1073741824")],
        "The size at which a segment is closed and the next begins; a change counts for the segment that is written to, too.",
    ),
    config(
        "segment.index.bytes",
        ConfigType::Int,
        "10485760",
        Valid::AtLeast(4),
        &[same("log.index.size.max.bytes", "10485760")],
        "The largest offset or time index of a segment; a full index closes the segment. A change counts from the next segment on.",
    ),
    config(
        "segment.jitter.ms",
        ConfigType::Long,
        "0",
        Valid::AtLeast(0),
        &[unset("log.roll.jitter.ms", 1), hours("log.roll.jitter.hours", "0")],
        "Up to this much is taken off segment.ms at random, so that segments do not close all at once.",
    ),
    config(
        "segment.ms",
        ConfigType::Long,
        "604800000",
        Valid::AtLeast(1),
        &[unset("log.roll.ms", 1), hours("log.roll.hours", "168")],
        "The age, by its records' timestamps, at which a segment is closed and the next begins.",
    ),
    config(
        "unclean.leader.election.enable",
        ConfigType::Boolean,
        "false",
        Valid::Any,
        &[same("unclean.leader.election.enable", "false")],
        "Whether a replica that is not in sync may lead when no other can; acknowledged records may be lost.",
    ),
];
