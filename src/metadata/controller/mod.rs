//! The controller: decides what a request changes. Pure; lives on shard 0 of the node that leads the metadata log.
//!
//! Its image holds everything decided so far, committed or not, so that two requests in flight never contradict each
//! other. One file per family of requests; each returns what it would append and what to answer, and [`Controller`]
//! advances the image.

mod brokers;
mod configs;
mod create_partitions;
mod create_topics;
mod delete_topics;
mod features;
mod partition_leaders;
mod reassignments;
mod replica_assignment;

pub use create_topics::check_name as check_topic_name;

use std::collections::HashMap;

use super::image::{Image, Partition, Topic};
use super::record::Record;
use super::setting::Setting;
use super::{PartitionRef, PartitionResult, Reply, Request, TopicResult};
use crate::model::{ErrorCode, PartitionId, TopicId};

/// The controller's own settings, from the broker's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Kafka's `num.partitions`.
    pub num_partitions: i32,
    /// Kafka's `default.replication.factor`.
    pub default_replication_factor: i16,
    /// Kafka's `delete.topic.enable`.
    pub delete_topic_enable: bool,
    /// How many partitions one request may create, how many topics it may delete, how many configs it may change.
    pub changes_per_request_max: usize,
    /// The broker's own settings, beside those that topics inherit: by name.
    pub broker_settings: Vec<BrokerSetting>,
}

/// A setting of the broker, and whether it may change while the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerSetting {
    pub setting: Setting,
    pub is_live: bool,
}

impl Default for Settings {
    /// Kafka's defaults.
    fn default() -> Settings {
        Settings {
            num_partitions: 1,
            default_replication_factor: 1,
            delete_topic_enable: true,
            changes_per_request_max: 10_000,
            broker_settings: Vec::new(),
        }
    }
}

/// What the controller makes of a request.
#[derive(Clone, Debug)]
pub struct Decision {
    /// To be committed together, in this order. Empty: nothing changes, but the reply still waits until the records
    /// of every decision before it are committed.
    pub records: Vec<Record>,
    /// To be released when the records are committed.
    pub reply: Reply,
}

/// The cluster image with everything decided so far, committed or not.
pub struct Controller {
    settings: Settings,
    image: Image,
    /// Topics with a `.` or `_` in their name, by the name with `.` read as `_`: Kafka lets no two share it.
    colliding: HashMap<String, TopicId>,
}

/// An error for one topic or partition: the code, and for the operator what was wrong and what is allowed.
type Refusal = (ErrorCode, String);

impl Controller {
    /// `image`: every committed record replayed.
    #[must_use]
    pub fn new(settings: Settings, image: Image) -> Controller {
        let colliding =
            image.topics().filter_map(|topic| Some((collision_key(&topic.name)?, topic.id))).collect();
        Controller { settings, image, colliding }
    }

    #[must_use]
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Decides, and advances the controller's own image by the records at once. If the records cannot be committed,
    /// this controller must be dropped and built again from the log. `random` gives 64 uniform bits a call; `now_ms`
    /// is the wall clock.
    pub fn handle(&mut self, now_ms: i64, random: &mut dyn FnMut() -> u64, request: Request) -> Decision {
        // no decision depends on the time yet; broker leases will
        let _ = now_ms;
        let mut records = Vec::new();
        let reply = match request {
            Request::CreateTopics { topics, validate_only } => {
                self.create_topics(&topics, validate_only, random, &mut records)
            }
            Request::CreatePartitions { topics, validate_only } => {
                self.create_partitions(&topics, validate_only, random, &mut records)
            }
            Request::DeleteTopics { topics } => self.delete_topics(&topics, &mut records),
            Request::AlterConfigs { resources, validate_only } => {
                self.alter_configs(&resources, validate_only, &mut records)
            }
            Request::ReplaceConfigs { resources, validate_only } => {
                self.replace_configs(resources, validate_only, &mut records)
            }
            Request::ElectLeaders { election, partitions } => {
                self.elect_leaders(election, partitions, &mut records)
            }
            Request::ReassignPartitions { partitions, may_change_replication_factor } => {
                self.reassign_partitions(partitions, may_change_replication_factor, &mut records)
            }
            Request::UpdateFeatures { updates, validate_only } => {
                self.update_features(&updates, validate_only, &mut records)
            }
            Request::AllocateProducerIds { broker, shard: _ } => {
                self.allocate_producer_ids(broker, &mut records)
            }
            Request::AssignReplicas { broker, replicas } => {
                self.assign_replicas(broker, &replicas, &mut records)
            }
            Request::RegisterBroker { broker, endpoints, rack, incarnation } => {
                self.register_broker(broker, endpoints, rack, incarnation, &mut records)
            }
        };
        Decision { records, reply }
    }

