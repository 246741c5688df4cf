//! The cluster as the committed metadata records describe it. Every shard holds one and replays the same records.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Bound;

use super::features;
use super::record::{ConfigResource, NewPartition, PartitionChange, Record, Registration, ResourceKind};
use super::topic_config::{self, Level, LogSettings, TopicDefaults};
use crate::model::{
    BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, PartitionEpoch, PartitionId, ProducerId, ShardId,
    TopicId,
};

/// Cluster metadata as this node sees it: topics' settings are resolved against this node's own defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    cluster_id: String,
    /// Whose image it is; [`BrokerId::NONE`]: nobody's.
    broker: BrokerId,
    defaults: TopicDefaults,
    features: BTreeMap<String, i16>,
    /// Levels written since the last registration of a broker.
    feature_changes: u16,
    brokers: BTreeMap<BrokerId, Registration>,
    ids: HashMap<String, TopicId>,
    /// The keys of `ids`, in order.
    names: BTreeSet<String>,
    topics: HashMap<TopicId, Topic, BuildHasherDefault<RandomIdHasher>>,
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

/// What is set of one broker's settings while the cluster runs, by key.
#[derive(Clone, Copy, Debug)]
pub struct LiveConfigs<'a> {
    /// Of this broker alone; over `of_all`.
    pub of_broker: &'a BTreeMap<String, String>,
    /// Of every broker.
    pub of_all: &'a BTreeMap<String, String>,
}

impl LiveConfigs<'_> {
    /// Nothing is set.
    pub const NONE: LiveConfigs<'static> = LiveConfigs { of_broker: &NO_CONFIGS, of_all: &NO_CONFIGS };

    /// The value in force, if one is set.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.of_broker.get(key).or_else(|| self.of_all.get(key)).map(String::as_str)
    }
}

static NO_CONFIGS: BTreeMap<String, String> = BTreeMap::new();

/// What records do to the defaults that topics inherit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inherited {
    AsBefore,
    Changed,
}

/// A record that contradicts the ones before it; the image is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inconsistent(pub &'static str);

impl Image {
    #[must_use]
    pub fn new(cluster_id: &str, defaults: TopicDefaults) -> Image {
        Image {
            cluster_id: cluster_id.to_owned(),
            broker: BrokerId::NONE,
            defaults,
            features: BTreeMap::new(),
            feature_changes: 0,
            brokers: BTreeMap::new(),
            ids: HashMap::new(),
            names: BTreeSet::new(),
            topics: HashMap::default(),
            configs: BTreeMap::new(),
            next_producer_id: ProducerId(0),
            last_broker_epoch: BrokerEpoch::NONE,
        }
    }

    /// The same image as this broker sees it: what is set of this broker alone counts. For an empty image.
    #[must_use]
    pub fn of_broker(self, broker: BrokerId) -> Image {
        assert!(self.configs.is_empty(), "an image is told whose it is before it is filled");
        Image { broker, ..self }
    }

    /// Applies one record, at load and live alike. Never panics, whatever the record says.
    pub fn replay(&mut self, record: &Record) -> Result<(), Inconsistent> {
        self.replay_all(std::slice::from_ref(record))
    }

    /// Applies records in their order, up to the first that contradicts the ones before it. When they change what
    /// topics inherit, the topics are resolved anew once, not for each: that is some microseconds a topic.
    pub fn replay_all(&mut self, records: &[Record]) -> Result<(), Inconsistent> {
        let mut inherited = Inherited::AsBefore;
        let result = records.iter().try_for_each(|record| self.apply(record, &mut inherited));
        if inherited == Inherited::Changed {
            for topic in self.topics.values_mut() {
                let overrides = self.configs.get(&ConfigResource::topic(&topic.name)).unwrap_or(&NO_CONFIGS);
                topic.settings = topic_config::resolve(overrides, &self.defaults);
            }
        }
        result
    }

