//! ListPartitionReassignments 0 (key 46, KIP-455): partitions that are on their way to other brokers.
//!
//! A null list of topics means all. What does not exist, or is not on its way, is left out.

use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::metadata::brokers;
use super::service::{CloseReason, Outcome, Request};
use crate::metadata::{Partition, Topic};
use crate::model::ErrorCode;
use crate::protocol::StrBytes;
use crate::protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use crate::protocol::messages::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, TopicName,
};
use crate::reactor::turn;

/// Each is some 10 ns of work; then the rest of the shard gets a turn.
const PARTITIONS_IN_A_ROW: usize = 10_000;

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<ListPartitionReassignmentsRequest>()?;
    let response = ListPartitionReassignmentsResponse::default().with_error_message(None);
    if !allowed(&context, Operation::Describe, Resource::Cluster) {
        let error = ErrorCode::ClusterAuthorizationFailed;
        return Ok(context.reply(response.with_error_code(error.code()), error));
    }
    let topics = match &request.topics {
        None => broker.every_reassignment().await,
        Some(asked) => {
            let image = broker.shard.image();
            let found = asked.iter().filter_map(|asked| {
                let topic = image.topic_by_name(&asked.name)?;
                under_way(topic, asked.partition_indexes.iter().copied())
            });
            found.collect()
        }
    };
    Ok(context.reply(response.with_topics(topics), ErrorCode::None))
}

impl Broker {
    /// By name. The rest of the shard gets a turn now and then.
    async fn every_reassignment(&self) -> Vec<OngoingTopicReassignment> {
        let mut found = Vec::new();
        let mut from = String::new();
        loop {
            {
                let image = self.shard.image();
                let mut in_a_row = 0;
                let mut last = None;
                for topic in image.topics_from(&from) {
                    found.extend(under_way(topic, 0..topic.partitions.len().try_into().unwrap_or(i32::MAX)));
                    in_a_row += topic.partitions.len();
                    if in_a_row >= PARTITIONS_IN_A_ROW {
                        last = Some(topic.name.as_str());
                        break;
                    }
                }
                let Some(last) = last else { return found };
                // the least name behind the last one
                from = format!("{last}\0");
            }
            turn().await;
        }
    }
}

/// `None`: none of these partitions is on its way.
fn under_way(topic: &Topic, indexes: impl Iterator<Item = i32>) -> Option<OngoingTopicReassignment> {
    let partitions: Vec<_> = indexes
        .filter_map(|index| {
            let partition = topic.partitions.get(usize::try_from(index).ok()?)?;
            is_under_way(partition).then(|| {
                OngoingPartitionReassignment::default()
                    .with_partition_index(index)
                    .with_replicas(brokers(&partition.replicas))
                    .with_adding_replicas(brokers(&partition.adding))
                    .with_removing_replicas(brokers(&partition.removing))
            })
        })
        .collect();
    let name = || TopicName(StrBytes::from_string(topic.name.clone()));
    (!partitions.is_empty())
        .then(|| OngoingTopicReassignment::default().with_name(name()).with_partitions(partitions))
}

fn is_under_way(partition: &Partition) -> bool {
    !partition.adding.is_empty() || !partition.removing.is_empty()
}
