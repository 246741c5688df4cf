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

/// By name.
pub const TABLE: &[GroupConfig] = &[
    config(
        "consumer.assignment.interval.ms",
        ConfigType::Int,
        Some("-1"),
        Valid::AtLeast(-1),
        "The shortest time between two assignments of a consumer group; -1 is the broker's.",
    ),
    config(
        "consumer.assignor.offload.enable",
        ConfigType::Boolean,
        None,
        Valid::Any,
        "Whether a consumer group's assignment is computed beside the coordinator's other work; unset is the broker's.",
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
        "share.assignment.interval.ms",
        ConfigType::Int,
        Some("-1"),
        Valid::AtLeast(-1),
        "The shortest time between two assignments of a share group; -1 is the broker's.",
    ),
    config(
        "share.assignor.offload.enable",
        ConfigType::Boolean,
        None,
        Valid::Any,
        "Whether a share group's assignment is computed beside the coordinator's other work; unset is the broker's.",
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
        "share.record.lock.duration.ms",
        ConfigType::Int,
        Some("30000"),
        Valid::Between(15_000, 60_000),
        "How long a share group's member holds a record.",
    ),
    config(
        "share.session.timeout.ms",
        ConfigType::Int,
        Some("45000"),
        SESSION_MS,
        "A share group's member without a heartbeat for this long leaves the group.",
    ),
    config(
        "streams.assignment.interval.ms",
        ConfigType::Int,
        Some("-1"),
        Valid::AtLeast(-1),
        "The shortest time between two assignments of a streams group; -1 is the broker's.",
    ),
    config(
        "streams.assignor.offload.enable",
        ConfigType::Boolean,
        None,
        Valid::Any,
        "Whether a streams group's assignment is computed beside the coordinator's other work; unset is the broker's.",
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
        "streams.session.timeout.ms",
        ConfigType::Int,
        Some("45000"),
        SESSION_MS,
        "A streams group's member without a heartbeat for this long leaves the group.",
    ),
];

/// The definition of a group config.
#[must_use]
pub fn find(key: &str) -> Option<&'static GroupConfig> {
    TABLE.binary_search_by(|config| config.setting.name.cmp(key)).ok().map(|at| &TABLE[at])
}
