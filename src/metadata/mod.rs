//! Cluster image and controller decisions: `handle(now, request) → records + reply`, `replay(record)`; and the tables
//! of topics' and groups' configs. Pure.
//!
//! Where to start: [`Request`] says what may be asked, [`Controller`] decides it, [`Record`] is what is committed,
//! [`Image`] is what the committed records add up to.
//!
//! Invariants:
//! * Replaying the records of all decisions into a fresh image gives the controller's image.
//! * One decision's records commit together or not at all.
//! * A record of an unknown type, or one that contradicts those before it, is an error, never skipped.

pub mod batch;
mod codec;
mod controller;
pub mod features;
pub mod group_config;
mod image;
pub mod placement;
mod record;
mod request;
pub mod setting;
pub mod snapshot;
#[cfg(test)]
mod tests;
pub mod topic_config;
mod topic_config_table;

pub use controller::{BrokerSetting, Controller, Decision, Settings, check_topic_name};
pub use image::{Image, Inconsistent, LiveConfigs, Partition, Topic};
pub use record::{
    ConfigResource, DecodeError, METADATA_VERSION, METADATA_VERSION_LEVEL, NewPartition, PartitionChange,
    Record, Registration, ResourceKind, SupportedFeature,
};
pub use request::*;
pub use setting::{ConfigEntry, ConfigSource, ConfigSynonym, ConfigType};
pub use topic_config::{LogSettings, TopicDefaults};

/// Kafka's topic of what consumer groups have agreed on.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Kafka's topic of how far transactions are.
pub const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// Topics that only the broker itself writes to.
const INTERNAL: [&str; 3] = [OFFSETS_TOPIC, TRANSACTIONS_TOPIC, "__share_group_state"];

#[must_use]
pub fn is_internal(topic: &str) -> bool {
    INTERNAL.contains(&topic)
}
