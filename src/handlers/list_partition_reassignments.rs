//! ListPartitionReassignments 0 (key 46, KIP-455): partitions that are on their way to other brokers.
//!
//! A null list of topics means all. What does not exist, or is not on its way, is left out.

use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::endpoint::replica_ids;
use super::service::{CloseReason, Outcome, Request};
use crate::metadata::{Image, Partition, Topic};
use crate::model::{BrokerId, ErrorCode};
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
    let listener = &*context.connection.listener;
    let topics = match &request.topics {
        None => broker.every_reassignment(listener).await,
        Some(asked) => {
            let image = broker.shard.image();
            let found = asked.iter().filter_map(|asked| {
                let topic = image.topic_by_name(&asked.name)?;
                under_way(&image, topic, asked.partition_indexes.iter().copied(), listener)
            });
            found.collect()
        }
    };
    Ok(context.reply(response.with_topics(topics), ErrorCode::None))
}

impl Broker {
    /// By name. The rest of the shard gets a turn now and then.
    async fn every_reassignment(&self, listener: &str) -> Vec<OngoingTopicReassignment> {
        let mut found = Vec::new();
        let mut from = String::new();
        loop {
            {
                let image = self.shard.image();
                let mut in_a_row = 0;
                let mut last = None;
                for topic in image.topics_from(&from) {
                    let indexes = 0..topic.partitions.len().try_into().unwrap_or(i32::MAX);
                    found.extend(under_way(&image, topic, indexes, listener));
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
fn under_way(
    image: &Image,
    topic: &Topic,
    indexes: impl Iterator<Item = i32>,
    listener: &str,
) -> Option<OngoingTopicReassignment> {
    let partitions: Vec<_> = indexes
        .filter_map(|index| {
            let partition = topic.partitions.get(usize::try_from(index).ok()?)?;
            let ids = |brokers: &[BrokerId]| replica_ids(image, partition, brokers, listener);
            is_under_way(partition).then(|| {
                OngoingPartitionReassignment::default()
                    .with_partition_index(index)
                    .with_replicas(ids(&partition.replicas))
                    .with_adding_replicas(ids(&partition.adding))
                    .with_removing_replicas(ids(&partition.removing))
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