    fn apply(&mut self, record: &Record, inherited: &mut Inherited) -> Result<(), Inconsistent> {
        match record {
            Record::FeatureLevel { name, level } => self.replay_feature_level(name, *level),
            Record::RegisterBroker(registration) => self.replay_registration(registration),
            Record::Topic { name, id } => self.replay_topic(name, *id),
            Record::Partition(partition) => self.replay_partition(partition),
            Record::PartitionChange(change) => self.replay_partition_change(change),
            Record::RemoveTopic { id } => self.replay_remove_topic(*id),
            Record::Config { resource, key, value } => {
                self.replay_config(resource, key, value.as_deref(), inherited)
            }
            Record::ProducerIds { next, .. } => {
                ensure(*next > self.next_producer_id, "producer ids that were given out already")?;
                self.next_producer_id = *next;
                Ok(())
            }
            Record::ReplicaShard { broker, partition, shard } => {
                let partition =
                    self.partition_mut(*partition).ok_or(Inconsistent("a shard for an unknown partition"))?;
                let place =
                    partition.place_of(*broker).ok_or(Inconsistent("a shard where there is no replica"))?;
                partition.shards[place] = Some(*shard);
                Ok(())
            }
        }
    }

    fn replay_feature_level(&mut self, name: &str, level: i16) -> Result<(), Inconsistent> {
        let supported = features::supported().into_iter().find(|supported| supported.name == name);
        ensure(
            supported.is_none_or(|supported| level <= supported.max),
            "a feature level that only a newer version understands",
        )?;
        self.features.insert(name.to_owned(), level);
        self.feature_changes = self.feature_changes.saturating_add(1);
        Ok(())
    }

    fn replay_registration(&mut self, registration: &Registration) -> Result<(), Inconsistent> {
        ensure(registration.epoch > self.last_broker_epoch, "a broker epoch that is not new")?;
        self.last_broker_epoch = registration.epoch;
        self.feature_changes = 0;
        self.brokers.insert(registration.broker, registration.clone());
        Ok(())
    }

    fn replay_topic(&mut self, name: &str, id: TopicId) -> Result<(), Inconsistent> {
        ensure(id != TopicId::ZERO, "a topic without an id")?;
        ensure(!self.topics.contains_key(&id), "a topic id that is taken")?;
        ensure(!self.ids.contains_key(name), "a topic name that is taken")?;
        let settings = topic_config::resolve(self.topic_configs(name), &self.defaults);
        self.ids.insert(name.to_owned(), id);
        self.names.insert(name.to_owned());
        self.topics.insert(id, Topic { name: name.to_owned(), id, partitions: Vec::new(), settings });
        Ok(())
    }

    fn replay_partition(&mut self, new: &NewPartition) -> Result<(), Inconsistent> {
        let topic = self
            .topics
            .get_mut(&new.partition.topic)
            .ok_or(Inconsistent("a partition of an unknown topic"))?;
        ensure(
            usize::try_from(new.partition.index) == Ok(topic.partitions.len()),
            "a partition that is not its topic's next",
        )?;
        ensure(
            new.directories.len() == new.replicas.len(),
            "a partition whose directories do not match its replicas",
        )?;
        topic.partitions.push(Partition {
            leader: new.leader,
            leader_epoch: new.leader_epoch,
            partition_epoch: new.partition_epoch,
            replicas: new.replicas.clone(),
            directories: new.directories.clone(),
            shards: vec![None; new.replicas.len()],
            isr: new.isr.clone(),
            elr: new.elr.clone(),
            last_known_elr: new.last_known_elr.clone(),
            adding: new.adding.clone(),
            removing: new.removing.clone(),
        });
        Ok(())
    }

    fn replay_partition_change(&mut self, change: &PartitionChange) -> Result<(), Inconsistent> {
        let partition =
            self.partition_mut(change.partition).ok_or(Inconsistent("a change of an unknown partition"))?;
        ensure(change.partition_epoch > partition.partition_epoch, "a partition epoch that is not new")?;
        ensure(
            change.leader_epoch.is_none_or(|epoch| epoch >= partition.leader_epoch),
            "a leader epoch that goes back",
        )?;
        let replicas = change.replicas.as_ref().unwrap_or(&partition.replicas);
        let directories = change.directories.as_ref().unwrap_or(&partition.directories);
        ensure(directories.len() == replicas.len(), "a change whose directories do not match its replicas")?;

        partition.shards = replicas.iter().map(|&broker| partition.shard_of(broker)).collect();
        partition.partition_epoch = change.partition_epoch;
        overwrite(&mut partition.leader, &change.leader);
        overwrite(&mut partition.leader_epoch, &change.leader_epoch);
        overwrite(&mut partition.replicas, &change.replicas);
        overwrite(&mut partition.directories, &change.directories);
        overwrite(&mut partition.isr, &change.isr);
        overwrite(&mut partition.elr, &change.elr);
        overwrite(&mut partition.last_known_elr, &change.last_known_elr);
        overwrite(&mut partition.adding, &change.adding);
        overwrite(&mut partition.removing, &change.removing);
        Ok(())
    }

