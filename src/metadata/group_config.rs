//! The table of group configs (KIP-848, KIP-932, KIP-1071). Source of names, types, defaults and ranges: Kafka 4.4's
//! GroupConfig, the ranges as its broker settings `group.<protocol>.min.*` and `max.*` have them by default. With these,
//! a session is always longer than a heartbeat interval.

use super::setting::{ConfigType, Setting, Valid};

/// A group config. Its value, where the group has none, is that of the broker setting of this name behind `group.`.
#[derive(Clone, Copy, Debug)]
pub struct GroupConfig {
    pub setting: Setting,
}

const fn config(
    name: &'static str,
    kind: ConfigType,
    default: Option<&'static str>,
    valid: Valid,
    doc: &'static str,
) -> GroupConfig {
    GroupConfig { setting: Setting { name, kind, default, valid, doc } }
}

const SESSION_MS: Valid = Valid::Between(45_000, 60_000);
const HEARTBEAT_MS: Valid = Valid::Between(5_000, 15_000);
const ASSIGNMENT_MS: Valid = Valid::Between(0, 15_000);

/// By name.
pub const TABLE: &[GroupConfig] = &[
    config(
        "consumer.assignment.interval.ms",
        ConfigType::Int,
        Some("1000"),
        ASSIGNMENT_MS,
        "The shortest time between two assignments of a consumer group.",
    ),
    config(
        "consumer.assignor.offload.enable",
        ConfigType::Boolean,
        Some("true"),
        Valid::Any,
        "Whether a consumer group's assignment is computed beside the coordinator's other work.",
    ),
    config(
        "consumer.heartbeat.interval.ms",
        ConfigType::Int,
        Some("5000"),
        HEARTBEAT_MS,
        "How often a consumer group's members are told to send heartbeats.",
    ),
    config(
        "consumer.session.timeout.ms",
        ConfigType::Int,
        Some("45000"),
        SESSION_MS,
        "A consumer group's member without a heartbeat for this long leaves the group.",
    ),
    config(
        "errors.deadletterqueue.copy.record.enable",
        ConfigType::Boolean,
        Some("false"),
        Valid::Any,
        "Whether a record that a share group cannot process goes to its dead-letter queue whole, not only where it was.",
    ),
    config(
        "errors.deadletterqueue.topic.name",
        ConfigType::String,
        Some(""),
        Valid::Any,
        "The topic of records that a share group cannot process; empty: none.",
    ),
    config(
        "share.assignment.interval.ms",
        ConfigType::Int,
        Some("1000"),
        ASSIGNMENT_MS,
        "The shortest time between two assignments of a share group.",
    ),
    config(
        "share.assignor.offload.enable",
        ConfigType::Boolean,
        Some("true"),
        Valid::Any,
        "Whether a share group's assignment is computed beside the coordinator's other work.",
    ),
    config(
        "share.auto.offset.reset",
        ConfigType::String,
        Some("latest"),
        Valid::OffsetReset,
        "Where a share group begins in a partition it has not read.",
    ),
    config(
        "share.delivery.count.limit",
        ConfigType::Int,
        Some("5"),
        Valid::Between(2, 10),
        "How often a record is delivered to a share group at most.",
    ),
    config(
        "share.heartbeat.interval.ms",
        ConfigType::Int,
        Some("5000"),
        HEARTBEAT_MS,
        "How often a share group's members are told to send heartbeats.",
    ),
    config(
        "share.isolation.level",
        ConfigType::String,
        Some("read_uncommitted"),
        Valid::OneOf(&["read_committed", "read_uncommitted"]),
        "Whether a share group is given records of transactions that are not committed.",
    ),
    config(
        "share.partition.max.record.locks",
        ConfigType::Int,
        Some("2000"),
        Valid::Between(100, 4_000),
        "Records in flight of a share group's partition.",
    ),
    config(
        "share.record.lock.duration.ms",
        ConfigType::Int,
        Some("30000"),
        Valid::Between(15_000, 60_000),
        "How long a share group's member holds a record.",
    ),
    config(
        "share.renew.acknowledge.enable",
        ConfigType::Boolean,
        Some("true"),
        Valid::Any,
        "Whether a share group's member may hold a record for longer by acknowledging it so.",
    ),
    config(
        "share.session.timeout.ms",
        ConfigType::Int,
        Some("45000"),
        SESSION_MS,
        "A share group's member without a heartbeat for this long leaves the group.",
    ),
    config(
        "streams.acceptable.recovery.lag",
        ConfigType::Long,
        Some("10000"),
        Valid::AtLeast(0),
        "How many records a copy of a streams group's state may be behind and count as caught up.",
    ),
    config(
        "streams.assignment.interval.ms",
        ConfigType::Int,
        Some("1000"),
        ASSIGNMENT_MS,
        "The shortest time between two assignments of a streams group.",
    ),
    config(
        "streams.assignor.name",
        ConfigType::String,
        None,
        Valid::Any,
        "The assignor of a streams group's tasks; unset is the broker's first.",
    ),
    config(
        "streams.assignor.offload.enable",
        ConfigType::Boolean,
        Some("true"),
        Valid::Any,
        "Whether a streams group's assignment is computed beside the coordinator's other work.",
    ),
    config(
        "streams.heartbeat.interval.ms",
        ConfigType::Int,
        Some("5000"),
        HEARTBEAT_MS,
        "How often a streams group's members are told to send heartbeats.",
    ),
    config(
        "streams.initial.rebalance.delay.ms",
        ConfigType::Int,
        Some("3000"),
        Valid::AtLeast(0),
        "How long the first rebalance of an empty streams group waits for more members.",
    ),
    config(
        "streams.num.standby.replicas",
        ConfigType::Int,
        Some("0"),
        Valid::Between(0, 2),
        "Standby replicas of each task of a streams group.",
    ),
    config(
        "streams.num.warmup.replicas",
        ConfigType::Int,
        Some("2"),
        Valid::Between(0, 20),
        "Copies of a streams group's state that are made at a time to move a task to.",
    ),
    config(
        "streams.rack.aware.assignment.tags",
        ConfigType::List,
        Some(""),
        Valid::Any,
        "Tags of a streams group's clients by which standby replicas are spread.",
    ),
    config(
        "streams.session.timeout.ms",
        ConfigType::Int,
        Some("45000"),
        SESSION_MS,
        "A streams group's member without a heartbeat for this long leaves the group.",
    ),
    config(
        "streams.task.offset.interval.ms",
        ConfigType::Int,
        Some("60000"),
        Valid::AtLeast(15_000),
        "How often a streams group's members are told to say how far their tasks are.",
    ),
];

/// The definition of a group config.
#[must_use]
pub fn find(key: &str) -> Option<&'static GroupConfig> {
    TABLE.binary_search_by(|config| config.setting.name.cmp(key)).ok().map(|at| &TABLE[at])
}
