//! CreateTopics (KIP-4, KIP-464 defaults, KIP-516 topic ids). Kafka: ReplicationControlManager.createTopics.
//!
//! Each topic succeeds or fails by itself. Left out: topic policies and the controller mutation quota (KIP-599).

use std::collections::{BTreeMap, HashSet};

use super::{Controller, Refusal, TopicResult, collision_key, duplicates, replica_assignment};
use crate::metadata::record::{ConfigResource, NewPartition, Record};
use crate::metadata::topic_config;
use crate::metadata::{CreateTopic, Reply};
use crate::model::{BrokerId, DirectoryId, ErrorCode, LeaderEpoch, PartitionEpoch, PartitionId, TopicId};

/// The longest topic name: the folder `name-index` and its suffixes fit a file name.
const NAME_BYTES_MAX: usize = 249;

/// Kafka's own limit on a config value.
pub(super) const CONFIG_VALUE_BYTES_MAX: usize = 32_767;

/// Kafka's metadata log: a name no client may take.
const METADATA_TOPIC: &str = "__cluster_metadata";

impl Controller {
    pub(super) fn create_topics(
        &mut self,
        topics: &[CreateTopic],
        validate_only: bool,
        random: &mut dyn FnMut() -> u64,
        records: &mut Vec<Record>,
    ) -> Reply {
        if self.partitions_asked_for(topics) > self.settings.changes_per_request_max {
            let limit = self.settings.changes_per_request_max;
            let refuse = |topic: &CreateTopic| {
                let message = format!(
                    "excessively large number of partitions per request, at most {limit} are allowed"
                );
                TopicResult::refused(&topic.name, (ErrorCode::PolicyViolation, message))
            };
            return Reply::Topics(topics.iter().map(refuse).collect());
        }
        let twice = duplicates(topics.iter().map(|topic| topic.name.as_str()));
        let mut colliding = HashSet::new();
        let mut results = Vec::with_capacity(topics.len());
        for topic in topics {
            let planned = self.plan_topic(topic, &twice, &colliding, random);
            results.push(match planned {
                Err(refusal) => TopicResult::refused(&topic.name, refusal),
                Ok(plan) => {
                    colliding.extend(collision_key(&topic.name));
                    self.create_topic(topic, plan, validate_only, random, records)
                }
            });
        }
        Reply::Topics(results)
    }

    /// An upper bound; topics that are refused count too.
    fn partitions_asked_for(&self, topics: &[CreateTopic]) -> usize {
        topics
            .iter()
            .map(|topic| match (topic.assignments.len(), topic.partitions) {
                (0, None | Some(-1)) => usize::try_from(self.settings.num_partitions).unwrap_or(0),
                (0, Some(partitions)) => usize::try_from(partitions).unwrap_or(0),
                (assigned, _) => assigned,
            })
            .fold(0, usize::saturating_add)
    }

    fn plan_topic(
        &self,
        topic: &CreateTopic,
        twice: &HashSet<&str>,
        colliding: &HashSet<String>,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Plan, Refusal> {
        let name = topic.name.as_str();
        if twice.contains(name) {
            return Err((ErrorCode::InvalidRequest, "duplicate topic name".to_owned()));
        }
        if name == METADATA_TOPIC {
            return Err((
                ErrorCode::InvalidRequest,
                format!("creation of internal topic {name} is prohibited"),
            ));
        }
        check_name(name)?;
        if self.image.topic_by_name(name).is_some() {
            return Err((ErrorCode::TopicAlreadyExists, format!("topic '{name}' already exists")));
        }
        if let Some(key) = collision_key(name) {
            let existing = self.colliding.get(&key).and_then(|&id| self.image.topic(id));
            if existing.is_some() || colliding.contains(&key) {
                let other = existing.map_or("another of this request", |topic| topic.name.as_str());
                return Err((
                    ErrorCode::InvalidTopicException,
                    format!(
                        "topic '{name}' collides with existing topic: {other} ('.' and '_' count as the same)"
                    ),
                ));
            }
        }
        let configs = self.check_configs(&topic.configs)?;
        let replicas = if topic.assignments.is_empty() {
            self.assign_brokers(topic, random)?
        } else {
            self.check_assignments(topic)?
        };
        Ok(Plan { configs, replicas })
    }

    fn check_configs(
        &self,
        configs: &[(String, Option<String>)],
    ) -> Result<BTreeMap<String, String>, Refusal> {
        let invalid = |message| (ErrorCode::InvalidConfig, message);
        let nulls: Vec<&str> =
            configs.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key.as_str()).collect();
        if !nulls.is_empty() {
            return Err(invalid(format!("null value not supported for topic configs: {}", nulls.join(","))));
        }
        let mut overrides = BTreeMap::new();
        for (key, value) in configs {
            let value = value.as_deref().unwrap_or_default();
            check_value_size(key, value)?;
            let value = topic_config::validate(key, value, self.image.defaults()).map_err(invalid)?;
            overrides.insert(key.clone(), value);
        }
        topic_config::validate_together(&overrides, self.image.defaults()).map_err(invalid)?;
        Ok(overrides)
    }

