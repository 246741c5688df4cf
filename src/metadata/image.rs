//! The cluster as the committed metadata records describe it. Every shard holds one and replays the same records.

use std::collections::{BTreeMap, HashMap};

use super::record::{ConfigResource, PartitionChange, Record, Registration};
use super::topic_config::{LogSettings, TopicDefaults};
use crate::model::{
    BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, PartitionEpoch, PartitionId, ProducerId, ShardId,
    TopicId,
};

/// Cluster metadata as this node sees it: topics' settings are resolved against this node's own defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    cluster_id: String,
    defaults: TopicDefaults,
    features: BTreeMap<String, i16>,
    brokers: BTreeMap<BrokerId, Registration>,
    names: BTreeMap<String, TopicId>,
    topics: HashMap<TopicId, Topic>,
    configs: BTreeMap<ConfigResource, BTreeMap<String, String>>,
    next_producer_id: ProducerId,
    last_broker_epoch: BrokerEpoch,
}

/// One topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    pub name: String,
    pub id: TopicId,
    /// The place in the list is the partition's index.
    pub partitions: Vec<Partition>,
    /// Its own configs over this node's defaults.
    pub settings: LogSettings,
}

/// One partition; see [`super::NewPartition`] for the fields they share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    pub replicas: Vec<BrokerId>,
    /// In the order of `replicas`; [`DirectoryId::UNASSIGNED`] until the broker has made the folder.
    pub directories: Vec<DirectoryId>,
    /// In the order of `replicas`: where each broker placed its replica, once it has.
    pub shards: Vec<Option<ShardId>>,
    pub isr: Vec<BrokerId>,
    pub elr: Vec<BrokerId>,
    pub last_known_elr: Vec<BrokerId>,
    pub adding: Vec<BrokerId>,
    pub removing: Vec<BrokerId>,
}

/// A record that contradicts the ones before it; the image is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inconsistent(pub &'static str);

impl Image {
    #[must_use]
    pub fn new(cluster_id: &str, defaults: TopicDefaults) -> Image {
        Image {
            cluster_id: cluster_id.to_owned(),
            defaults,
            features: BTreeMap::new(),
            brokers: BTreeMap::new(),
            names: BTreeMap::new(),
            topics: HashMap::new(),
            configs: BTreeMap::new(),
            next_producer_id: ProducerId(0),
            last_broker_epoch: BrokerEpoch::NONE,
        }
    }

    /// Applies one record, at load and live alike. Never panics, whatever the record says.
    pub fn replay(&mut self, record: &Record) -> Result<(), Inconsistent> {
        let _ = (record, PartitionChange::default());
        unimplemented!()
    }

    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// This node's defaults, which topics inherit.
    #[must_use]
    pub fn defaults(&self) -> &TopicDefaults {
        &self.defaults
    }

    /// 0 when never finalized.
    #[must_use]
    pub fn feature_level(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    #[must_use]
    pub fn broker(&self, id: BrokerId) -> Option<&Registration> {
        self.brokers.get(&id)
    }

    /// By id, fenced ones included.
    pub fn brokers(&self) -> impl Iterator<Item = &Registration> {
        self.brokers.values()
    }

    #[must_use]
    pub fn topic_by_name(&self, name: &str) -> Option<&Topic> {
        self.topics.get(self.names.get(name)?)
    }

    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id)
    }

    #[must_use]
    pub fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.topics.get(&id.topic)?.partitions.get(usize::try_from(id.index).ok()?)
    }

    /// By name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.names.values().filter_map(|id| self.topics.get(id))
    }

    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// The overrides of one resource, by key.
    #[must_use]
    pub fn configs(&self, resource: &ConfigResource) -> Option<&BTreeMap<String, String>> {
        self.configs.get(resource)
    }

    /// The overrides of one topic, by key; empty when it has none.
    #[must_use]
    pub fn topic_configs(&self, name: &str) -> &BTreeMap<String, String> {
        let _ = name;
        unimplemented!()
    }

    /// The first id of the next block.
    #[must_use]
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    /// The highest epoch any registration had.
    #[must_use]
    pub fn last_broker_epoch(&self) -> BrokerEpoch {
        self.last_broker_epoch
    }
}

impl Partition {
    /// Where `broker` placed its replica; `None` if it has none or has not placed it.
    #[must_use]
    pub fn shard_of(&self, broker: BrokerId) -> Option<ShardId> {
        let place = self.replicas.iter().position(|&replica| replica == broker)?;
        self.shards.get(place).copied().flatten()
    }

    /// The log directory of `broker`'s replica; `None` if it has no replica.
    #[must_use]
    pub fn directory_of(&self, broker: BrokerId) -> Option<DirectoryId> {
        let place = self.replicas.iter().position(|&replica| replica == broker)?;
        self.directories.get(place).copied()
    }
}
