//! CreatePartitions (KIP-195). Kafka: ReplicationControlManager.createPartitions.
//!
//! Each topic succeeds or fails by itself; what its partitions were stays as it is. Left out: the controller mutation
//! quota (KIP-599).

use std::collections::HashSet;

use super::{Controller, Refusal, TopicResult, duplicates};
use crate::metadata::record::Record;
use crate::metadata::{CreatePartitions, Reply, Topic};
use crate::model::{BrokerId, ErrorCode, PartitionId};

/// What is to be created, all checks passed.
struct Plan {
    first: PartitionId,
    /// Of each new partition, in order; the first is the preferred leader.
    replicas: Vec<Vec<BrokerId>>,
}

impl Controller {
    pub(super) fn create_partitions(
        &mut self,
        topics: &[CreatePartitions],
        validate_only: bool,
        random: &mut dyn FnMut() -> u64,
        records: &mut Vec<Record>,
    ) -> Reply {
        let limit = self.settings.changes_per_request_max;
        let added = topics
            .iter()
            .filter_map(|topic| increase(self.image.topic_by_name(&topic.topic)?, topic.count).ok());
        if added.fold(0, usize::saturating_add) > limit {
            let message =
                format!("excessively large number of partitions per request, at most {limit} are allowed");
            let refuse = |topic: &CreatePartitions| {
                TopicResult::refused(&topic.topic, (ErrorCode::PolicyViolation, message.clone()))
            };
            return Reply::Topics(topics.iter().map(refuse).collect());
        }
        let twice = duplicates(topics.iter().map(|topic| topic.topic.as_str()));
        let mut results = Vec::with_capacity(topics.len());
        for topic in topics {
            results.push(match self.plan_partitions(topic, &twice, random) {
                Err(refusal) => TopicResult::refused(&topic.topic, refusal),
                Ok(plan) => {
                    let id = plan.first.topic;
                    if !validate_only {
                        self.append_partitions(plan.first, plan.replicas, records);
                    }
                    let known = self.image.topic(id).expect("the plan found it");
                    TopicResult { partitions: topic.count, ..TopicResult::done(known) }
                }
            });
        }
        Reply::Topics(results)
    }

    fn plan_partitions(
        &self,
        asked: &CreatePartitions,
        twice: &HashSet<&str>,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Plan, Refusal> {
        if twice.contains(asked.topic.as_str()) {
            return Err((ErrorCode::InvalidRequest, "duplicate topic name".to_owned()));
        }
        let topic = self.image.topic_by_name(&asked.topic).ok_or_else(|| {
            (ErrorCode::UnknownTopicOrPartition, "this server does not host this topic".to_owned())
        })?;
        let added = increase(topic, asked.count).map_err(|why| (ErrorCode::InvalidPartitions, why))?;
        let index = i32::try_from(topic.partitions.len()).expect("a partition index");
        let first = PartitionId { topic: topic.id, index };
        // a topic is created with at least one partition
        let wanted = topic.partitions[0].replicas.len();
        let replicas = match &asked.assignments {
            Some(assignments) => {
                self.check_added(first, added, wanted, assignments)
                    .map_err(|why| (ErrorCode::InvalidReplicaAssignment, why))?;
                assignments.clone()
            }
            None => self.place(added, wanted, random)?,
        };
        Ok(Plan { first, replicas })
    }

    /// What is wrong with the client's choice of brokers for `added` partitions of `wanted` replicas each.
    fn check_added(
        &self,
        first: PartitionId,
        added: usize,
        wanted: usize,
        assignments: &[Vec<BrokerId>],
    ) -> Result<(), String> {
        if assignments.len() != added {
            return Err(format!(
                "attempted to add {added} partition(s), but {} assignment(s) were specified",
                assignments.len()
            ));
        }
        for (index, brokers) in (first.index..).zip(assignments) {
            self.check_replicas(brokers).map_err(|why| format!("partition {index}: {why}"))?;
            if brokers.len() != wanted {
                return Err(format!(
                    "partition {index} has {} replica(s), but previous partitions have {wanted}",
                    brokers.len()
                ));
            }
        }
        Ok(())
    }
}

/// How many partitions are missing to `count`; the error says why that is no increase.
fn increase(topic: &Topic, count: i32) -> Result<usize, String> {
    let current = topic.partitions.len();
    match usize::try_from(count).ok().and_then(|count| count.checked_sub(current)) {
        Some(0) => Err(format!("topic already has {current} partition(s)")),
        Some(added) => Ok(added),
        None => {
            Err(format!("the topic currently has {current} partition(s); {count} would not be an increase"))
        }
    }
}