    /// The controller chooses; Kafka checks the replication factor first.
    fn assign_brokers(
        &self,
        topic: &CreateTopic,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Vec<Vec<BrokerId>>, Refusal> {
        let replication_factor = match topic.replication_factor {
            None | Some(-1) => self.settings.default_replication_factor,
            Some(given) => given,
        };
        let wanted = usize::try_from(replication_factor).ok().filter(|&wanted| wanted > 0).ok_or_else(|| {
            (
                ErrorCode::InvalidReplicationFactor,
                format!("replication factor {replication_factor}: must be larger than 0, or -1 for the default"),
            )
        })?;
        let partitions = match topic.partitions {
            None | Some(-1) => self.settings.num_partitions,
            Some(given) => given,
        };
        let count = usize::try_from(partitions).ok().filter(|&count| count > 0).ok_or_else(|| {
            (
                ErrorCode::InvalidPartitions,
                format!("number of partitions {partitions}: must be larger than 0, or -1 for the default"),
            )
        })?;
        self.place(count, wanted, random)
    }

    /// The replicas of `count` new partitions on brokers that are alive.
    pub(super) fn place(
        &self,
        count: usize,
        replicas: usize,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Vec<Vec<BrokerId>>, Refusal> {
        let live: Vec<_> = self.image.brokers().filter(|broker| !broker.fenced).collect();
        replica_assignment::assign(&live, count, replicas, random()).ok_or_else(|| {
            (
                ErrorCode::InvalidReplicationFactor,
                format!(
                    "unable to replicate the partition {replicas} time(s): only {} broker(s) are registered",
                    live.len()
                ),
            )
        })
    }

    /// The client chose.
    fn check_assignments(&self, topic: &CreateTopic) -> Result<Vec<Vec<BrokerId>>, Refusal> {
        let both = |what| {
            (
                ErrorCode::InvalidRequest,
                format!("a manual partition assignment was specified, but {what} was not -1"),
            )
        };
        if !matches!(topic.replication_factor, None | Some(-1)) {
            return Err(both("replication factor"));
        }
        if !matches!(topic.partitions, None | Some(-1)) {
            return Err(both("number of partitions"));
        }
        let invalid = |message: String| (ErrorCode::InvalidReplicaAssignment, message);
        let mut replicas: BTreeMap<i32, &[BrokerId]> = BTreeMap::new();
        let mut replication_factor = None;
        for (partition, brokers) in &topic.assignments {
            self.check_replicas(brokers).map_err(|why| invalid(format!("partition {partition}: {why}")))?;
            let expected = *replication_factor.get_or_insert(brokers.len());
            if brokers.len() != expected {
                return Err(invalid(format!(
                    "partition {partition} has {} replica(s), but previous partitions have {expected}",
                    brokers.len()
                )));
            }
            if replicas.insert(*partition, brokers).is_some() {
                return Err(invalid(format!("multiple manual assignments for partition {partition}")));
            }
        }
        if !replicas.keys().copied().eq(0..i32::try_from(replicas.len()).unwrap_or(i32::MAX)) {
            return Err(invalid("partitions should be a consecutive 0-based integer sequence".to_owned()));
        }
        Ok(replicas.into_values().map(<[BrokerId]>::to_vec).collect())
    }

    /// What is wrong with a client's choice of brokers for one partition.
    pub(super) fn check_replicas(&self, brokers: &[BrokerId]) -> Result<(), String> {
        if brokers.is_empty() {
            return Err("the replica list is empty".to_owned());
        }
        if let Some(twice) = duplicates(brokers.iter()).into_iter().min() {
            return Err(format!("broker {twice} occurs more than once"));
        }
        if let Some(unknown) = brokers.iter().find(|&&broker| self.image.broker(broker).is_none()) {
            return Err(format!("broker {unknown} is not registered"));
        }
        if brokers.iter().all(|&broker| self.is_fenced(broker)) {
            return Err("all brokers of the assignment are fenced".to_owned());
        }
        Ok(())
    }

    pub(super) fn is_fenced(&self, broker: BrokerId) -> bool {
        self.image.broker(broker).is_none_or(|registration| registration.fenced)
    }

    fn create_topic(
        &mut self,
        topic: &CreateTopic,
        plan: Plan,
        validate_only: bool,
        random: &mut dyn FnMut() -> u64,
        records: &mut Vec<Record>,
    ) -> TopicResult {
        let mut result = TopicResult {
            name: topic.name.clone(),
            id: TopicId::ZERO,
            error: ErrorCode::None,
            message: None,
            partitions: i32::try_from(plan.replicas.len()).unwrap_or(i32::MAX),
            replication_factor: plan
                .replicas
                .first()
                .map_or(0, |replicas| i16::try_from(replicas.len()).unwrap_or(i16::MAX)),
        };
        if validate_only {
            return result;
        }
        let id = self.new_topic_id(random);
        result.id = id;
        self.append(Record::Topic { name: topic.name.clone(), id }, records);
        // before the partitions, so that a log is opened with its settings
        for (key, value) in plan.configs {
            let resource = ConfigResource::topic(&topic.name);
            self.append(Record::Config { resource, key, value: Some(value) }, records);
        }
        self.append_partitions(PartitionId { topic: id, index: 0 }, plan.replicas, records);
        result
    }

    /// New partitions, the first of them `first`.
    pub(super) fn append_partitions(
        &mut self,
        first: PartitionId,
        replicas: Vec<Vec<BrokerId>>,
        records: &mut Vec<Record>,
    ) {
        for (index, replicas) in (first.index..).zip(replicas) {
            let isr: Vec<BrokerId> =
                replicas.iter().copied().filter(|&broker| !self.is_fenced(broker)).collect();
            let partition = NewPartition {
                partition: PartitionId { index, ..first },
                directories: vec![DirectoryId::UNASSIGNED; replicas.len()],
                leader: isr.first().copied().unwrap_or(BrokerId::NONE),
                leader_epoch: LeaderEpoch(0),
                partition_epoch: PartitionEpoch(0),
                isr,
                replicas,
                ..NewPartition::default()
            };
            self.append(Record::Partition(partition), records);
        }
    }

    /// A random version 4 id that no topic has. Kafka reserves the ids below 100, and avoids those that print with a
    /// leading dash because command lines take them for options; version and variant bits see to the first.
    fn new_topic_id(&self, random: &mut dyn FnMut() -> u64) -> TopicId {
        const VERSION: u128 = 0xf << 76;
        const VARIANT: u128 = 0b11 << 62;
        let bits = u128::from(random()) << 64 | u128::from(random());
        let mut id = bits & !VERSION & !VARIANT | 4 << 76 | 0b10 << 62;
        if TopicId(id).to_string().starts_with('-') {
            id ^= 1 << 127;
        }
        while self.image.topic(TopicId(id)).is_some() {
            id = id.wrapping_add(1);
        }
        TopicId(id)
    }
}

/// What is to be created, all checks passed.
struct Plan {
    configs: BTreeMap<String, String>,
    /// Of each partition, in order; the first is the preferred leader.
    replicas: Vec<Vec<BrokerId>>,
}

/// Kafka's `Topic.validate`: the error, and what is wrong with the name.
pub fn check_name(name: &str) -> Result<(), (ErrorCode, String)> {
    let reason = if name.is_empty() {
        "the empty string is not allowed".to_owned()
    } else if name == "." || name == ".." {
        format!("'{name}' is not allowed")
    } else if name.len() > NAME_BYTES_MAX {
        format!("its length of {} is longer than the max allowed length {NAME_BYTES_MAX}", name.len())
    } else if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
    } else {
        return Ok(());
    };
    Err((ErrorCode::InvalidTopicException, format!("topic name is invalid: {reason}")))
}

pub(super) fn check_value_size(key: &str, value: &str) -> Result<(), Refusal> {
    if value.len() <= CONFIG_VALUE_BYTES_MAX {
        return Ok(());
    }
    let message = format!("the value of {key} exceeds the maximum of {CONFIG_VALUE_BYTES_MAX} bytes");
    Err((ErrorCode::InvalidConfig, message))
}
