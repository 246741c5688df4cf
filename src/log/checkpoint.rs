//! Kafka's small text files: offset checkpoints, `partition.metadata`, `meta.properties`, `.kafka_cleanshutdown`.

use super::Damage;
use crate::model::{BrokerId, DirectoryId, Offset, TopicId};

/// One line of an offset checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOffset {
    pub topic: String,
    pub partition: i32,
    pub offset: Offset,
}

/// The text of recovery-point-, replication- or log-start-offset-checkpoint.
#[must_use]
pub fn encode_offsets(entries: &[PartitionOffset]) -> String {
    let _ = entries;
    unimplemented!()
}

/// # Errors
/// What is wrong. An empty file is no entries, as in Kafka.
pub fn decode_offsets(text: &str) -> Result<Vec<PartitionOffset>, Damage> {
    let _ = text;
    unimplemented!()
}

/// The text of `partition.metadata`.
#[must_use]
pub fn encode_partition_metadata(topic: TopicId) -> String {
    let _ = topic;
    unimplemented!()
}

/// # Errors
/// What is wrong.
pub fn decode_partition_metadata(text: &str) -> Result<TopicId, Damage> {
    let _ = text;
    unimplemented!()
}

/// `meta.properties` of one log directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    pub cluster_id: String,
    pub node_id: BrokerId,
    /// `UNASSIGNED` when the file has none.
    pub directory_id: DirectoryId,
    /// `corelane.format`: version of what we keep beside Kafka's files. The caller refuses one newer than
    /// [`FORMAT`]. 0 when the file has none: Kafka wrote it.
    pub format: u32,
}

/// The newest `corelane.format` this build reads and the one it writes.
pub const FORMAT: u32 = 1;

impl MetaProperties {
    #[must_use]
    pub fn encode(&self) -> String {
        unimplemented!()
    }

    /// # Errors
    /// What is wrong.
    pub fn decode(text: &str) -> Result<MetaProperties, Damage> {
        let _ = text;
        unimplemented!()
    }
}

/// The content of `.kafka_cleanshutdown`; -1 when the broker has no epoch.
#[must_use]
pub fn encode_clean_shutdown(broker_epoch: i64) -> String {
    let _ = broker_epoch;
    unimplemented!()
}

/// The broker epoch, if the content has one. The file's being there is what says "clean".
#[must_use]
pub fn decode_clean_shutdown(text: &str) -> Option<i64> {
    let _ = text;
    unimplemented!()
}