    fn replay_remove_topic(&mut self, id: TopicId) -> Result<(), Inconsistent> {
        let topic = self.topics.remove(&id).ok_or(Inconsistent("the removal of an unknown topic"))?;
        self.ids.remove(&topic.name);
        self.names.remove(&topic.name);
        self.configs.remove(&ConfigResource { kind: ResourceKind::Topic, name: topic.name });
        Ok(())
    }

    fn replay_config(
        &mut self,
        resource: &ConfigResource,
        key: &str,
        value: Option<&str>,
        inherited: &mut Inherited,
    ) -> Result<(), Inconsistent> {
        let topic = match resource.kind {
            ResourceKind::Topic => {
                Some(*self.ids.get(&resource.name).ok_or(Inconsistent("a config of an unknown topic"))?)
            }
            ResourceKind::Broker => {
                if let Some(level) = self.level_of(&resource.name)
                    && self.defaults.set_live(level, key, value)
                {
                    *inherited = Inherited::Changed;
                }
                None
            }
            ResourceKind::Group => None,
        };
        let overrides = self.configs.entry(resource.clone()).or_default();
        match value {
            Some(value) => overrides.insert(key.to_owned(), value.to_owned()),
            None => overrides.remove(key),
        };
        if let Some(topic) = topic.and_then(|id| self.topics.get_mut(&id)) {
            topic.settings = topic_config::resolve(overrides, &self.defaults);
        }
        if overrides.is_empty() {
            self.configs.remove(resource);
        }
        Ok(())
    }

    fn partition_mut(&mut self, id: PartitionId) -> Option<&mut Partition> {
        self.topics.get_mut(&id.topic)?.partitions.get_mut(usize::try_from(id.index).ok()?)
    }