    /// The partition a client names.
    fn find(&self, asked: &PartitionRef) -> Result<(PartitionId, &Partition), Refusal> {
        let unknown = |message| (ErrorCode::UnknownTopicOrPartition, message);
        let topic = self.image.topic_by_name(&asked.topic);
        let topic = topic.ok_or_else(|| unknown(format!("there is no topic {}", asked.topic)))?;
        let id = PartitionId { topic: topic.id, index: asked.index };
        let partition = self.image.partition(id);
        let partition = partition
            .ok_or_else(|| unknown(format!("there is no partition {}-{}", asked.topic, asked.index)))?;
        Ok((id, partition))
    }

    /// Appends a decided record and advances the image by it.
    ///
    /// # Panics
    /// Panics if the record contradicts the image: a controller that decides nonsense must not commit it.
    fn append(&mut self, record: Record, records: &mut Vec<Record>) {
        match &record {
            Record::Topic { name, id } => {
                if let Some(key) = collision_key(name) {
                    self.colliding.insert(key, *id);
                }
            }
            Record::RemoveTopic { id } => {
                if let Some(key) = self.image.topic(*id).and_then(|topic| collision_key(&topic.name)) {
                    self.colliding.remove(&key);
                }
            }
            _ => {}
        }
        self.advance(std::slice::from_ref(&record));
        records.push(record);
    }

    /// Advances the image by decided records; panics as [`Self::append`].
    fn advance(&mut self, decided: &[Record]) {
        if let Err(error) = self.image.replay_all(decided) {
            panic!("the controller decided {decided:?}, but {error}");
        }
    }
}

/// The name under which a topic collides with others, if it can.
fn collision_key(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

/// How often each key occurs is not asked, only whether more than once.
fn duplicates<K: Eq + std::hash::Hash>(keys: impl Iterator<Item = K>) -> std::collections::HashSet<K> {
    let mut seen = std::collections::HashSet::new();
    let mut twice = std::collections::HashSet::new();
    for key in keys {
        if let Some(again) = seen.replace(key) {
            twice.insert(again);
        }
    }
    twice
}

impl TopicResult {
    fn refused(name: &str, (error, message): Refusal) -> TopicResult {
        TopicResult {
            name: name.to_owned(),
            id: TopicId::ZERO,
            error,
            message: Some(message),
            partitions: 0,
            replication_factor: 0,
        }
    }

    fn done(topic: &Topic) -> TopicResult {
        TopicResult {
            name: topic.name.clone(),
            id: topic.id,
            error: ErrorCode::None,
            message: None,
            partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
            replication_factor: topic
                .partitions
                .first()
                .map_or(0, |partition| i16::try_from(partition.replicas.len()).unwrap_or(i16::MAX)),
        }
    }
}

impl PartitionResult {
    /// `None`: it is done.
    fn of(partition: PartitionRef, refusal: Option<Refusal>) -> PartitionResult {
        let (error, message) =
            refusal.map_or((ErrorCode::None, None), |(error, message)| (error, Some(message)));
        PartitionResult { partition, error, message }
    }
}