    /// Records that build this image from an empty one, in an order that [`Self::replay`] accepts.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let mut records = self.node_records();
        self.topics().for_each(|topic| self.push_topic_records(topic, &mut records));
        records
    }

    /// As many as [`Self::records`] has.
    #[must_use]
    pub fn record_count(&self) -> usize {
        let of_topic = |topic: &Topic| {
            let placed = |partition: &Partition| partition.shards.iter().flatten().count();
            1 + self.topic_configs(&topic.name).len()
                + topic.partitions.iter().map(|partition| 1 + placed(partition)).sum::<usize>()
        };
        self.node_records().len() + self.topics().map(of_topic).sum::<usize>()
    }

    /// Those of [`Self::records`] that are of no topic. They come first.
    #[must_use]
    pub fn node_records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        let level =
            |(name, level): (&String, &i16)| Record::FeatureLevel { name: name.clone(), level: *level };
        records.extend(self.features.iter().map(level));
        let mut brokers: Vec<_> = self.brokers.values().collect();
        brokers.sort_by_key(|registration| registration.epoch);
        records.extend(brokers.iter().map(|&registration| Record::RegisterBroker(registration.clone())));
        // as often as they have changed since: their epoch stays what it was
        let changes = if brokers.is_empty() { 0 } else { usize::from(self.feature_changes) };
        records.extend(self.features.iter().cycle().take(changes).map(level));
        if self.next_producer_id > ProducerId(0) {
            records.push(Record::ProducerIds {
                broker: BrokerId::NONE,
                broker_epoch: BrokerEpoch::NONE,
                next: self.next_producer_id,
            });
        }
        for (resource, overrides) in &self.configs {
            if resource.kind != ResourceKind::Topic {
                push_configs(resource, overrides, &mut records);
            }
        }
        records
    }

    /// Those of [`Self::records`] that are of this topic. Topics come in any order.
    pub fn push_topic_records(&self, topic: &Topic, records: &mut Vec<Record>) {
        records.push(Record::Topic { name: topic.name.clone(), id: topic.id });
        push_configs(&ConfigResource::topic(&topic.name), self.topic_configs(&topic.name), records);
        for (index, partition) in (0..).zip(&topic.partitions) {
            partition.push_records(PartitionId { topic: topic.id, index }, records);
        }
    }

    /// At which level the settings of a broker resource of this name count here; `None`: at none, they are another
    /// broker's.
    pub(super) fn level_of(&self, name: &str) -> Option<Level> {
        if name.is_empty() {
            Some(Level::AllBrokers)
        } else {
            (name == self.broker.0.to_string()).then_some(Level::Broker)
        }
    }

    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// This node's defaults, which topics inherit: what is set while the cluster runs over what was read at the start.
    #[must_use]
    pub fn defaults(&self) -> &TopicDefaults {
        &self.defaults
    }

    /// 0 when never finalized.
    #[must_use]
    pub fn feature_level(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// Rises whenever a level changes, also over restarts: by it clients know which levels are the newer ones.
    #[must_use]
    pub fn features_epoch(&self) -> i64 {
        (self.last_broker_epoch.0 << u16::BITS) + i64::from(self.feature_changes)
    }

    /// Whether a level was ever chosen, and be it 0.
    #[must_use]
    pub fn has_feature_level(&self, name: &str) -> bool {
        self.features.contains_key(name)
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
        self.topics.get(self.ids.get(name)?)
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
        self.names.iter().filter_map(|name| self.topic_by_name(name))
    }

    /// Those whose name is `name` or behind it, by name.
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &Topic> {
        let names = self.names.range::<str, _>((Bound::Included(name), Bound::Unbounded));
        names.filter_map(|name| self.topic_by_name(name))
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
        self.configs_of(&ConfigResource::topic(name))
    }

    /// The overrides of one resource, by key; empty when it has none.
    #[must_use]
    pub fn configs_of(&self, resource: &ConfigResource) -> &BTreeMap<String, String> {
        self.configs(resource).unwrap_or(&NO_CONFIGS)
    }

    /// What is set of a broker's settings while the cluster runs.
    #[must_use]
    pub fn live_configs(&self, broker: BrokerId) -> LiveConfigs<'_> {
        LiveConfigs {
            of_broker: self.configs_of(&ConfigResource::broker(Some(broker))),
            of_all: self.configs_of(&ConfigResource::broker(None)),
        }
    }

    /// The groups that have configs, by id.
    pub fn groups_with_configs(&self) -> impl Iterator<Item = &str> {
        let groups = self.configs.range(ConfigResource::group("")..);
        let groups = groups.take_while(|(resource, _)| resource.kind == ResourceKind::Group);
        groups.map(|(resource, _)| resource.name.as_str())
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

fn push_configs(resource: &ConfigResource, overrides: &BTreeMap<String, String>, records: &mut Vec<Record>) {
    records.extend(overrides.iter().map(|(key, value)| Record::Config {
        resource: resource.clone(),
        key: key.clone(),
        value: Some(value.clone()),
    }));
}

impl Partition {
    fn place_of(&self, broker: BrokerId) -> Option<usize> {
        self.replicas.iter().position(|&replica| replica == broker)
    }

    /// Where `broker` placed its replica; `None` if it has none or has not placed it.
    #[must_use]
    pub fn shard_of(&self, broker: BrokerId) -> Option<ShardId> {
        self.shards.get(self.place_of(broker)?).copied().flatten()
    }

    /// The log directory of `broker`'s replica; `None` if it has no replica.
    #[must_use]
    pub fn directory_of(&self, broker: BrokerId) -> Option<DirectoryId> {
        self.directories.get(self.place_of(broker)?).copied()
    }

    fn push_records(&self, id: PartitionId, records: &mut Vec<Record>) {
        records.push(Record::Partition(NewPartition {
            partition: id,
            replicas: self.replicas.clone(),
            directories: self.directories.clone(),
            isr: self.isr.clone(),
            elr: self.elr.clone(),
            last_known_elr: self.last_known_elr.clone(),
            adding: self.adding.clone(),
            removing: self.removing.clone(),
            leader: self.leader,
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
        }));
        for (&broker, shard) in self.replicas.iter().zip(&self.shards) {
            if let Some(shard) = *shard {
                records.push(Record::ReplicaShard { broker, partition: id, shard });
            }
        }
    }
}

impl std::fmt::Display for Inconsistent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the metadata log has {}", self.0)
    }
}

impl std::error::Error for Inconsistent {}

fn ensure(condition: bool, otherwise: &'static str) -> Result<(), Inconsistent> {
    if condition { Ok(()) } else { Err(Inconsistent(otherwise)) }
}

fn overwrite<T: Clone>(field: &mut T, change: &Option<T>) {
    if let Some(value) = change {
        field.clone_from(value);
    }
}

/// Topic ids are random already, and no client chooses one: folding them is hash enough.
#[derive(Default)]
struct RandomIdHasher(u64);

impl Hasher for RandomIdHasher {
    fn write_u128(&mut self, id: u128) {
        self.0 ^= (id >> 64) as u64 ^ id as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
